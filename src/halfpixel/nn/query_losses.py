"""What queries are matched by and trained on: classes that know how good a box is, and boxes.

Zhao et al. 2023 (arXiv:2304.08069, section 4.3) after DETR (Carion et al. 2020, arXiv:2005.12872).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from halfpixel.ops import boxes

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
"""Of the class cost (Lin et al. 2017, arXiv:1708.02002)."""

VARIFOCAL_ALPHA, VARIFOCAL_GAMMA = 0.75, 2.0
"""Of what is no object (Zhang et al. 2020, arXiv:2008.13367)."""

CLASS_COST, BOX_COST, IOU_COST = 2.0, 5.0, 2.0


def matching_cost(
    logits: Float[Tensor, "q classes"],
    predicted: Float[Tensor, "q 4"],
    labels: Int[Tensor, "n"],
    truth: Float[Tensor, "n 4"],
) -> Float[Tensor, "q n"]:
    """What it costs to let a query answer for an object: its class, the difference of their boxes, their overlap.

    Args:
        logits: of each query.
        predicted: (centre x, centre y, width, height) in shares of the image.
        labels: of each object.
        truth: their boxes, likewise.
    """
    scores, (queries, objects) = logits.sigmoid()[:, labels], (len(logits), len(labels))
    positive = -FOCAL_ALPHA * (1 - scores) ** FOCAL_GAMMA * (scores + 1e-8).log()
    negative = -(1 - FOCAL_ALPHA) * scores**FOCAL_GAMMA * (1 - scores + 1e-8).log()
    pairs = boxes.generalised_iou(
        boxes.to_corners(predicted).repeat_interleave(objects, 0), boxes.to_corners(truth).repeat(queries, 1)
    ).reshape(queries, objects)
    distance = torch.cdist(predicted, truth, p=1)
    return CLASS_COST * (positive - negative) + BOX_COST * distance - IOU_COST * pairs


class QueryTerms(NamedTuple):
    """Sums over the objects of an image."""

    classes: Float[Tensor, ""]
    boxes: Float[Tensor, ""]
    overlaps: Float[Tensor, ""]


def query_terms(
    logits: Float[Tensor, "q classes"],
    predicted: Float[Tensor, "q 4"],
    labels: Int[Tensor, "k"],
    truth: Float[Tensor, "k 4"],
    queries: Int[Tensor, "k"],
    ignored: Bool[Tensor, "q"],
) -> QueryTerms:
    """The losses of an image's queries.

    Scores are to be the IoU of the box that a query gives its object, and 0 of all else.

    Args:
        logits: of each query.
        predicted: (centre x, centre y, width, height) in shares of the image.
        labels: of each object.
        truth: their boxes, likewise.
        queries: which query answers for each object.
        ignored: queries that are nobody's fault where they answer for no object.
    """
    found, wanted = boxes.to_corners(predicted[queries]), boxes.to_corners(truth)
    overlap = boxes.iou(found.detach(), wanted).diagonal()
    goal = torch.zeros_like(logits)
    goal[queries, labels] = overlap.to(goal.dtype)
    scores, is_object = logits.detach().sigmoid(), torch.zeros_like(logits, dtype=torch.bool)
    is_object[queries, labels] = True
    weight = torch.where(is_object, goal, VARIFOCAL_ALPHA * scores**VARIFOCAL_GAMMA)
    weight = weight.masked_fill(ignored[:, None] & ~is_object.any(1, keepdim=True), 0.0)
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, goal, weight, reduction="sum")
    distance = (predicted[queries] - truth).abs().sum()
    return QueryTerms(entropy, distance, (1 - boxes.generalised_iou(found, wanted)).sum())
