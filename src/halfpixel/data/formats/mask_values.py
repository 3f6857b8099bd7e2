"""What the numbers in a mask file stand for: objects, background, or neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation

from halfpixel.data.dataset import Issue
from halfpixel.data.formats.mask_files import check_size, is_lossy, read_numbers
from halfpixel.errors import AnnotationError

VOID = 255
"""Pascal VOC's number for the undecided border around its objects."""
VOID_BORDER_PX = 5
STUFF_BELOW = 24
"""Cityscapes' numbers of what is no object, such as road and sky; from here to `GROUPS_BELOW` are groups of objects."""
GROUPS_BELOW = 34
INSTANCES = range(24_000, 34_000)
"""Cityscapes' numbers of objects: 1,000 times the class, and a counter."""
LARGEST_COLOUR_GAP = 16
"""The channels of a grey JPEG differ by this at most."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class MaskValues:
    """The numbers of a mask file, as far as they stand for something.

    Attributes:
        numbers: `[h, w]` what stands for objects is above 0.
        ignored: `[h, w]` pixels that are neither objects nor background; None where there are none.
        issues: what was made of the file, and why.
    """

    numbers: Numbers
    ignored: npt.NDArray[np.bool_] | None = None
    issues: tuple[Issue, ...] = ()


def read_mask(path: Path, size_hw: tuple[int, int] | None = None, image: Path | None = None) -> MaskValues:
    """Read a label image or mask of whole numbers.

    Masks in grey levels, as JPEG and resizing leave them, are split at half of white (`soft_mask`). The border 255 of
    Pascal VOC (`void_region`) and Cityscapes' groups of objects are neither objects nor background, its other numbers
    under 1,000 are background (`stuff_region`).

    Args:
        path: the mask file.
        size_hw: the size of its image. Default: any.
        image: the image, for the issues.

    Raises:
        ImageError: the file is missing, damaged or not an image.
        AnnotationError: its numbers are not whole, it has colours, is of another size, or is a JPEG of more than black
            and white.
    """
    array = read_numbers(path)
    lossy = is_lossy(path)
    if array.ndim == 3:
        array = _grey(array, LARGEST_COLOUR_GAP if lossy else 0)
    if array.ndim == 3:
        raise AnnotationError(f"{path}: {array.shape[2]} channels a pixel; a label image has one number, not a colour")
    numbers = _whole_numbers(array, path)
    if size_hw is not None:
        check_size(path, numbers.shape, size_hw)
    white = int(np.iinfo(array.dtype).max) if array.dtype in (np.uint8, np.uint16) else None
    if lossy and not _is_black_and_white(numbers):
        raise AnnotationError(f"{path}: the numbers of objects do not survive in a JPEG; save it as PNG or TIFF")
    if white is not None and (lossy or _is_soft(numbers, white)):
        why = "a JPEG" if lossy else "it has grey levels, as after resizing"
        issue = Issue("soft_mask", path, "", f"{why}: what is at least half white was taken as objects", image)
        return MaskValues(np.where(numbers > white // 2, white, 0), None, (issue,) if numbers.any() else ())
    if (groups := _cityscapes(numbers)) is not None:
        issue = Issue("stuff_region", path, "", "Cityscapes' numbers under 1,000 are no objects", image)
        return MaskValues(np.where(numbers >= INSTANCES.start, numbers, 0), groups, (issue,))
    if array.dtype == np.uint8 and _has_void(numbers):
        issue = Issue(
            "void_region", path, "", f"{VOID} is the border around objects: neither these nor background", image
        )
        return MaskValues(np.where(numbers == VOID, 0, numbers), numbers == VOID, (issue,))
    return MaskValues(numbers)


def _grey(array: npt.NDArray[Any], gap: int) -> npt.NDArray[Any]:
    """One channel of several that are alike; opacity is left out. Otherwise the array as it is."""
    colours = array[..., : 1 if array.shape[2] < 3 else 3]
    if array.dtype.kind not in "bui" or not array.shape[2]:
        return array
    if (colours.max(axis=2).astype(np.int64) - colours.min(axis=2) > gap).any():
        return array
    one: npt.NDArray[Any] = colours[..., colours.shape[2] // 2]
    return one


def _whole_numbers(array: npt.NDArray[Any], path: Path) -> Numbers:
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            numbers = np.where(np.abs(array) < 2**53, array, np.nan).astype(np.int64)
        if not (numbers == array).all():
            raise AnnotationError(f"{path}: expected whole numbers, got {array.dtype} with fractions")
        return numbers
    if array.dtype.kind not in "bui":
        raise AnnotationError(f"{path}: expected whole numbers, got {array.dtype}")
    return array.astype(np.int64)


def _is_black_and_white(numbers: Numbers) -> bool:
    """Whether nearly everything is nearly black or nearly white, or all is black."""
    grey, white = np.count_nonzero((numbers >= 64) & (numbers < 192)), np.count_nonzero(numbers >= 192)
    return not numbers.any() or bool(white > 0 and grey < white / 2)


def _is_soft(numbers: Numbers, white: int) -> bool:
    """Whether a mask of black and white has grey edges: no object's number fills an area, but for white."""
    grey = (numbers > 0) & (numbers < white)
    n = np.count_nonzero(grey)
    if n == 0 or np.count_nonzero(numbers == white) < n / 4 or len(np.unique(numbers[grey])) < 3:
        return False
    inner, middle = grey[1:-1, 1:-1], numbers[1:-1, 1:-1]
    around = (numbers[:-2, 1:-1], numbers[2:, 1:-1], numbers[1:-1, :-2], numbers[1:-1, 2:])
    flat = inner & np.logical_and.reduce([middle == one for one in around])
    return bool(np.count_nonzero(flat) < n / 10)


def _cityscapes(numbers: Numbers) -> npt.NDArray[np.bool_] | None:
    """Where Cityscapes has groups of objects, if the numbers are Cityscapes'."""
    values = np.unique(numbers)
    objects, others = values[values >= GROUPS_BELOW], values[(values > 0) & (values < GROUPS_BELOW)]
    if not len(objects) or not len(others) or objects[0] < INSTANCES.start or objects[-1] >= INSTANCES.stop:
        return None
    return (numbers >= STUFF_BELOW) & (numbers < GROUPS_BELOW)


def _has_void(numbers: Numbers) -> bool:
    """Whether 255 is no object's number: it comes without a 254, and most of it lies along other objects."""
    void = numbers == VOID
    others = (numbers > 0) & ~void
    if not void.any() or not others.any() or numbers[others].max() == VOID - 1:
        return False
    near = binary_dilation(others, iterations=VOID_BORDER_PX)
    return bool(np.count_nonzero(near & void) > np.count_nonzero(void) / 2)
