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
from halfpixel.structures.diameters import Floats, SizeFinderInfo, TrainedDiameters
from halfpixel.structures.images import LARGEST_SCALE, InputRules
from halfpixel.zoo.modelfile import ModelInfo

MOST_PX = 1 << 18
"""The pixels of the network's input that one level of an image may have; of a larger one windows are looked at."""

WINDOWS = 16
WINDOW_PX = 128

LEAST_SIDE_PX = 32
"""The shorter side of the coarsest level is at least half as many again: what is larger than the image is no object."""

LEAST_COVERED = 0.3
"""A cell of which less is covered counts as not covered: over a whole background little becomes a lot."""

LEAST_OBJECTS = 0.5
"""With fewer objects in what was looked at nothing was found."""


MOST_ENLARGED = 2.5
"""Images of small objects are enlarged at most so many times as much as usual: the time grows with the square, of still
smaller ones hardly anything is to be seen, and what is taken for them may be noise."""


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

    @classmethod
    def of_model(cls, network: SizeNetwork | None, info: ModelInfo) -> SizeFinder | None:
        """That of a model; None where it has no such network, or is not to use it."""
        return None if network is None or info.size_finder is None else cls(network, info.size_finder)

    def diameter_px(self, pixels: Rgb8) -> float | None:
        """The diameter of an image's objects, as `typical_diameter` would have it: that of about the middle object.

        Args:
            pixels: `[h, w, 3]`, RGB.

        Returns:
            In pixels of the image; None where too little was found.
        """
        diameters, shares = self.covered(pixels)
        per_object_px2 = math.pi / 4 * diameters**2
        n_objects = float((shares / per_object_px2).sum()) * pixels.shape[0] * pixels.shape[1]
        if n_objects < LEAST_OBJECTS:
            return None
        order = np.argsort(diameters)
        reached = np.cumsum((shares / diameters)[order])  # an object weighs as much as its diameter, its area more
        return float(diameters[order[np.searchsorted(reached, reached[-1] / 2)]])

    def covered(self, pixels: Rgb8) -> tuple[Floats, Floats]:
        """Where objects cover an image: cells of all the sizes that it is looked at in.

        Args:
            pixels: as for `diameter_px`.

        Returns:
            `[n]` the diameters of the objects, in pixels of the image, and `[n]` which share of the image is covered by
            them, together at most about 1.
        """
        gain = exposure_gain(pixels, self.info.stretch_below)
        levels = list(_levels(pixels))
        diameters, shares = [], []
        for k, level in enumerate(levels):
            octaves, covered = self._cells(level, gain, twice=k == 0)
            weights = _weights(octaves, finest=k == 0, coarsest=k == len(levels) - 1)
            diameters.append(SMALLEST_PX / 2 * 2 ** (octaves + k))
            shares.append(weights * covered)
        return np.concatenate(diameters), np.concatenate(shares)

    def _cells(self, level: Rgb8, gain: float, twice: bool) -> tuple[Floats, Floats]:
        """What a level says of each of its cells in which there is something.

        Returns:
            `[n]` the log2 of the diameter, by the smallest that the network knows: the mean of what it holds possible;
            and `[n]` the share of the level that is covered there.
        """
        device = next(self.network.parameters()).device
        views = [to_float(view, gain) for view in _views(level, 2 if twice else 1)]
        with torch.inference_mode():
            images = torch.stack(views).to(device).contiguous(memory_format=torch.channels_last)
            if twice:
                images = nn.functional.interpolate(images, scale_factor=2.0, mode="bilinear")
            says: Tensor = self.network(images).softmax(1).permute(1, 0, 2, 3).flatten(1).double().cpu()
        nothing, of_bins = says[0].numpy(), says[1:].numpy()
        some = nothing <= 1 - LEAST_COVERED
        covered = of_bins[:, some].sum(0)
        octaves: Floats = (np.arange(N_BINS) @ of_bins[:, some]) / covered / BINS_PER_OCTAVE
        return octaves, covered / len(nothing)


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
    size_hw = pixels.shape[0], pixels.shape[1]
    scale = scale_at(diameter_px, size_hw, rules, sizes, finder.info.tolerance)
    return ChosenScale(None if scale == network_size(size_hw, rules)[0] else scale, diameter_px)


def scale_at(
    diameter_px: float, size_hw: tuple[int, int], rules: InputRules, sizes: TrainedDiameters, tolerance: float
) -> float:
    """By which factor an image is enlarged in which objects of some diameter were found.

    Args:
        diameter_px: in pixels of the image, above 0.
        size_hw: of the image.
        rules: of the model.
        sizes: it was trained on.
        tolerance: of the finder, see `SizeFinderInfo`.
    """
    usual = network_size(size_hw, rules)[0]
    return min(sizes.scale_for(diameter_px, usual, tolerance), MOST_ENLARGED * usual, LARGEST_SCALE)


def octaves_from_usual(chosen: ChosenScale, size_hw: tuple[int, int], rules: InputRules) -> float:
    """By how many octaves an image is enlarged more than is usual, as its objects were found to be of another size.

    Args:
        chosen: at which size it is looked at.
        size_hw: of the image.
        rules: by which the model usually prepares images.

    Returns:
        log2 of a factor, below 0 where it is enlarged less; 0 where no size was found, or the scale was given.
    """
    if chosen.scale is None or chosen.diameter_px is None:
        return 0.0
    return math.log2(chosen.scale / network_size(size_hw, rules)[0])


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


def _weights(octaves: Floats, finest: bool, coarsest: bool) -> Floats:
    """How much a level's word counts: most in the middle of what it knows, and with its neighbours' 1."""
    from_middle = octaves - (N_BINS - 1) / BINS_PER_OCTAVE / 2
    weights: Floats = np.clip(1 - np.abs(from_middle), 0, 1)
    if finest:
        weights[from_middle < 0] = 1
    if coarsest:
        weights[from_middle > 0] = 1
    return weights
