"""Which score thresholds are looked at, and what one is to be good for. Imports nothing heavy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from halfpixel.errors import ArgumentError

ROUNDING = 1e-9

LOWEST_SCORE = 0.05
"""A calibration leaves out objects that score less; as low as average precision looks."""


def thresholds_between(first: float = 0.3, last: float = 0.9, step: float = 0.1) -> tuple[float, ...]:
    """Score thresholds from `first` up to `last`, without the digits that adding floats leaves behind.

    Raises:
        ArgumentError: not 0 <= first <= last < 1, a step that is not above 0, or more than 1,000 thresholds.
    """
    if not (0 <= first <= last < 1 and step > 0):
        raise ArgumentError(f"expected 0 <= `first` <= `last` < 1 and a `step` above 0, got {first}, {last} and {step}")
    n = int((last - first) / step + ROUNDING) + 1
    if n > 1000:
        raise ArgumentError(f"from {first} to {last} by {step} are {n:,} thresholds; at most 1,000 are swept")
    return tuple(round(first + k * step, 10) for k in range(n))


@dataclass(frozen=True)
class Goal:
    """What a threshold is to be good for.

    Attributes:
        kind: `f1`, the largest F1; `count`, the smallest count MAE, of equal ones that with the smallest bias;
            `precision`, the lowest threshold at which precision is at least `precision`, so that most is found. Of
            thresholds that are equally good, the middle one is taken for `f1` and `count`, of two the lower.
        precision: in 0..1, for that kind only.
    """

    kind: str
    precision: float | None = None

    @classmethod
    def parse(cls, text: str) -> Goal:
        """From `f1`, `count` or `precision=0.95`.

        Raises:
            ArgumentError: anything else.
        """
        kind, _, number = text.partition("=")
        try:
            if kind == "precision":
                precision = float(number)
                if 0 < precision <= 1:
                    return cls(kind, precision)
            elif kind in ("f1", "count") and text == kind:
                return cls(kind)
        except ValueError:
            pass
        raise ArgumentError(f"expected the goal f1, count or precision=0.95 (above 0, at most 1), got {text!r}")

    def __str__(self) -> str:
        return self.kind if self.precision is None else f"{self.kind}={self.precision:g}"


def check_wishes(thresholds: Sequence[float], iou: float) -> None:
    """Refuse numbers out of range before a model is run.

    Raises:
        ArgumentError: thresholds that do not ascend or are outside of 0..1, or an IoU that is not in 0..1 or is 0.
    """
    inside = all(0 <= one <= 1 for one in thresholds)
    if not thresholds or not inside or any(a >= b for a, b in itertools.pairwise(thresholds)):
        raise ArgumentError(f"expected ascending score thresholds in 0..1, got {list(thresholds)}")
    if not 0 < iou <= 1:
        raise ArgumentError(f"the IoU must be above 0 and at most 1, got {iou}")


def check_calibration(level: float, threshold: float | None) -> None:
    """Refuse numbers out of range before a model is run.

    Raises:
        ArgumentError: a level not between 0 and 1, or a threshold outside of .05 up to, but not including, 1.
    """
    if not 0 < level < 1:
        raise ArgumentError(f"the level must be between 0 and 1, got {level}")
    if threshold is not None and not LOWEST_SCORE <= threshold < 1:
        raise ArgumentError(
            f"a calibrated threshold must be from {LOWEST_SCORE} up to, but not including, 1; got {threshold}"
        )
