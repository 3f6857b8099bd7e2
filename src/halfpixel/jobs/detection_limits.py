"""From which score, and how many: the user's wish, or what goes with a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from halfpixel.errors import ArgumentError

if TYPE_CHECKING:
    from halfpixel.zoo.modelfile import ModelInfo

FILE_THRESHOLD, FILE_LIMIT = 0.5, 1000
"""For predictions from a file, which no model gives defaults."""


@dataclass(frozen=True)
class DetectionLimits:
    """Which objects of an image count.

    Attributes:
        threshold: those that score at least this.
        limit: at most so many, the best ones.
    """

    threshold: float
    limit: int

    @classmethod
    def resolve(cls, threshold: float | None, limit: int | None, model: ModelInfo | None) -> DetectionLimits:
        """What was asked for, and where nothing was, what the model says.

        Args:
            threshold: asked for, or None.
            limit: likewise.
            model: which finds the objects; None for predictions from a file.
        """
        if model is None:
            own_threshold, own_limit = FILE_THRESHOLD, FILE_LIMIT
        else:
            own_threshold, own_limit = model.score_threshold, model.detection_limit
        return cls(own_threshold if threshold is None else threshold, own_limit if limit is None else limit)


def check_limits(threshold: float | None, limit: int | None) -> None:
    """Refuse numbers out of range before a model is opened.

    Raises:
        ArgumentError: a threshold outside of 0..1, or a limit below 1 or beyond all sense.
    """
    from halfpixel.structures.field_check import LARGEST_COUNT  # what it needs would slow every --help down

    if threshold is not None and not 0 <= threshold < 1:
        raise ArgumentError(f"`threshold` must be from 0 up to, but not including, 1; got {threshold}")
    if limit is not None and not 1 <= limit <= LARGEST_COUNT:
        raise ArgumentError(f"`limit` must be from 1 to {LARGEST_COUNT:,}, got {limit}")
