"""Box arithmetic. Boxes are float pixels (left, top, right, bottom)."""

import math

import torch
import torchvision
from jaxtyping import Bool, Float, Int
from torch import Tensor

LARGEST_LOG_SCALE = math.log(1000 / 16)
"""Refinements that enlarge a box by more than this are cut, so that exp() cannot overflow."""


def area(boxes_xyxy: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Width times height, in square pixels."""
    return (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1])


def iou(a_xyxy: Float[Tensor, "n 4"], b_xyxy: Float[Tensor, "m 4"]) -> Float[Tensor, "n m"]:
    """Intersection over union of all pairs, in 0..1 (0 where both boxes are empty)."""
    low = torch.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    high = torch.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=2)
    union = area(a_xyxy)[:, None] + area(b_xyxy)[None, :] - overlap
    return torch.where(union > 0, overlap / union, torch.zeros_like(overlap))


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
    """Boxes from refinements: the inverse of `encode`, always in float32 or wider.

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
        # the grouped operator does not export: shift the groups apart instead, in float64 so that no IoU changes.
        # Two empty boxes come last and always stay: torchvision promises the exporter that at least two do.
        padded = torch.nn.functional.pad(boxes_xyxy.double(), (0, 0, 0, 2))
        shifts = torch.nn.functional.pad(groups, (0, 2)).double() * (padded.max() + 1)
        padded_scores = torch.nn.functional.pad(scores.double(), (0, 2), value=-torch.inf)
        kept: Tensor = torchvision.ops.nms(padded + shifts[:, None], padded_scores, iou_threshold)[:-2]
    else:
        kept = torchvision.ops.batched_nms(boxes_xyxy, scores, groups, iou_threshold)
    return kept
