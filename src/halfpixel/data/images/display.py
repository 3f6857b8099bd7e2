"""From the values of a plane to the picture that the network sees: contrast, colours, background and opacity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halfpixel.data.images.contrast import Contrast, Rgb8, Values
from halfpixel.data.images.no_data import NO_DATA, Mask, holds_data, show_background
from halfpixel.data.images.opacity import as_bytes, lay_on_white

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
        remarks[NO_DATA] = _some(int(np.count_nonzero(~within)), within.size)
        rgb = show_background(rgb, within)
    if alpha is not None:
        opacity = as_bytes(alpha)
        if opacity.any():
            rgb = lay_on_white(rgb, opacity)
        else:
            remarks[TRANSPARENT] = _some(opacity.size, opacity.size)
    return rgb, remarks


def _inside(values: Values, no_data: float | None) -> Mask | None:
    """The pixels `[h, w]` of the picture; None for all. One outside is so in one channel by NaN, or in all by value."""
    within: Mask = np.ones(values.shape[:2], np.bool_)
    if (finite := holds_data(values, None)) is not None:
        within &= finite.all(axis=2)
    if no_data is not None and (valued := holds_data(values, no_data)) is not None:
        within &= valued.any(axis=2)
    return None if within.all() else within


def _some(n: int, of: int) -> str:
    return f"{n:,} of {of:,} pixels"
