"""Non-maximum suppression by the overlap of masks."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

AT_ONCE = 64
"""Masks whose crops are compared with those of all better ones at once."""

Numbers = npt.NDArray[np.int64]


def suppress_masks(
    crops: Sequence[Bool[Tensor, "_ _"]],
    offsets_xy: Int[Tensor, "n 2"],
    scores: Float[Tensor, "n"],
    groups: Int[Tensor, "n"],
    iou_threshold: float,
) -> Int[Tensor, "k"]:
    """Keep the best masks whose IoU with every better kept one of their group is at most `iou_threshold`.

    Only pairs whose crops overlap by enough are compared, and only where they do.

    Returns:
        Indices of the kept masks, by descending score. Masks without pixels are dropped.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    pixels = [crops[k].numpy() for k in order.tolist()]
    low = offsets_xy[order].numpy()
    sides = np.array([one.shape[::-1] for one in pixels], dtype=np.int64).reshape(-1, 2)
    boxes = np.concatenate([low, low + sides], axis=1)
    areas = np.array([np.count_nonzero(one) for one in pixels], dtype=np.int64)
    kept = areas > 0
    for better, worse in _rivals(boxes, areas, groups[order].numpy(), iou_threshold):
        if kept[worse] and kept[better]:
            overlap = _overlap(pixels, boxes, better, worse)
            kept[worse] = overlap <= iou_threshold * (areas[better] + areas[worse] - overlap)
    return order[torch.from_numpy(kept)]


def _rivals(boxes: Numbers, areas: Numbers, groups: Numbers, iou_threshold: float) -> Iterator[tuple[int, int]]:
    """Pairs of one group, a better mask and a worse one, that may overlap by too much; by the worse one's place."""
    for start in range(0, len(boxes), AT_ONCE):
        worse = np.arange(start, min(start + AT_ONCE, len(boxes)))[:, None]
        better = np.arange(worse[-1, 0])
        sides = [
            np.minimum(boxes[worse, axis + 2], boxes[better, axis + 2])
            - np.maximum(boxes[worse, axis], boxes[better, axis])
            for axis in (0, 1)
        ]
        # no more pixels than these can be in both
        most = np.minimum(np.maximum(sides[0], 0) * np.maximum(sides[1], 0), np.minimum(areas[worse], areas[better]))
        too_much = (most > 0) & (most > iou_threshold * (areas[worse] + areas[better] - most))
        too_much &= (groups[worse] == groups[better]) & (better < worse)
        for row, column in zip(*np.nonzero(too_much), strict=True):
            yield int(column), start + int(row)


def _overlap(pixels: Sequence[npt.NDArray[np.bool_]], boxes: Numbers, a: int, b: int) -> int:
    left, top = np.maximum(boxes[a, :2], boxes[b, :2]).tolist()
    right, bottom = np.minimum(boxes[a, 2:], boxes[b, 2:]).tolist()
    windows = []
    for k in (a, b):
        x, y = boxes[k, :2].tolist()
        windows.append(pixels[k][top - y : bottom - y, left - x : right - x])
    return int(np.count_nonzero(windows[0] & windows[1]))
