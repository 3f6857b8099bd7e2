"""How large objects are, and at which size a model that was trained on objects of some sizes looks at others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from halfpixel.errors import ArgumentError
from halfpixel.structures.field_check import Share, Text, check_fields

Floats = npt.NDArray[np.float64]

Diameter = Annotated[float, Meta(ge=1e-3, le=1e6)]

SAME_SIZE = 1.1
"""Sizes of which one is at most so many times the other count as the same: about what annotators differ by."""

MOST = 2 / 3
"""The range of sizes that a model knows is the shortest that holds this share of its training images: where there is a
smaller group of images with larger objects far off, it tells little of images of other kinds at that size. Ranges
between percentiles would reach over the gap."""


def equivalent_diameters(areas_px: npt.ArrayLike) -> Floats:
    """`[n]` diameters, in pixels, of the circles that have the areas of objects: 2 sqrt(area / pi).

    Args:
        areas_px: `[n]` at least 0.

    Raises:
        ArgumentError: an area below 0, or none at all.
    """
    areas = np.asarray(areas_px, dtype=np.float64)
    if not bool(np.all((areas >= 0) & np.isfinite(areas))):
        raise ArgumentError("areas must be numbers of at least 0")
    found: Floats = 2 * np.sqrt(areas / np.pi)
    return found


def typical_diameter(diameters_px: npt.ArrayLike) -> float | None:
    """The diameter of an image's objects, in pixels: their median, each weighing as much as its diameter.

    Objects up to this size make up half of all diameters laid side by side. The plain median is that of the debris
    where there is more debris than objects; here a hundred specks of 2 pixels weigh no more than four nuclei of 50.
    Weighing by areas would leave the word to a few clumps.

    Args:
        diameters_px: `[n]` at least 0; those of 0 do not count.

    Returns:
        One of them; None where there are none.
    """
    ascending = np.sort(np.asarray(diameters_px, dtype=np.float64).reshape(-1))
    if not len(ascending) or ascending[-1] <= 0:
        return None
    reached = np.cumsum(ascending)
    return float(ascending[np.searchsorted(reached, reached[-1] / 2)])


@dataclass(frozen=True)
class TrainedDiameters:
    """The sizes of objects that a model was trained on, as its network sees them: after the image was enlarged.

    Augmentation shows a network each image somewhat smaller and larger as well (`Recipe.zoom`); that is left out, so
    these are sizes at which it was trained to be used, not the last at which it works.

    Attributes:
        typical_px: the diameter of the objects of a training image (see `typical_diameter`), the median of all.
        low_px: from here...
        high_px: ...to here reach those of two thirds of the images, in the shortest range that does. All in pixels of
            the network's input.
        network_um: the side of such a pixel in micrometres, where all images were brought to one; None where not.

    Raises:
        ArgumentError: a value of another type or out of its range, or not low <= typical <= high.
    """

    typical_px: Diameter
    low_px: Diameter
    high_px: Diameter
    network_um: Diameter | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.low_px <= self.typical_px <= self.high_px:
            sizes = f"{self.low_px:g}, {self.typical_px:g} and {self.high_px:g}"
            raise ArgumentError(f"expected low_px <= typical_px <= high_px, got {sizes}")

    @classmethod
    def of_images(cls, diameters_px: Sequence[float]) -> TrainedDiameters | None:
        """From the diameter of each training image's objects, in pixels of the network's input; None without images."""
        if not diameters_px:
            return None
        ascending = np.sort(np.asarray(diameters_px, dtype=np.float64))
        k = math.ceil(MOST * len(ascending)) - 1
        lows, highs = ascending[: len(ascending) - k], ascending[k:]
        shortest = int(np.argmin(highs / lows))
        of_three = float(np.median(ascending)), float(lows[shortest]), float(highs[shortest])
        return cls(*(float(f"{one:.3g}") for one in of_three))

    def scale_for(self, diameter_px: float, usual: float | None, tolerance: float = SAME_SIZE) -> float:
        """By which factor to enlarge an image whose objects have some diameter.

        The usual one as long as the network then sees objects within the range that it was trained on, or a little
        outside; else the one that brings them to the nearest end of the range.

        Args:
            diameter_px: of the objects, in pixels of the image, above 0.
            usual: the model's own factor; None where it brings images to one size: objects then become typical ones.
            tolerance: how many times larger or smaller than the range is still in it; default a tenth.

        Raises:
            ArgumentError: the diameter is not above 0.
        """
        if not 0 < diameter_px < float("inf"):
            raise ArgumentError(f"a diameter must be above 0, got {diameter_px:g}")
        if usual is None:
            return self.typical_px / diameter_px
        seen = diameter_px * usual
        if self.low_px / tolerance <= seen <= self.high_px * tolerance:
            return usual
        return min(max(usual, self.low_px / diameter_px), self.high_px / diameter_px)

    def scale_for_pixel_size(self, pixel_size_um: float, usual: float | None) -> float | None:
        """By which factor to enlarge an image whose pixels are so large that the network sees those it was trained on.

        Args:
            pixel_size_um: side of the image's pixels, in micrometres.
            usual: the model's own factor, which is kept where it is right within a tenth; None where there is none.

        Returns:
            None where the model was not trained on pixels of one size.
        """
        if self.network_um is None:
            return None
        wanted = pixel_size_um / self.network_um
        return usual if usual is not None and 1 / SAME_SIZE <= wanted / usual <= SAME_SIZE else wanted


@dataclass(frozen=True)
class SizeFinderInfo:
    """What a model file says of the small network in it that finds how large objects are.

    Attributes:
        error_octaves: nine of ten diameters that it found on images that it was not trained on were right to so many
            octaves (log2 of found / annotated): what is outside of `TrainedDiameters` by less is not.
        stretch_below: see `InputRules.stretch_below`.
        source: what it was trained on.
        licence: of its weights, an SPDX name.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    error_octaves: Annotated[float, Meta(ge=0, le=8)]
    stretch_below: Share = 0.3
    source: Text = ""
    licence: Text = ""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def tolerance(self) -> float:
        """How many times a found diameter may be off."""
        return max(2**self.error_octaves, SAME_SIZE)
