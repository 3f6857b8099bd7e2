"""How opaque pixels are, and what they look like on white."""

from __future__ import annotations

from typing import Any

import numpy as np

from halfpixel.data.images.contrast import Contrast, Rgb8, Values

ROUNDING = 1 / 64
"""Premultiplied colours may exceed their opacity by this much of the full one, as lossy files do."""


def as_bytes(alpha: Values) -> Rgb8:
    """Opacity of any shape in 0..255; full is 1 (floats) or the largest integer, NaN is none."""
    if alpha.dtype.kind == "f":
        return Contrast(0, 1)(np.nan_to_num(alpha))
    return Contrast(0, _full(alpha.dtype))(alpha)


def lay_on_white(colour: Rgb8, opacity: Rgb8) -> Rgb8:
    """Colours `[h, w, 3]` on white, by their opacity `[h, w, 1]`."""
    if opacity.min() == 255:
        return colour
    weight = opacity.astype(np.uint16)
    return ((colour * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)


def straight_colours(premultiplied: Values, alpha: Values) -> Values:
    """Colours `[h, w, c]` that were stored multiplied by their opacity `[h, w, 1]`, without it.

    Those that exceed their opacity are no product, whatever the file says of them, and are left as they are; so are
    all where the opacity is 0 everywhere.
    """
    full = _full(alpha.dtype)
    opacity = alpha.astype(np.float32) / full
    if not opacity.any() or (premultiplied > alpha + full * ROUNDING).any():
        return premultiplied
    straight = premultiplied / np.where(opacity > 0, opacity, 1)
    if premultiplied.dtype.kind != "f":
        straight = np.minimum(np.round(straight), full)
    return straight.astype(premultiplied.dtype)


def _full(dtype: np.dtype[Any]) -> int:
    return 1 if dtype.kind in "bf" else int(np.iinfo(dtype).max)
