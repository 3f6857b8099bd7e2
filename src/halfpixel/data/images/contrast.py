"""From the values of a file, of whatever depth, to the 8 bits that the networks take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rgb8 = npt.NDArray[np.uint8]
Values = npt.NDArray[Any]

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
        values = array.astype(np.float64)
        if array.dtype.kind == "f":  # what is no number is not in the picture, see no_data.py
            np.nan_to_num(values, copy=False, nan=self.low, posinf=self.high, neginf=self.low)
        scaled = (values - self.low) * (255 / (self.high - self.low))
        return np.clip(scaled, 0, 255).round().astype(np.uint8)


def fixed_contrast(dtype: np.dtype[Any], bits: int | None = None) -> Contrast | None:
    """The contrast that pixels of up to 8 bits have by themselves; deeper ones have none."""
    if dtype == np.bool_:
        return Contrast(0, 1)
    return Contrast(0, 2 ** min(bits or 8, 8) - 1) if dtype == np.uint8 else None
