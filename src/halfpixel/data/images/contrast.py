"""From the values of a file, of whatever depth, to the 8 bits that the networks take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ImageError

Rgb8 = npt.NDArray[np.uint8]
Values = npt.NDArray[Any]

PERCENTILES = (0.1, 99.9)

MAX_SAMPLE = 2**22
"""Pixels that the percentiles are taken from, at most: all of an image of 2,048 x 2,048."""

MAX_SAMPLED_PLANES = 32

BLOCK_VALUES = 2**22  # stretched at a time, which bounds the floats in memory


@dataclass(frozen=True)
class Contrast:
    """A linear stretch: `low` becomes 0, `high` becomes 255, and what lies beyond is clipped."""

    low: float
    high: float

    def __call__(self, array: Values) -> Rgb8:
        """The array, of any shape, in 0..255."""
        if array.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            return array
        if array.dtype == np.uint16:  # a table of all 65,536 values spares the floats
            return np.take(self._stretch(np.arange(1 << 16)), array)
        result = np.empty(array.shape, np.uint8)
        rows = max(1, BLOCK_VALUES // max(1, math.prod(array.shape[1:])))
        for top in range(0, len(array), rows):
            result[top : top + rows] = self._stretch(array[top : top + rows])
        return result

    def _stretch(self, array: Values) -> Rgb8:
        if self.low == self.high:
            return np.zeros(array.shape, np.uint8)
        scaled = (array.astype(np.float64) - self.low) * (255 / (self.high - self.low))
        return np.clip(scaled, 0, 255).round().astype(np.uint8)


def fixed_contrast(dtype: np.dtype[Any], bits: int | None = None) -> Contrast | None:
    """The contrast that pixels of up to 8 bits have by themselves; deeper ones have none."""
    if dtype == np.bool_:
        return Contrast(0, 1)
    return Contrast(0, 2 ** min(bits or 8, 8) - 1) if dtype == np.uint8 else None


def measure_contrast(planes: Sequence[Callable[[], Values]], jointly: bool) -> tuple[Contrast, ...]:
    """One contrast for each channel of all planes of an image.

    From the 0.1st to the 99.9th percentile, or from the smallest to the largest value where those two are equal;
    floats that all lie in 0..1 keep that range. The percentiles are estimated from a regular grid of pixels of at most
    32 planes, spread evenly.

    Args:
        planes: each reads one plane `[h, w, channels]`.
        jointly: the same contrast for all channels, as colours need it.

    Raises:
        ImageError: NaN or infinite pixels in one of the planes that were looked at.
    """
    spread = planes[:: math.ceil(len(planes) / MAX_SAMPLED_PLANES)]
    grids, limits = zip(*(_sample_and_limits(read(), MAX_SAMPLE // len(spread)) for read in spread), strict=True)
    sample, least, most = np.concatenate(grids), np.min(limits, axis=(0, 1)), np.max(limits, axis=(0, 1))
    if jointly:
        sample, least, most = sample.reshape(-1, 1), least.min(keepdims=True), most.max(keepdims=True)
    found = [_contrast_of(sample[:, k], float(least[k]), float(most[k])) for k in range(len(least))]
    if len(spread) < len(planes) and any(one.low == one.high for one in found):
        found = [
            one if one.low < one.high else far for one, far in zip(found, _full_ranges(planes, jointly), strict=True)
        ]
    return tuple(found * len(limits[0][0]) if jointly else found)


def _sample_and_limits(plane: Values, pixels: int) -> tuple[Values, Values]:
    """At most so many pixels `[n, channels]` of a plane, from a grid; and its smallest and largest values `[2, c]`."""
    check_finite(plane)
    step = math.ceil(math.sqrt(plane.shape[0] * plane.shape[1] / pixels))
    grid = plane[::step, ::step].reshape(-1, plane.shape[2])
    return grid.copy(), np.stack([plane.min(axis=(0, 1)), plane.max(axis=(0, 1))])


def _contrast_of(sample: Values, least: float, most: float) -> Contrast:
    if sample.dtype.kind == "f" and least >= 0 and most <= 1:
        return Contrast(0, 1)
    low, high = np.percentile(sample, PERCENTILES)
    return Contrast(float(low), float(high)) if low < high else Contrast(least, most)


def _full_ranges(planes: Iterable[Callable[[], Values]], jointly: bool) -> list[Contrast]:
    """From the smallest to the largest value of all planes, for images that are black almost everywhere."""
    limits = np.stack([_sample_and_limits(read(), 1)[1] for read in planes])
    low, high = limits.min(axis=(0, 1)), limits.max(axis=(0, 1))
    if jointly:
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    return [Contrast(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def check_finite(plane: Values) -> None:
    """Refuse pixels `[h, w, channels]` that are not numbers.

    Raises:
        ImageError: how many pixels are NaN or infinite.
    """
    if plane.dtype.kind == "f" and not (finite := np.isfinite(plane).all(axis=2)).all():
        raise ImageError(f"{finite.size - np.count_nonzero(finite)} of {finite.size} pixels are NaN or infinite")


def lay_on_white(colour: Rgb8, alpha: Values) -> Rgb8:
    """Colours `[h, w, 3]` on white, by their opacity `[h, w, 1]`; full is 1 (floats) or the largest integer."""
    check_finite(alpha)
    if alpha.dtype.kind == "f":
        alpha = np.round(np.clip(alpha, 0, 1) * 255).astype(np.uint8)
    elif alpha.dtype != np.uint8:
        full = 1 if alpha.dtype == np.bool_ else np.iinfo(alpha.dtype).max
        alpha = Contrast(0, full)(alpha)
    if alpha.min() == 255:
        return colour
    weight = alpha.astype(np.uint16)
    return ((colour * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)
