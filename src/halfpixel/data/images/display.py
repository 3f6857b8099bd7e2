"""From the values of a plane to the picture that the network sees: contrast, colours, background and opacity."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from halfpixel.data.images.contrast import Contrast, Rgb8, Values
from halfpixel.data.images.no_data import NO_DATA, Mask, holds_data, show_background

TRANSPARENT = "an opacity of 0 everywhere says nothing, and was not applied"


def display(
    values: Values,
    contrasts: Sequence[Contrast],
    alpha: Values | None = None,
    no_data: float | None = None,
    white_is_zero: bool = False,
) -> tuple[Rgb8, dict[str, str]]:
    """One to three channels `[h, w, channels]` as a picture `[h, w, 3]`, on white where it is transparent.

    Args:
        values: one channel is grey, of two the third is black.
        contrasts: of the channels.
        alpha: opacity `[h, w, 1]`; full is 1 (floats) or the largest integer.
        no_data: the value of pixels that are outside of the picture, in all channels, as are NaN and infinite ones.
        white_is_zero: small values are bright.

    Returns:
        The picture, and remarks on it with their details.
    """
    if len(set(contrasts)) == 1:
        rgb = contrasts[0](values)
    else:
        rgb = np.stack([contrast(values[..., k]) for k, contrast in enumerate(contrasts)], axis=2)
    if white_is_zero:
        rgb = 255 - rgb
    if rgb.shape[2] == 1:
        rgb = np.broadcast_to(rgb, (*rgb.shape[:2], 3))
    elif rgb.shape[2] == 2:
        rgb = np.concatenate([rgb, np.zeros_like(rgb[..., :1])], axis=2)
    remarks: dict[str, str] = {}
    if (within := _inside(values, no_data)) is not None:
        remarks[NO_DATA] = _some(within.size - np.count_nonzero(within), within.size)
        rgb = show_background(rgb, within)
    if alpha is not None:
        opacity = _as_bytes(alpha)
        if opacity.any():
            rgb = _on_white(rgb, opacity)
        else:
            remarks[TRANSPARENT] = _some(opacity.size, opacity.size)
    return rgb, remarks


def _inside(values: Values, no_data: float | None) -> Mask | None:
    """The pixels `[h, w]` of the picture; None for all. One outside is so in one channel by NaN, or in all by value."""
    finite = holds_data(values, None)
    valued = holds_data(values, no_data) if no_data is not None else None
    parts = ([] if finite is None else [finite.all(axis=2)]) + ([] if valued is None else [valued.any(axis=2)])
    within = reduce(np.logical_and, parts) if parts else None
    return None if within is None or within.all() else within


def _as_bytes(alpha: Values) -> Rgb8:
    if alpha.dtype.kind == "f":
        return np.round(np.clip(np.nan_to_num(alpha), 0, 1) * 255).astype(np.uint8)
    if alpha.dtype == np.uint8:
        return alpha
    return Contrast(0, 1 if alpha.dtype == np.bool_ else np.iinfo(alpha.dtype).max)(alpha)


def _on_white(colour: Rgb8, opacity: Rgb8) -> Rgb8:
    if opacity.min() == 255:
        return colour
    weight = opacity.astype(np.uint16)
    return ((colour * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)


def _some(n: int, of: int) -> str:
    return f"{n:,} of {of:,} pixels"
