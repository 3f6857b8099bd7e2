"""How much objects overlap: by their masks, or by their boxes where one side has no masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ArgumentError
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Kind = Literal["mask", "box"]
"""What objects are compared by."""

Indices = npt.NDArray[np.int64]
Areas = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def compared_by(predictions: Iterable[Instances]) -> Kind:
    """Boxes as soon as some predicted objects have nothing else."""
    return "box" if any(len(one) and one.masks is None for one in predictions) else "mask"


def alike(*several: Instances) -> list[Instances]:
    """The same objects, all of them with masks, or none where some have boxes only."""
    if compared_by(several) == "box":
        return [replace(one, masks=None) for one in several]
    return [replace(one, masks=CropMasks.empty(one.size_hw)) if one.masks is None else one for one in several]


def iou_matrix(a: Instances, b: Instances) -> npt.NDArray[np.float32]:
    """Intersection over union of every object in `a` with every object in `b`, as `[n_a, n_b]` in 0..1.

    Two empty masks or boxes have an IoU of 0.

    Raises:
        ArgumentError: the objects are of images of different sizes.
    """
    return iou_from_areas(*intersections(a, b))


def intersections(a: Instances, b: Instances) -> tuple[Areas, Areas, Areas]:
    """What every two objects have in common `[n_a, n_b]`, and the areas of both, in pixels: whole ones of masks.

    Raises:
        ArgumentError: the objects are of images of different sizes.
    """
    if a.size_hw != b.size_hw:
        raise ArgumentError(f"objects of images of different sizes: {a.size_hw} and {b.size_hw} (height, width)")
    if a.masks is not None and b.masks is not None:
        return mask_intersections(a.masks, b.masks)
    boxes_a, boxes_b = (one.boxes_xyxy.double().numpy() for one in (a, b))
    first = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    last = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    return (last - first).clip(min=0).prod(2), areas_px(a, "box"), areas_px(b, "box")


def areas_px(objects: Instances, kind: Kind) -> npt.NDArray[np.float64]:
    """`[n]` the areas of their masks or boxes."""
    if kind == "mask" and objects.masks is not None:
        found: npt.NDArray[np.float64] = objects.masks.areas_px().double().numpy()
    else:
        found = (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).double().clamp(min=0).prod(1).numpy()
    return found


def iou_from_areas(common_px: Areas, a_px: Areas, b_px: Areas) -> npt.NDArray[np.float32]:
    """Intersection over union from what `intersections` gives."""
    unions = a_px[:, None] + b_px[None, :] - common_px
    overlaps: npt.NDArray[np.float32] = (common_px / np.where(unions > 0, unions, 1)).astype(np.float32)
    return overlaps


def mask_intersections(a: CropMasks, b: CropMasks) -> tuple[Indices, Indices, Indices]:
    """Common pixels `[n_a, n_b]` of every two masks, and the areas of both.

    Only pairs whose crops overlap are looked at, and only where they do.

    Raises:
        ArgumentError: the masks are on canvases of different sizes.
    """
    if a.size_hw != b.size_hw:
        raise ArgumentError(f"masks on canvases of different sizes: {a.size_hw} and {b.size_hw} (height, width)")
    crops_a, boxes_a, areas_a = _arrays(a)
    crops_b, boxes_b, areas_b = _arrays(b)
    first = np.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    last = np.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    found_a, found_b = np.nonzero((first < last).all(2))
    # each pair's window, in the coordinates of either crop
    windows_a = _windows(first[found_a, found_b], last[found_a, found_b], boxes_a[found_a])
    windows_b = _windows(first[found_a, found_b], last[found_a, found_b], boxes_b[found_b])
    common_px = np.zeros((len(a), len(b)), dtype=np.int64)
    for i, j, (x0, y0, x1, y1), (u0, v0, u1, v1) in zip(
        found_a.tolist(), found_b.tolist(), windows_a, windows_b, strict=True
    ):
        common_px[i, j] = np.count_nonzero(crops_a[i][y0:y1, x0:x1] & crops_b[j][v0:v1, u0:u1])
    return common_px, areas_a, areas_b


def _windows(first: Indices, last: Indices, boxes: Indices) -> list[list[int]]:
    windows: list[list[int]] = np.concatenate([first - boxes[:, :2], last - boxes[:, :2]], axis=1).tolist()
    return windows


def _arrays(masks: CropMasks) -> tuple[list[npt.NDArray[np.bool_]], Indices, Indices]:
    placed = [(crop.numpy(), x, y) for crop, (x, y) in masks.placed()]
    boxes = [[x, y, x + crop.shape[1], y + crop.shape[0]] for crop, x, y in placed]
    areas = [np.count_nonzero(crop) for crop, _, _ in placed]
    return (
        [crop for crop, _, _ in placed],
        np.array(boxes, dtype=np.int64).reshape(-1, 4),
        np.array(areas, dtype=np.int64),
    )
