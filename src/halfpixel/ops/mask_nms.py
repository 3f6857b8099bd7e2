"""Non-maximum suppression by the overlap of masks."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfpixel.ops.box_grid import BoxGrid

AT_ONCE = 256
"""Masks whose crops are compared at once with those of the better ones near them."""

Numbers = npt.NDArray[np.int64]


def suppress_masks(
    crops: Sequence[Bool[Tensor, "_ _"]],
    offsets_xy: Int[Tensor, "n 2"],
    scores: Float[Tensor, "n"],
    groups: Int[Tensor, "n"],
    iou_threshold: float,
    share_threshold: float = 1.0,
    sources: Int[Tensor, "n"] | None = None,
) -> Int[Tensor, "k"]:
    """Keep the best masks whose IoU with every better kept one of their group is at most `iou_threshold`.

    Only pairs whose crops overlap by enough are compared, and only where they do.

    Args:
        crops: each mask inside of a box.
        offsets_xy: where the boxes begin, in whole pixels.
        scores: of each mask; only their order counts.
        groups: masks of other groups suppress nothing; from 0.
        iou_threshold: see above.
        share_threshold: nor do two that are kept share more than this part of the smaller one; 1 allows all.
        sources: where masks come from; those of one source do not suppress each other. Default: all from another.

    Returns:
        Indices of the kept masks, by descending score. Masks without pixels are dropped.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    pixels = [crops[k].numpy() for k in order.tolist()]
    low = offsets_xy[order].numpy()
    sides = np.array([one.shape[::-1] for one in pixels], dtype=np.int64).reshape(-1, 2)
    boxes = np.concatenate([low, low + sides], axis=1)
    areas = np.array([np.count_nonzero(one) for one in pixels], dtype=np.int64)
    same = groups[order].numpy(), np.arange(len(boxes)) if sources is None else sources[order].numpy()

    def too_much(shared: Any, first: Any, second: Any) -> Any:  # of one pair or of many
        smaller, both = np.minimum(areas[first], areas[second]), areas[first] + areas[second]
        return (shared > iou_threshold * (both - shared)) | (shared > share_threshold * smaller)

    kept = areas > 0
    for better, worse in _rivals(boxes, areas, *same, too_much):
        if kept[worse] and kept[better]:
            kept[worse] = not too_much(_overlap(pixels, boxes, better, worse), better, worse)
    return order[torch.from_numpy(kept)]


def _rivals(
    boxes: Numbers,
    areas: Numbers,
    groups: Numbers,
    sources: Numbers,
    too_much: Callable[[Any, Any, Any], Any],
) -> Iterator[tuple[int, int]]:
    """Pairs of one group, a better mask and a worse one, that may overlap by too much; by the worse one's place."""
    if not len(boxes):
        return
    grid = BoxGrid(torch.from_numpy(boxes).double(), torch.from_numpy(groups))
    for rows in torch.arange(len(boxes)).split(AT_ONCE):
        worse, better = torch.stack(grid.near(rows)).numpy()
        sides = np.minimum(boxes[worse, 2:], boxes[better, 2:]) - np.maximum(boxes[worse, :2], boxes[better, :2])
        # no more pixels than these can be in both
        most = np.minimum(np.maximum(sides, 0).prod(1), np.minimum(areas[worse], areas[better]))
        chosen = (better < worse) & (most > 0) & (sources[better] != sources[worse]) & too_much(most, better, worse)
        worse, better = worse[chosen], better[chosen]
        for k in np.lexsort((better, worse)):
            yield int(better[k]), int(worse[k])


def _overlap(pixels: Sequence[npt.NDArray[np.bool_]], boxes: Numbers, a: int, b: int) -> int:
    left, top = np.maximum(boxes[a, :2], boxes[b, :2]).tolist()
    right, bottom = np.minimum(boxes[a, 2:], boxes[b, 2:]).tolist()
    windows = []
    for k in (a, b):
        x, y = boxes[k, :2].tolist()
        windows.append(pixels[k][top - y : bottom - y, left - x : right - x])
    return int(np.count_nonzero(windows[0] & windows[1]))
