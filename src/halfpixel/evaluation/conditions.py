"""Under which conditions predictions are measured."""

from __future__ import annotations

from dataclasses import dataclass

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.detection.overlaps import Kind


@dataclass(frozen=True)
class Conditions:
    """What holds for every number of an evaluation; see `evaluation.Evaluation`.

    Attributes:
        compared_by: masks or boxes.
        threshold: the score threshold of accuracy, counts and error types, in 0..1.
        max_detections: the limit of AP, for each class and image, at least 1.
        ious: of the accuracy, at least one.
        ap_resamples: draws for the intervals of AP.
        seed: of the bootstrap.

    Raises:
        ArgumentError: a number out of range.
    """

    compared_by: Kind
    threshold: float
    max_detections: int
    ious: tuple[float, ...]
    ap_resamples: int
    seed: int

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ArgumentError(f"the score threshold must be in 0..1, got {self.threshold}")
        if self.max_detections < 1:
            raise ArgumentError(f"max_detections must be at least 1, got {self.max_detections}")
        if not self.ious:
            raise ArgumentError("expected at least one IoU")
