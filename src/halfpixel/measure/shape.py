"""The shape of one mask."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from skimage.measure import regionprops


class Shape(NamedTuple):
    """What is known of one mask, in pixels of its crop; NaN where it is undefined.

    Attributes:
        centroid_x: the mean of the pixels' centres.
        centroid_y: likewise.
        area: pixels.
        perimeter: by Crofton's formula in four directions. On discs of 5 to 40 pixels in radius it is right within 1%;
            skimage's `perimeter` is there from 4% too short to 4% too long.
        equivalent_diameter: of the disc of this area.
        major_axis: full length of the ellipse with the same second moments (those of the pixels' centres).
        minor_axis: likewise.
        eccentricity: of that ellipse, 0 (a circle) to 1 (a line).
        solidity: area over the pixels of the convex hull, above 0 to 1.
        orientation_deg: of the major axis, from the horizontal, counter-clockwise as one sees it, from 0 to below 180;
            undefined if both axes are equal.
    """

    centroid_x: float
    centroid_y: float
    area: float
    perimeter: float
    equivalent_diameter: float
    major_axis: float
    minor_axis: float
    eccentricity: float
    solidity: float
    orientation_deg: float


NO_SHAPE = Shape(*[math.nan] * len(Shape._fields))
"""Of an object without pixels."""


def shape_of(mask: npt.NDArray[np.bool_]) -> Shape:
    """Measure a mask, as `skimage.measure.regionprops` does; several pieces are measured as one.

    Args:
        mask: `[h, w]`, true on the object.
    """
    if not mask.any():
        return NO_SHAPE
    region = regionprops(mask.astype(np.uint8))[0]
    row, column = region.centroid
    major, minor = region.axis_major_length, region.axis_minor_length
    is_round = major - minor <= 1e-6 * major
    return Shape(
        # skimage's coordinates are 0 at the first pixel's centre, ours at its corner
        centroid_x=float(column) + 0.5,
        centroid_y=float(row) + 0.5,
        area=float(region.area),
        perimeter=float(region.perimeter_crofton),
        equivalent_diameter=float(region.equivalent_diameter_area),
        major_axis=float(major),
        minor_axis=float(minor),
        eccentricity=float(region.eccentricity),
        solidity=float(region.solidity),
        # skimage measures from the downward axis; rounded, so that a hair below 0 is not 180
        orientation_deg=math.nan if is_round else round(90 + math.degrees(region.orientation), 9) % 180,
    )
