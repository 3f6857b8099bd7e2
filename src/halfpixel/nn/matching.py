"""Which object each reference box answers for, and which boxes are trained on."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfpixel.ops import boxes

BACKGROUND = -1
IGNORED = -2

PAIRS_AT_ONCE = 1 << 20
"""So many overlaps are looked at together: of a crowded image they would fill the memory, and each pass the cache."""


def match(
    references_xyxy: Float[Tensor, "n 4"],
    objects_xyxy: Float[Tensor, "m 4"],
    ignored_xyxy: Float[Tensor, "k 4"],
    foreground_iou: float,
    background_iou: float,
    low_quality: bool = False,
) -> Int[Tensor, "n"]:
    """Give every reference box the object it overlaps most.

    Args:
        references_xyxy: anchors or proposals.
        objects_xyxy: annotated boxes.
        ignored_xyxy: crowd regions; a background box with more than half of itself in one is ignored.
        foreground_iou: at least this much overlap makes a match.
        background_iou: less than this makes background; in between a box is ignored.
        low_quality: boxes that are an object's best match however little they overlap (ties included): the object
            that they overlap most, which is another one where two objects share their best box.

    Returns:
        The object's index, or BACKGROUND or IGNORED.
    """
    count = len(references_xyxy)
    best, nearest = references_xyxy.new_zeros(count), references_xyxy.new_zeros(count, dtype=torch.int64)
    lifted = torch.zeros_like(nearest, dtype=torch.bool)
    step = max(PAIRS_AT_ONCE // max(count, 1), 1)
    for first in range(0, len(objects_xyxy), step):
        overlaps = boxes.iou(objects_xyxy[first : first + step], references_xyxy)
        highest, which = overlaps.max(dim=0)
        nearest = torch.where(highest > best, which + first, nearest)
        best = best.maximum(highest)
        if low_quality:
            most = overlaps.amax(dim=1, keepdim=True)
            lifted |= ((overlaps == most) & (most > 0)).any(dim=0)
    matches = torch.where(best < foreground_iou, IGNORED, nearest)
    matches = torch.where(best < background_iou, BACKGROUND, matches)
    matches = torch.where(lifted, nearest, matches)
    if len(ignored_xyxy):
        low = torch.maximum(references_xyxy[:, None, :2], ignored_xyxy[None, :, :2])
        high = torch.minimum(references_xyxy[:, None, 2:], ignored_xyxy[None, :, 2:])
        covered = (high - low).clamp(min=0).prod(dim=2).amax(dim=1)
        in_crowd = covered > 0.5 * boxes.area(references_xyxy)
        matches[in_crowd & (matches == BACKGROUND)] = IGNORED
    return matches


@dataclass(frozen=True)
class BalancedSampler:
    """A random choice of boxes to train on.

    Attributes:
        boxes: how many an image.
        positive_share: at most this share of them matches an object.
    """

    boxes: int
    positive_share: float

    def __call__(
        self, matches: Int[Tensor, "n"], generator: torch.Generator
    ) -> tuple[Int[Tensor, "p"], Int[Tensor, "q"]]:
        """Indices of the chosen positives and of the chosen background boxes.

        Args:
            matches: of `match`.
            generator: decides, on the CPU, so that every device chooses the same.
        """
        positive = torch.nonzero(matches >= 0).ravel()
        negative = torch.nonzero(matches == BACKGROUND).ravel()
        positives = min(len(positive), int(self.boxes * self.positive_share))
        negatives = min(len(negative), self.boxes - positives)
        return _some(positive, positives, generator), _some(negative, negatives, generator)


def _some(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return indices[torch.randperm(len(indices), generator=generator)[:count].to(indices.device)]
