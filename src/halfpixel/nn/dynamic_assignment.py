"""Which points of a pyramid answer for which object, decided anew in each step by what the network says of them."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfpixel.nn.losses import quality_focal_losses
from halfpixel.ops import boxes

IOU_WEIGHT = 3.0
CENTRE_RADIUS = 3.0
"""Strides from an object's centre at which distance begins to cost."""
MOST_POINTS = 13
"""Of each object, at most."""
TINY = 1e-7
PAIRS_AT_ONCE = 1 << 18
"""So many pairs of point and object are looked at together: memory does not grow with the objects' number."""


class Assignment(NamedTuple):
    """Points that answer for an object, in their order."""

    points: Int[Tensor, "k"]
    objects: Int[Tensor, "k"]
    overlaps: Float[Tensor, "k"]
    """IoU of the point's box and the object's: how sure of its class the point should be."""


def assign(
    logits: Float[Tensor, "p classes"],
    boxes_xyxy: Float[Tensor, "p 4"],
    points_xy: Float[Tensor, "p 2"],
    strides: Float[Tensor, "p"],
    objects_xyxy: Float[Tensor, "n 4"],
    centres_xy: Float[Tensor, "n 2"],
    labels: Int[Tensor, "n"],
) -> Assignment:
    """Dynamic soft label assignment (Lyu et al. 2022, arXiv:2212.07784, section 3.3), after Ge et al. 2021.

    Each object takes the points that cost least: a quality focal loss of the class, whose label is the IoU, minus three
    logarithms of the IoU, plus 10 to the power of the distance from the object's centre in strides, minus three. It
    takes as many as its 13 best IoUs sum up to, one at least. A point that several take goes to the object for which it
    costs least. Points inside of any object's box take part; of an object without one, the nearest that are finest.

    Args:
        logits: of each point's classes.
        boxes_xyxy: what each point says, in pixels of the input.
        points_xy: where they are.
        strides: of their levels.
        objects_xyxy: annotated boxes.
        centres_xy: of the objects, such as their masks' centres of mass.
        labels: of the objects.
    """
    if len(objects_xyxy) == 0:
        none = torch.zeros(0, dtype=torch.int64, device=logits.device)
        return Assignment(none, none, logits.new_zeros(0))
    taking_part = torch.nonzero(_near(points_xy, strides, objects_xyxy, centres_xy)).ravel()
    logits, boxes_xyxy = logits[taking_part], boxes_xyxy[taking_part]
    points_xy, strides = points_xy[taking_part], strides[taking_part, None]
    least = logits.new_full((len(taking_part),), torch.inf)  # the cost for the object that a point costs least
    cheapest, overlap = torch.zeros_like(taking_part), torch.zeros_like(least)
    taken = []
    step = max(PAIRS_AT_ONCE // len(taking_part), 1)
    for first in range(0, len(objects_xyxy), step):
        some = slice(first, first + step)
        overlaps = boxes.iou(boxes_xyxy, objects_xyxy[some])
        cost = _class_cost(logits, labels[some], overlaps) - IOU_WEIGHT * torch.log(overlaps + TINY)
        cost = cost + 10 ** (_distances(points_xy, centres_xy[some]) / strides - CENTRE_RADIUS)
        most = min(MOST_POINTS, len(cost))
        wanted = overlaps.topk(most, dim=0).values.sum(0).int().clamp(min=1)
        best = cost.topk(most, dim=0, largest=False).indices
        rank, column = torch.nonzero(torch.arange(most, device=cost.device)[:, None] < wanted, as_tuple=True)
        taken.append((best[rank, column], column + first, overlaps[best[rank, column], column]))
        lowest, which = cost.min(1)
        better = (lowest < least) | (first == 0)
        cheapest = torch.where(better, which + first, cheapest)
        overlap = torch.where(better, overlaps.gather(1, which[:, None])[:, 0], overlap)
        least = least.minimum(lowest)

    points, takers, overlaps = (torch.cat(part) for part in zip(*taken, strict=True))
    times = torch.bincount(points, minlength=len(taking_part))
    alone = times[points] == 1
    cheapest[points[alone]], overlap[points[alone]] = takers[alone], overlaps[alone]
    rows = torch.nonzero(times).ravel()
    return Assignment(taking_part[rows], cheapest[rows], overlap[rows])


def _near(points_xy: Tensor, strides: Tensor, objects_xyxy: Tensor, centres_xy: Tensor) -> Bool[Tensor, "p"]:
    """Points in any box, and for boxes without a point the nearest of the finest level."""
    (x, y), (left, top, right, bottom) = points_xy[:, :, None].unbind(1), objects_xyxy.unbind(1)
    inside = (x > left) & (x < right) & (y > top) & (y < bottom)
    near = inside.any(1)
    alone = torch.nonzero(~inside.any(0)).ravel()
    if len(alone):
        finest = torch.nonzero(strides == strides.min()).ravel()
        near[finest[_distances(points_xy[finest], centres_xy[alone]).argmin(0)]] = True
    return near


def _distances(a_xy: Tensor, b_xy: Tensor) -> Float[Tensor, "a b"]:
    return torch.cdist(a_xy, b_xy, compute_mode="donot_use_mm_for_euclid_dist")  # the other way loses tenths of pixels


def _class_cost(logits: Tensor, labels: Tensor, overlaps: Tensor) -> Float[Tensor, "p n"]:
    """The quality focal loss, summed over the classes, if a point were an object's, whose own class has the IoU."""
    absent = quality_focal_losses(logits, torch.zeros_like(logits))
    return absent.sum(1, keepdim=True) - absent[:, labels] + quality_focal_losses(logits[:, labels], overlaps)
