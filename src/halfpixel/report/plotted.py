"""What was measured, as the plain numbers that plots take."""

from __future__ import annotations

from collections.abc import Iterable

from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.counts.count_errors import CountError, ImageCount
from halfpixel.plots.evaluation_plots import Agreement, Estimate, Pairs


def ends_of(interval: Interval | None) -> tuple[float, float] | None:
    """Of an interval, if there is one."""
    return None if interval is None else (interval.low, interval.high)


def count_pairs(images: Iterable[ImageCount]) -> Pairs:
    """Of each image the annotated and the predicted number of objects."""
    return [(sum(one.true), sum(one.predicted)) for one in images]


def agreement_of(error: CountError) -> Agreement:
    """Bias and limits of agreement with their intervals."""

    def one(name: str, value: float | None) -> Estimate | None:
        return None if value is None else Estimate(value, ends_of(error.intervals.get(name)))

    return Agreement(
        one("bias", error.bias),
        one("agreement_low", error.agreement_low),
        one("agreement_high", error.agreement_high),
    )
