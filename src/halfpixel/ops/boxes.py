"""Box arithmetic. Boxes are float pixels (left, top, right, bottom)."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfpixel.ops.box_grid import BoxGrid
from halfpixel.ops.nms import nms

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""Refinements that enlarge a box by more than this are cut, so that exp() cannot overflow."""

FEW = 1000
"""So many boxes are suppressed at once on a processor, where each is compared with every one that stays."""


def area(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Width times height, in square pixels."""
    return (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1])


def iou(a_xyxy: Float[Tensor, "n 4"], b_xyxy: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of all pairs, in 0..1 (0 where both boxes are empty)."""
    width, height = (
        (torch.minimum(a_xyxy[:, None, k + 2], b_xyxy[:, k + 2]) - torch.maximum(a_xyxy[:, None, k], b_xyxy[:, k]))
        for k in (0, 1)
    )
    overlap = width.clamp(min=0) * height.clamp(min=0)
    union = area(a_xyxy)[:, None] + area(b_xyxy)[None, :] - overlap
    return torch.where(union > 0, overlap / union, torch.zeros_like(overlap))


def generalised_iou(a: Float[Tensor, "n 4"], b: Float[Tensor, "n 4"]) -> Float[Tensor, "n"]:
    """IoU of each pair minus the share of the box around both that neither covers, in -1..1.

    Rezatofighi et al. 2019 (arXiv:1902.09630). It has a gradient where boxes do not meet; empty pairs have 0.
    """
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=1)
    union = area(a) + area(b) - overlap
    low, high = torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])
    around = (high - low).prod(dim=1)
    smallest = torch.finfo(union.dtype).tiny
    return overlap / union.clamp(min=smallest) - (around - union) / around.clamp(min=smallest)


def to_centres(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """The same boxes as (centre x, centre y, width, height)."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def to_corners(boxes_cxcywh: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 4"]:
    """From (centre x, centre y, width, height) to (left, top, right, bottom)."""
    centres, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def within_any(points_xy: Float[Tensor, "n 2"], boxes_xyxy: Float[Tensor, "m 4"]) -> Bool[Tensor, "n"]:
    """Which points lie in any of some boxes; a box has its left and top edges, not the others."""
    inside = (points_xy[:, None] >= boxes_xyxy[:, :2]) & (points_xy[:, None] < boxes_xyxy[:, 2:])
    return inside.all(2).any(1)


def clip(boxes_xyxy: Float[Tensor, "*n 4"], size_hw: Int[Tensor, "*n_or_one 2"]) -> Float[Tensor, "*n 4"]:
    """Cut boxes to images of `size_hw` (one size for all boxes, or one each)."""
    limit = size_hw.flip(-1).to(boxes_xyxy.dtype).repeat_interleave(2, dim=-1)
    limit = limit[..., [0, 2, 1, 3]]
    return torch.minimum(boxes_xyxy.clamp(min=0), limit)


def expand(boxes_xyxy: Float[Tensor, "*n 4"], margin: float) -> Float[Tensor, "*n 4"]:
    """Move every side outwards by `margin` times the box's width or height; 0 changes nothing."""
    sides = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]) * margin
    return torch.cat([boxes_xyxy[..., :2] - sides, boxes_xyxy[..., 2:] + sides], dim=-1)


def large_enough(boxes_xyxy: Float[Tensor, "n 4"], side: float) -> Bool[Tensor, "n"]:
    """Boxes whose both sides measure at least `side` pixels."""
    return (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] >= side).all(dim=1)


def encode(
    targets_xyxy: Float[Tensor, "n 4"], references_xyxy: Float[Tensor, "n 4"], weights: tuple[float, float]
) -> Float[Tensor, "n 4"]:
    """Refinements that turn reference boxes into targets.

    Shifts of the centre in units of the reference's sides and logarithms of the scale (Girshick et al. 2014,
    arXiv:1311.2524, appendix C), the shifts multiplied by `weights[0]`, the logarithms by `weights[1]`.
    """
    sides = references_xyxy[:, 2:] - references_xyxy[:, :2]
    centres = references_xyxy[:, :2] + 0.5 * sides
    target_sides = targets_xyxy[:, 2:] - targets_xyxy[:, :2]
    target_centres = targets_xyxy[:, :2] + 0.5 * target_sides
    shifts = weights[0] * (target_centres - centres) / sides
    return torch.cat([shifts, weights[1] * torch.log(target_sides / sides)], dim=1)


