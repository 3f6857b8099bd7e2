"""One number of two models, over the same images and the same draws of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from halfpixel.evaluation.bootstrap import LEVEL, Floats, Interval, divide, percentile_interval

FEWEST_IMAGES = 10
"""Intervals from fewer images are too narrow to call a winner by."""


@dataclass(frozen=True)
class Contrast:
    """A number of A and of B, and how far apart they are; None where undefined.

    Attributes:
        a: of A.
        b: of B.
        difference: a - b.
        ratio: a / b; None also for numbers that may be negative.
        a_interval: 95% bootstrap over images.
        b_interval: the same.
        difference_interval: of a - b, both computed from the same draw of images.
        ratio_interval: of a / b in the same way; None where b is 0 in so many draws that there is no upper end.
        better: who is nearer to the best value, where the 95% interval of the two distances' difference says so.
    """

    a: float | None
    b: float | None
    difference: float | None
    ratio: float | None
    a_interval: Interval | None
    b_interval: Interval | None
    difference_interval: Interval | None
    ratio_interval: Interval | None
    better: Literal["A", "B"] | None


def contrast(
    values: tuple[Floats, Floats],
    drawn: tuple[Floats, Floats],
    *,
    best: float,
    with_ratio: bool,
    n_images: int,
    seed: int,
) -> Contrast:
    """Put a number of A and of B side by side.

    Args:
        values: of A and B, `[1]` each, NaN where undefined.
        drawn: the same from each draw of the images, `[r]` each; the k-th draw is the same for both.
        best: the value that neither can be better than, 0 for an error, 1 for an accuracy.
        with_ratio: give a / b, too.
        n_images: with fewer than `FEWEST_IMAGES` nobody is called better.
        seed: of the draws.
    """
    (a, b), (drawn_a, drawn_b) = values, drawn
    nearer = percentile_interval(np.abs(drawn_a - best) - np.abs(drawn_b - best), seed=seed)
    better: Literal["A", "B"] | None = None
    if nearer is not None and n_images >= FEWEST_IMAGES:
        better = "A" if nearer.high < 0 else "B" if nearer.low > 0 else None
    return Contrast(
        a=_number(a),
        b=_number(b),
        difference=_number(a - b),
        ratio=_number(divide(a, b)) if with_ratio else None,
        a_interval=percentile_interval(drawn_a, seed=seed),
        b_interval=percentile_interval(drawn_b, seed=seed),
        difference_interval=percentile_interval(drawn_a - drawn_b, seed=seed),
        ratio_interval=_ratio_interval(drawn_a, drawn_b, seed) if with_ratio else None,
        better=better,
    )


def _ratio_interval(a: Floats, b: Floats, seed: int) -> Interval | None:
    """Something over nothing counts as endlessly large, nothing over nothing is left out."""
    ratios = divide(a, b)
    endless = np.isnan(ratios) & (a > 0)
    defined = np.count_nonzero(~np.isnan(ratios)) + np.count_nonzero(endless)
    if np.count_nonzero(endless) >= (1 - LEVEL) / 2 * defined:
        return None
    return percentile_interval(np.where(endless, np.inf, ratios), seed=seed)


def _number(value: Floats) -> float | None:
    return None if np.isnan(value[0]) else float(value[0])
