"""How many objects there are on an area, with or without correction for the image's border."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ArgumentError
from halfpixel.measure.pixel_masks import pixel_masks
from halfpixel.structures.instances import Instances

Frame = tuple[int, int, int, int]
"""Left, top, right, bottom in whole pixels; it holds the pixels left to right - 1 and top to bottom - 1."""


@dataclass(frozen=True)
class Density:
    """Objects and the area they were counted on.

    Attributes:
        counted: objects.
        area_px: pixels of the area.
        unbiased: counted with the counting frame.
        pixel_size_um: side of a pixel in micrometres, if it is known.
    """

    counted: int
    area_px: int
    unbiased: bool
    pixel_size_um: float | None = None

    @property
    def per_megapixel(self) -> float:
        """Objects on a million pixels."""
        return self.counted / self.area_px * 1e6

    @property
    def per_mm2(self) -> float | None:
        """Objects on a square millimetre; None without a pixel size."""
        return None if self.pixel_size_um is None else self.per_megapixel / self.pixel_size_um**2


def density(
    objects: Instances, *, unbiased: bool = False, guard_px: int = 0, pixel_size_um: float | None = None
) -> Density:
    """Objects per area of an image; those without pixels are not counted.

    Counting everything that is seen counts objects that are cut by the border for this image and again for the next
    one: too many, the more so the larger the objects and the smaller the image. The unbiased counting frame (see
    `counted_in_frame`) mends that. Its left and top edges lie a pixel inside the image, so that one sees what touches
    them; what hangs over the right and bottom edges counts.

    Args:
        objects: of one image; select a class beforehand, as in `objects[objects.labels == 0]`.
        unbiased: use the counting frame.
        guard_px: keep the frame this far away from the border on all sides. Without such a strip, that an object
            touches a prolonged edge outside of the image goes unseen; that concerns two corners, and matters where
            objects are large beside the image or crooked. A strip as wide as the largest object excludes it.
        pixel_size_um: side of a pixel in micrometres.

    Raises:
        ArgumentError: the guard leaves nothing of the image, or is negative.
    """
    height, width = objects.size_hw
    if not unbiased:
        counted = int((pixel_masks(objects).areas_px() > 0).sum())
        return Density(counted, height * width, False, pixel_size_um)
    first = max(guard_px, 1)
    left, top, right, bottom = frame = (first, first, width - guard_px, height - guard_px)
    if guard_px < 0 or right <= left or bottom <= top:
        raise ArgumentError(f"a guard of {guard_px} pixels leaves no counting frame in an image of {width} x {height}")
    counted = int(counted_in_frame(objects, frame).sum())
    return Density(counted, (right - left) * (bottom - top), True, pixel_size_um)


def counted_in_frame(objects: Instances, frame_xyxy: Frame) -> npt.NDArray[np.bool_]:
    """Which objects an unbiased counting frame counts: H. J. G. Gundersen 1977, doi:10.1111/j.1365-2818.1977.tb00062.x.

    Those that have a pixel in the frame and do not touch the forbidden line: the left edge, prolonged downwards without
    end, the top edge, and the right edge's prolongation upwards. (Gundersen's drawing has the bottom edge for the top
    one; it is a matter of choice.) Of frames that tile the plane each object is counted by exactly one, whatever its
    shape and size, which is why the mean over random frames is right.

    Args:
        objects: on one image; without masks each box counts as a filled rectangle.
        frame_xyxy: where the frame lies on the image, in whole pixels.

    Returns:
        `[n]`, true for the objects that count.
    """
    left, top, right, bottom = frame_xyxy
    counts = []
    for crop, (x, y) in pixel_masks(objects).placed():
        rows, columns = np.nonzero(crop.numpy())
        rows, columns = rows + y, columns + x
        inside = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
        beyond_line = np.where(rows < top, columns < right, columns < left)
        counts.append(bool(inside.any() and not beyond_line.any()))
    return np.array(counts, dtype=np.bool_)