def decode(
    deltas: Float[Tensor, "n *k 4"], references_xyxy: Float[Tensor, "n *one 4"], weights: tuple[float, float]
) -> Float[Tensor, "n *k 4"]:
    """Boxes from box regression deltas: the inverse of `encode`, always in float32 or wider.

    Half precision would turn x = 1187.3 into 1184.
    """
    deltas, references_xyxy = deltas.to(references_xyxy.dtype), references_xyxy
    sides = references_xyxy[..., 2:] - references_xyxy[..., :2]
    centres = references_xyxy[..., :2] + 0.5 * sides
    new_centres = deltas[..., :2] / weights[0] * sides + centres
    half = 0.5 * (torch.exp((deltas[..., 2:] / weights[1]).clamp(max=LARGEST_LOG_SCALE)) * sides)
    return torch.cat([new_centres - half, new_centres + half], dim=-1)


def suppress(
    boxes_xyxy: Float[Tensor, "n 4"], scores: Float[Tensor, "n"], groups: Int[Tensor, "n"], iou_threshold: float
) -> Int[Tensor, "k"]:
    """Non-maximum suppression inside each group: indices that stay, by descending score."""
    if torch.compiler.is_exporting():
        return _suppress_on_a_grid(boxes_xyxy, scores, groups, iou_threshold)
    scores = scores.to(boxes_xyxy.dtype)
    if boxes_xyxy.is_cuda:
        return _suppress_at_once(boxes_xyxy, scores, groups, iou_threshold)
    how = _suppress_at_once if boxes_xyxy.shape[0] <= FEW else _suppress_in_blocks
    return how(boxes_xyxy.cpu(), scores.cpu(), groups.cpu(), iou_threshold).to(boxes_xyxy.device)


def _suppress_in_blocks(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`suppress` block by block, best first: what stays of a block suppresses what lies near it on a grid.

    Each box is so compared with its block and its neighbours alone.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes_xyxy, scores, groups = boxes_xyxy[order], scores[order], groups[order]
    grid, areas = BoxGrid(boxes_xyxy, groups, iou_threshold), area(boxes_xyxy)
    left, kept = torch.ones_like(groups, dtype=torch.bool), []
    for start in range(0, boxes_xyxy.shape[0], FEW):
        rows = start + torch.nonzero(left[start : start + FEW])[:, 0]
        best = rows[_suppress_at_once(boxes_xyxy[rows], scores[rows], groups[rows], iou_threshold)]
        kept.append(best)
        better, worse = grid.near(best)
        better, worse = (one[worse >= start + FEW] for one in (better, worse))
        low = torch.maximum(boxes_xyxy[better, :2], boxes_xyxy[worse, :2])
        high = torch.minimum(boxes_xyxy[better, 2:], boxes_xyxy[worse, 2:])
        overlap = (high - low).clamp(min=0).prod(1)
        over = overlap / (areas[better] + areas[worse] - overlap)
        left[worse[over.double() > iou_threshold]] = False
    return order[torch.cat(kept)]


def _suppress_at_once(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`suppress` in one call, which costs something itself and, on a GPU, waits: the groups move apart.

    In float64, as float32 would round the coordinates of later groups.
    """
    distance = torch.nn.functional.pad(boxes_xyxy, (0, 0, 0, 1)).max().double() + 1  # there may be no box
    apart = boxes_xyxy.double() + (groups * distance)[:, None]
    return nms(apart, scores.double(), iou_threshold)


def _suppress_on_a_grid(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`suppress` for a graph, which has no suppression by group: the groups move apart, to the cells of a grid.

    Graphs suppress in float32. In a row of 80 groups the last would be so far away that a coordinate loses 7 bits; on
    a grid around the origin it loses 3.
    """
    import torchvision  # tells the exporter of its operators

    # Two empty boxes come last and always stay: torchvision promises the exporter that at least two do.
    padded, groups = torch.nn.functional.pad(boxes_xyxy, (0, 0, 0, 2)), torch.nn.functional.pad(groups, (0, 2))
    columns = (groups.max() + 1).float().sqrt().ceil().long()
    cells_xy = torch.stack([groups % columns, groups // columns], dim=1) - columns // 2
    shifts = cells_xy * (padded.max() + 1)
    kept: Tensor = torchvision.ops.nms(
        padded + shifts.repeat(1, 2), torch.nn.functional.pad(scores, (0, 2), value=-1.0), iou_threshold
    )
    return kept[:-2]
