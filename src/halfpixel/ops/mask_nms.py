"""Non-maximum suppression by the overlap of masks."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def suppress_masks(
    crops: Sequence[Bool[Tensor, "_ _"]],
    offsets_xy: Int[Tensor, "n 2"],
    scores: Float[Tensor, "n"],
    groups: Int[Tensor, "n"],
    iou_threshold: float,
) -> Int[Tensor, "k"]:
    """Keep the best masks whose IoU with every better kept one of their group is at most `iou_threshold`.

    Only pairs whose crops overlap are compared, and only where they do.

    Returns:
        Indices of the kept masks, by descending score. Masks without pixels are dropped.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    sides = torch.tensor([crop.shape for crop in crops], dtype=torch.int64).reshape(-1, 2).flip(1)
    boxes = torch.cat([offsets_xy, offsets_xy + sides], dim=1)[order]
    areas = torch.tensor([int(crop.sum()) for crop in crops], dtype=torch.int64)[order]
    groups = groups[order]
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    touching = ((high > low).all(dim=2) & (groups[:, None] == groups[None, :])).triu(1)
    rivals: dict[int, list[int]] = {}
    for better, worse in torch.nonzero(touching).tolist():
        rivals.setdefault(worse, []).append(better)
    kept = areas > 0
    for worse, betters in sorted(rivals.items()):
        for better in betters:
            if not (kept[worse] and kept[better]):
                continue
            overlap = _overlap(crops, order, boxes, better, worse)
            union = int(areas[better]) + int(areas[worse]) - overlap
            if overlap > iou_threshold * union:
                kept[worse] = False
    return order[kept]


def _overlap(crops: Sequence[Tensor], order: Tensor, boxes: Tensor, a: int, b: int) -> int:
    left, top = torch.maximum(boxes[a, :2], boxes[b, :2]).tolist()
    right, bottom = torch.minimum(boxes[a, 2:], boxes[b, 2:]).tolist()
    windows = []
    for k in (a, b):
        x, y = boxes[k, :2].tolist()
        windows.append(crops[int(order[k])][top - y : bottom - y, left - x : right - x])
    return int((windows[0] & windows[1]).sum())
