"""Every object as a picture of its own."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ImageError
from halfpixel.structures.instances import Instances

CutOut = npt.NDArray[np.uint8]
"""`[h, w, 4]` RGBA, 0..255."""


def cut_out(image: npt.NDArray[np.uint8], objects: Instances) -> Iterator[CutOut]:
    """Cut each object out of its image, as the tight crop around it: opaque on the object, transparent elsewhere.

    Colours stay under the transparent pixels, so that a cut-out can be scaled without dark fringes.

    Args:
        image: `[h, w, 3]` uint8.
        objects: on that image; with `masks` None each box is cut out whole, every pixel whose centre is inside.

    Yields:
        `[h, w, 4]` uint8, one for each object in their order. An object without pixels gives one transparent pixel,
        so that the k-th cut-out is always the k-th object.

    Raises:
        ImageError: the image is not `[h, w, 3]` uint8 of the size that `objects` states.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ImageError(f"expected an image [h, w, 3] of uint8, got {list(image.shape)} of {image.dtype}")
    if image.shape[:2] != objects.size_hw:
        raise ImageError(f"the objects are on an image of {objects.size_hw} (h, w), this one has {image.shape[:2]}")
    return _mask_cut_outs(image, objects)


def _mask_cut_outs(image: npt.NDArray[np.uint8], objects: Instances) -> Iterator[CutOut]:
    for mask, (x, y) in _masks(objects):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if len(rows) == 0:
            yield np.zeros((1, 1, 4), dtype=np.uint8)
            continue
        mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = y + int(rows[0]), x + int(columns[0])
        colours = image[top : top + mask.shape[0], left : left + mask.shape[1]]
        yield np.dstack([colours, mask.astype(np.uint8) * 255])


def _masks(objects: Instances) -> Iterator[tuple[npt.NDArray[np.bool_], tuple[int, int]]]:
    """Each object's crop and its first pixel (x, y)."""
    if objects.masks is not None:
        yield from ((crop.numpy(), left_top) for crop, left_top in objects.masks.placed())
        return
    height, width = objects.size_hw
    # a pixel j is inside when low <= j + 0.5 < high
    for left, top, right, bottom in (objects.boxes_xyxy.double() - 0.5).ceil().long().tolist():
        left, top = min(max(left, 0), width), min(max(top, 0), height)
        right, bottom = min(max(right, left), width), min(max(bottom, top), height)
        yield np.ones((bottom - top, right - left), dtype=np.bool_), (left, top)
