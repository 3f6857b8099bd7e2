"""Pixels that are outside of the picture: NaN, infinite, or of the value that a file keeps for no data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NO_DATA = "pixels without data (NaN, infinite, or the file's own value for it) are shown as background"

COARSE_LEVELS = 8
"""The background is the most frequent stretch of so many grey levels."""

Mask = npt.NDArray[np.bool_]


def holds_data(values: npt.NDArray[Any], no_data: float | None) -> Mask | None:
    """Which values, of an array of any shape, are data; None where all are."""
    valid = np.isfinite(values) if values.dtype.kind == "f" else None
    if no_data is not None and not np.isnan(no_data):
        other = values != _as_stored(no_data, values.dtype)
        valid = other if valid is None else valid & other
    return None if valid is None or valid.all() else valid


def _as_stored(no_data: float, dtype: np.dtype[Any]) -> float:
    """A no-data value as written in text, in the precision of the pixels."""
    with np.errstate(over="ignore"):
        return float(np.asarray(no_data).astype(dtype)) if dtype.kind == "f" else no_data


def show_background(rgb: npt.NDArray[np.uint8], within: Mask) -> npt.NDArray[np.uint8]:
    """A picture `[h, w, 3]` with the background of the rest where `within` `[h, w]` is False.

    The background is the colour that most pixels have; black where there are none.
    """
    inside = rgb[within]
    result = rgb.copy()
    result[~within] = [_most_frequent(inside[:, k]) for k in range(3)] if len(inside) else 0
    return result


def _most_frequent(levels: npt.NDArray[np.uint8]) -> int:
    coarse = levels // COARSE_LEVELS
    return int(np.median(levels[coarse == np.bincount(coarse).argmax()]))
