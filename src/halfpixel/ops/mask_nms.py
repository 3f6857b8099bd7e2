"""Non-maximum suppression by the overlap of masks."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfpixel.ops.box_grid import BoxGrid
from halfpixel.ops.mask_overlap import Indices, PlacedCrops, Window, pixels_in_both, windows_of

AT_ONCE = 256
"""Masks whose crops are compared at once with those of the better ones near them."""


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
    placed = PlacedCrops.of(
        (crops[k], offset) for k, offset in zip(order.tolist(), offsets_xy[order].tolist(), strict=True)
    )
    areas = placed.areas_px
    same = groups[order].numpy(), np.arange(len(placed)) if sources is None else sources[order].numpy()

    def too_much(shared: Any, first: Any, second: Any) -> Any:  # of one pair or of many
        smaller, both = np.minimum(areas[first], areas[second]), areas[first] + areas[second]
        return (shared > iou_threshold * (both - shared)) | (shared > share_threshold * smaller)

    kept = areas > 0
    for better, worse, *windows in _rivals(placed, *same, too_much):
        if kept[worse] and kept[better]:
            shared = pixels_in_both(placed.crops[better], placed.crops[worse], *windows)
            kept[worse] = not too_much(shared, better, worse)
    return order[torch.from_numpy(kept)]


def _rivals(
    placed: PlacedCrops,
    groups: Indices,
    sources: Indices,
    too_much: Callable[[Any, Any, Any], Any],
) -> Iterator[tuple[int, int, Window, Window]]:
    """Pairs of one group, a better mask and a worse one, that may overlap by too much, and where their crops overlap.

    By the worse one's place.
    """
    if not len(placed):
        return
    boxes, areas = placed.boxes_xyxy, placed.areas_px
    grid = BoxGrid(torch.from_numpy(boxes).double(), torch.from_numpy(groups))
    for rows in torch.arange(len(boxes)).split(AT_ONCE):
        worse, better = torch.stack(grid.near(rows)).numpy()
        sides = np.minimum(boxes[worse, 2:], boxes[better, 2:]) - np.maximum(boxes[worse, :2], boxes[better, :2])
        # no more pixels than these can be in both
        most = np.minimum(np.maximum(sides, 0).prod(1), np.minimum(areas[worse], areas[better]))
        chosen = (better < worse) & (most > 0) & (sources[better] != sources[worse]) & too_much(most, better, worse)
        worse, better = worse[chosen], better[chosen]
        order = np.lexsort((better, worse))
        better, worse = better[order], worse[order]
        yield from zip(better.tolist(), worse.tolist(), *windows_of(placed, placed, better, worse), strict=True)
