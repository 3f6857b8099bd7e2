"""Intervals for numbers that are ratios of sums over images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ArgumentError

_BLOCK = 100


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval; `level` of the resampled values lie between `low` and `high`."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int


def bootstrap_ratio(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
) -> Interval | None:
    """Percentile bootstrap over images (Efron 1979) of sum(numerators) / sum(denominators).

    Whole images are drawn with replacement, as objects of one image are not independent. Detection quality has
    TP over TP + FP + FN, a mean over images has ones below. COCO AP is not a ratio of sums and has no interval yet.

    Args:
        numerators: `[n]` one number per image.
        denominators: `[n]` one number per image, none negative.
        seed: the same seed gives the same interval.
        resamples: how often to draw.
        level: the part of the resampled values inside the interval, in 0..1.

    Returns:
        None for fewer than two images, or where every draw's denominator is 0. Single draws with a denominator of 0
        are left out.

    Raises:
        ArgumentError: the two arrays differ in length, or `resamples` or `level` is out of range.
    """
    sums = [np.asarray(values, dtype=np.float64).ravel() for values in (numerators, denominators)]
    n = len(sums[0])
    if len(sums[1]) != n:
        raise ArgumentError(f"{n} numerators but {len(sums[1])} denominators")
    if resamples < 1 or not 0 < level < 1:
        raise ArgumentError(f"expected resamples of at least 1 and a level in 0..1, got {resamples} and {level}")
    if n < 2:
        return None
    rng = np.random.default_rng(seed)
    per_image = np.stack(sums, axis=1)
    # how often each image is drawn, block by block to bound the memory
    blocks = [
        rng.multinomial(n, np.full(n, 1 / n), size=min(_BLOCK, resamples - k)) @ per_image
        for k in range(0, resamples, _BLOCK)
    ]
    top, bottom = np.concatenate(blocks).T
    if not bottom.any():
        return None
    values = top[bottom > 0] / bottom[bottom > 0]
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(low, high, level, resamples, seed)
