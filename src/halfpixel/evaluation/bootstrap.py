"""Intervals for numbers that are computed from several images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ArgumentError

RESAMPLES = 2000
LEVEL = 0.95

Floats = npt.NDArray[np.float64]

Name = TypeVar("Name", bound=Hashable)

_BLOCK = 100


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval; `level` of the resampled values lie between `low` and `high`."""

    low: float
    high: float
    level: float
    resamples: int
    seed: int


Intervals = Mapping[str, Interval]
"""The interval of each number by its name; a number without one is not in it."""


def bootstrap_ratios(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[Interval | None]:
    """Percentile bootstrap over images (Efron 1979) of each sum(numerators) / sum(denominators).

    Whole images are drawn with replacement, as objects of one image are not independent. Detection accuracy has
    TP over TP + FP + FN, a mean over images has ones below.

    Args:
        numerators: `[n, k]` k numbers per image.
        denominators: `[n]` one number per image for all of them, none negative.
        seed: the same seed gives the same interval.
        resamples: how often to draw.
        level: the part of the resampled values inside the interval, in 0..1.

    Returns:
        For each of the k its interval; None for fewer than two images, or where every draw's denominator is 0. Single
        draws with a denominator of 0 are left out.

    Raises:
        ArgumentError: the two arrays differ in length, or `resamples` or `level` is out of range.
    """
    tops, bottoms = (np.asarray(values, dtype=np.float64) for values in (numerators, denominators))
    if len(bottoms) != len(tops):
        raise ArgumentError(f"{len(tops)} numerators but {len(bottoms)} denominators")
    if resamples < 1 or not 0 < level < 1:
        raise ArgumentError(f"expected resamples of at least 1 and a level in 0..1, got {resamples} and {level}")
    drawn = resampled_sums(np.column_stack([tops, bottoms]), seed=seed, resamples=resamples)
    ratios = {k: divide(drawn[:, k], drawn[:, -1]) for k in range(tops.shape[1])}
    intervals = named_intervals(ratios, seed=seed, level=level)
    return [intervals.get(k) for k in ratios]


def image_draws(n: int, *, seed: int, resamples: int = RESAMPLES) -> npt.NDArray[np.float32]:
    """`[resamples, n]` how often each of `n` images is drawn; no rows for fewer than two images, which do not vary.

    Fewer draws are the first ones of more.
    """
    if n < 2 or resamples == 0:
        return np.zeros((0, n), dtype=np.float32)
    return _draws(n, seed, max(resamples, RESAMPLES))[:resamples]


@lru_cache(maxsize=2)
def _draws(n: int, seed: int, resamples: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    draws = np.empty((resamples, n), dtype=np.float32)
    for k in range(0, resamples, _BLOCK):  # whole numbers are eight bytes each until they are stored
        draws[k : k + _BLOCK] = rng.multinomial(n, np.full(n, 1 / n), size=min(_BLOCK, resamples - k))
    draws.flags.writeable = False
    return draws


def resampled_sums(per_image: Floats, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """The columns of `[n, m]` (a row for each image) summed over each draw: `[resamples, m]`."""
    sums: Floats = image_draws(len(per_image), seed=seed, resamples=resamples) @ per_image
    return sums


def percentile_interval(values: Floats, *, seed: int, level: float = LEVEL) -> Interval | None:
    """The interval of a number from its resampled values `[resamples]`.

    NaN stands for a draw in which the number is undefined; those are left out, and None is returned if all are.
    """
    return named_intervals({"": values}, seed=seed, level=level).get("")


def named_intervals(values: Mapping[Name, Floats], *, seed: int, level: float = LEVEL) -> dict[Name, Interval]:
    """`percentile_interval` of several numbers, those that have one."""
    by_length: dict[int, dict[Name, Floats]] = {}
    for name, one in values.items():
        undefined = np.isnan(one)
        defined = one[~undefined] if undefined.any() else one
        if len(defined):
            by_length.setdefault(len(defined), {})[name] = defined
    found = {}
    for some in by_length.values():  # together, as most of the time goes into starting
        lows, highs = np.quantile(np.stack(list(some.values())), [(1 - level) / 2, (1 + level) / 2], axis=1).tolist()
        for name, low, high in zip(some, lows, highs, strict=True):
            found[name] = Interval(low, high, level, len(values[name]), seed)
    return {name: found[name] for name in values if name in found}


def divide(top: npt.ArrayLike, bottom: npt.ArrayLike) -> Floats:
    """`top / bottom`, NaN where that is undefined."""
    top, bottom = np.broadcast_arrays(np.asarray(top, dtype=np.float64), np.asarray(bottom, dtype=np.float64))
    ratio: Floats = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom != 0)
    return ratio
