"""Finds how large the objects of an image are, before a model looks at it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.prepare import exposure_gain, halved, network_size, to_float
from halfpixel.nn.size_network import BINS_PER_OCTAVE, CELL_PX, N_BINS, SMALLEST_PX, SizeNetwork
from halfpixel.structures.diameters import Floats, SizeFinderInfo
from halfpixel.structures.images import LARGEST_SCALE
from halfpixel.zoo.modelfile import ModelInfo

MOST_PX = 1 << 18
"""The pixels of the network's input that one level of an image may have; of a larger one windows are looked at."""

WINDOWS = 16
WINDOW_PX = 128

LEAST_SIDE_PX = 32
"""The shorter side of the coarsest level is at least half as many again: what is larger than the image is no object."""

LEAST_COVERED = 0.2
"""A cell of which less is covered counts as not covered: over a whole background little becomes a lot."""

LEAST_OBJECTS = 0.5
"""With fewer objects in what was looked at nothing was found."""


class ChosenScale(NamedTuple):
    """At which size an image is looked at.

    Attributes:
        scale: by which factor it is enlarged; None for the model's own way.
        diameter_px: of its objects, in pixels of the image, where that was looked for and found.
    """

    scale: float | None = None
    diameter_px: float | None = None


class SizeFinder:
    """Looks at an image at several sizes, an octave apart, and says how large its objects are.

    Args:
        network: says of each cell which part of it objects of each diameter cover.
        info: what the model file says of it.
    """

    def __init__(self, network: SizeNetwork, info: SizeFinderInfo) -> None:
        self.network = network
        self.info = info

    def diameter_px(self, pixels: Rgb8) -> float | None:
        """The diameter of an image's objects, as `typical_diameter` would have it: that of about the middle object.

        Args:
            pixels: `[h, w, 3]`, RGB.

        Returns:
            In pixels of the image; None where too little was found.
        """
        shares, diameters = self.covered(pixels)
        per_object_px2 = math.pi / 4 * diameters**2
        n_objects = float((shares / per_object_px2).sum()) * pixels.shape[0] * pixels.shape[1]
        if n_objects < LEAST_OBJECTS:
            return None
        weights = shares / diameters  # an object weighs as much as its diameter, its area is that squared
        reached = np.cumsum(weights)
        k = int(np.searchsorted(reached, reached[-1] / 2))
        part = (reached[-1] / 2 - (reached[k] - weights[k])) / weights[k]
        return float(diameters[k] * 2 ** ((part - 0.5) / BINS_PER_OCTAVE))

    def covered(self, pixels: Rgb8) -> tuple[Floats, Floats]:
        """Which part of an image is covered by objects of each diameter.

        Args:
            pixels: as for `diameter_px`.

        Returns:
            `[n]` shares, together at most about 1, and the `[n]` diameters in pixels of the image.
        """
        gain = exposure_gain(pixels, self.info.stretch_below)
        of_levels = [self._shares(level, gain, twice=k == 0) for k, level in enumerate(_levels(pixels))]
        shares = np.zeros(N_BINS + BINS_PER_OCTAVE * (len(of_levels) - 1))
        for k, found in enumerate(of_levels):
            weights = _weights(finest=k == 0, coarsest=k == len(of_levels) - 1)
            shares[BINS_PER_OCTAVE * k :][:N_BINS] += weights * found
        diameters = SMALLEST_PX / 2 * 2 ** (np.arange(len(shares)) / BINS_PER_OCTAVE)
        return shares, diameters

    def _shares(self, level: Rgb8, gain: float, twice: bool) -> Floats:
        """`[bins]` which part of a level is covered by objects of each diameter."""
        device = next(self.network.parameters()).device
        views = [to_float(view, gain) for view in _views(level, 2 if twice else 1)]
        with torch.inference_mode():
            images = torch.stack(views).to(device).contiguous(memory_format=torch.channels_last)
            if twice:
                images = nn.functional.interpolate(images, scale_factor=2.0, mode="bilinear")
            shares: Tensor = self.network(images).softmax(1)
            shares = shares[:, 1:] * (shares[:, :1] <= 1 - LEAST_COVERED)
            found: Floats = shares.mean((0, 2, 3)).double().cpu().numpy()
        return found


def choose_scale(
    info: ModelInfo, finder: SizeFinder | None, pixels: Rgb8, pixel_size_um: float | None = None
) -> ChosenScale:
    """At which size a model is to look at an image, see `Predictor.choose_scale`."""
    sizes, rules = info.diameters, info.input
    if sizes is None or (rules.exact_hw is not None and rules.scale is None):
        return ChosenScale()
    if pixel_size_um is not None:
        scale = sizes.scale_for_pixel_size(pixel_size_um, rules.scale)
        if scale is not None:
            return ChosenScale(None if scale == rules.scale else scale)
    diameter_px = None if finder is None else finder.diameter_px(pixels)
    if finder is None or diameter_px is None:
        return ChosenScale()
    usual = network_size((pixels.shape[0], pixels.shape[1]), rules)[0]
    scale = min(sizes.scale_for(diameter_px, usual, finder.info.tolerance), LARGEST_SCALE)
    return ChosenScale(None if scale == usual else scale, diameter_px)


def _levels(pixels: Rgb8) -> Iterator[Rgb8]:
    """What is looked at, from the finest: the image, to be enlarged twice, then as it is, half of it, and so on."""
    yield pixels
    yield pixels
    while min(pixels.shape[:2]) >= 2 * LEAST_SIDE_PX:
        pixels = halved(pixels)
        yield pixels


def _views(level: Rgb8, enlarged: int) -> Iterator[Rgb8]:
    """All of a level, or windows that are spread evenly; as if mirrored where cells reach beyond it."""
    size_hw = (level.shape[0], level.shape[1])
    if size_hw[0] * size_hw[1] * enlarged**2 <= MOST_PX:
        yield _padded(level, CELL_PX // enlarged)
        return
    side = WINDOW_PX // enlarged
    columns = min(max(round(math.sqrt(WINDOWS * size_hw[1] / size_hw[0])), 1), WINDOWS)
    rows = WINDOWS // columns
    for k in range(rows * columns):
        places = zip(divmod(k, columns), (rows, columns), size_hw, strict=True)
        top, left = (max(round((at + 0.5) * length / n - side / 2), 0) for at, n, length in places)
        yield _padded(level[top : top + side, left : left + side], side)


def _padded(pixels: Rgb8, divisor: int) -> Rgb8:
    missing = [-side % divisor for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")


def _weights(finest: bool, coarsest: bool) -> Floats:
    """`[bins]` how much a level's word counts: most in the middle of what it knows, and with its neighbours' 1."""
    octaves = np.arange(N_BINS) / BINS_PER_OCTAVE - (N_BINS - 1) / BINS_PER_OCTAVE / 2
    weights: Floats = np.clip(1 - np.abs(octaves), 0, 1)
    if finest:
        weights[octaves < 0] = 1
    if coarsest:
        weights[octaves > 0] = 1
    return weights
