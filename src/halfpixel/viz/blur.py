"""Objects made unrecognisable."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.structures.instances import Instances
from halfpixel.viz.overlay import Picture

CELLS_ACROSS = 6
"""Mosaic cells on the longer side of an object."""
SMALLEST_CELL_PX = 4
MARGIN = 0.05
"""How far the mosaic reaches beyond the mask, over the object's longer side."""
SMALLEST_MARGIN_PX = 2

Region = tuple[npt.NDArray[np.bool_], tuple[int, int]]
"""A part of the picture `[h, w]` and its first pixel (x, y)."""


def blurred(picture: Picture, objects: Instances, class_names: Collection[str] | None = None) -> Picture:
    """Cover each chosen object with a coarse mosaic, 6 cells long, that reaches a little beyond its mask.

    Inside, only the mean colour of each cell is left, so what was finer cannot be brought back. The shape of the object
    remains, and so may clothes or a place that tell who it is. Where objects overlap, the coarser mosaic wins.

    Args:
        picture: `[h, w, 3]` uint8; it is not changed.
        objects: on that picture; without masks the boxes are covered. So is the box of an object whose mask is empty.
        class_names: the classes to cover; None for all of them.

    Returns:
        A new picture.

    Raises:
        ImageError: the picture is not `[h, w, 3]` uint8 of the size that `objects` states.
        ArgumentError: a class that the objects' model does not know.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.shape[:2] != objects.size_hw:
        raise ImageError(
            f"expected a picture [h, w, 3] of uint8 on {objects.size_hw} (h, w), got {list(picture.shape)} of "
            f"{picture.dtype}"
        )
    wanted = set(objects.class_names if class_names is None else class_names)
    if unknown := wanted - set(objects.class_names):
        raise ArgumentError(f"there is no class {min(unknown)!r}; there are {', '.join(objects.class_names)}")
    regions = [
        region
        for region, label in zip(_regions(objects), objects.labels.tolist(), strict=True)
        if objects.class_names[label] in wanted
    ]
    covered = picture.copy()
    for mask, (x, y) in sorted(regions, key=lambda region: max(region[0].shape)):
        if mask.size == 0:
            continue
        part = covered[y : y + mask.shape[0], x : x + mask.shape[1]]
        part[mask] = _mosaic(part, mask)[mask]
    return covered


def _regions(objects: Instances) -> list[Region]:
    """What to cover of each object, with its margin."""
    boxes = [_box_region(objects, k) for k in range(len(objects))]
    if objects.masks is None:
        return boxes
    regions = []
    for box, (crop, (x, y)) in zip(boxes, objects.masks.placed(), strict=True):
        regions.append(_with_margin(crop.numpy(), (x, y), objects.size_hw) if crop.any() else box)
    return regions


def _box_region(objects: Instances, k: int) -> Region:
    height, width = objects.size_hw
    box = objects.boxes_xyxy[k].double().numpy()
    left, top = np.floor(box[:2]).astype(int).clip(0, (width, height)).tolist()
    right, bottom = np.ceil(box[2:]).astype(int).clip((left, top), (width, height)).tolist()
    return _with_margin(np.ones((bottom - top, right - left), dtype=np.bool_), (left, top), objects.size_hw)


def _with_margin(mask: npt.NDArray[np.bool_], first_xy: tuple[int, int], size_hw: tuple[int, int]) -> Region:
    """The mask grown on all sides, cut to the picture."""
    margin = max(round(MARGIN * max(mask.shape)), SMALLEST_MARGIN_PX)
    if not mask.any():
        return mask, first_xy
    grown = distance_transform_edt(~np.pad(mask, margin)) <= margin
    left, top = first_xy[0] - margin, first_xy[1] - margin
    region = grown[max(-top, 0) : size_hw[0] - top, max(-left, 0) : size_hw[1] - left]
    return region, (max(left, 0), max(top, 0))


def _mosaic(part: Picture, mask: npt.NDArray[np.bool_]) -> Picture:
    """Each cell of a grid in the mean colour of its pixels in the mask."""
    height, width = mask.shape
    cell = max(-(-max(height, width) // CELLS_ACROSS), SMALLEST_CELL_PX)
    rows, columns = np.arange(height) // cell, np.arange(width) // cell
    number = rows[:, None] * (columns[-1] + 1) + columns[None]
    pixels = np.bincount(number.ravel(), weights=mask.ravel()).clip(min=1)
    means = [
        np.bincount(number.ravel(), weights=np.where(mask, channel, 0).ravel()) / pixels
        for channel in np.moveaxis(part, 2, 0)
    ]
    return np.asarray(np.rint(np.stack(means, 1)).astype(np.uint8)[number])
