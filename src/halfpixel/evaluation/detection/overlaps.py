"""How much objects overlap: by their masks, or by their boxes where there are no masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError
from halfpixel.ops.mask_overlap import PlacedCrops, common_pixels
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Kind = Literal["mask", "box"]
"""What objects are compared by."""

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Areas = Indices | Floats


def kind_of_comparison(dataset: Dataset, *predictions: Sequence[Instances]) -> Kind:
    """What a whole comparison goes by: masks, or boxes as soon as one side has boxes only.

    Args:
        dataset: the annotations.
        predictions: of each model, one per sample, before they are cut at a score threshold.
    """
    annotated = (objects for sample in dataset.samples for objects in (sample.objects, sample.ignored))
    return "box" if boxes_only(annotated) or any(map(found_boxes_only, predictions)) else "mask"


def found_boxes_only(predictions: Sequence[Instances]) -> bool:
    """Whether a model finds boxes only, also where it found nothing."""
    return boxes_only(predictions) or (len(predictions) > 0 and all(one.masks is None for one in predictions))


def boxes_only(several: Iterable[Instances]) -> bool:
    """Whether some objects have no masks; an image without objects says nothing."""
    return any(len(one) > 0 and one.masks is None for one in several)


def reduced_to(kind: Kind, objects: Instances) -> Instances:
    """The same objects with what they are compared by: masks, also where there is no object, or no masks.

    Raises:
        ArgumentError: objects with boxes only, and masks are asked for.
    """
    return replace(objects, masks=None if kind == "box" else masks_of(objects))


def masks_of(objects: Instances) -> CropMasks:
    """The masks, which may be missing only where there is no object.

    Raises:
        ArgumentError: objects with boxes only.
    """
    if objects.masks is not None:
        return objects.masks
    if len(objects) == 0:
        return CropMasks.empty(objects.size_hw)
    raise ArgumentError(f"a comparison by masks needs masks, and these {len(objects)} objects have boxes only")


def iou_matrix(a: Instances, b: Instances, kind: Kind = "mask") -> npt.NDArray[np.float32]:
    """Intersection over union of every object in `a` with every object in `b`, as `[n_a, n_b]` in 0..1.

    Two empty masks, or boxes, have an IoU of 0.

    Raises:
        ArgumentError: see `intersections`.
    """
    return iou_from_areas(*intersections(a, b, kind))


def intersections(a: Instances, b: Instances, kind: Kind = "mask") -> tuple[Areas, Areas, Areas]:
    """What every two objects have in common `[n_a, n_b]`, and the areas of both, in pixels: whole ones of masks.

    Raises:
        ArgumentError: objects with boxes only for masks, or of images of different sizes.
    """
    if a.size_hw != b.size_hw:
        raise ArgumentError(f"objects of images of different sizes: {a.size_hw} and {b.size_hw} (height, width)")
    if kind == "mask":
        return _mask_intersections(masks_of(a), masks_of(b))
    boxes_a, boxes_b = (one.boxes_xyxy.double().numpy() for one in (a, b))
    return box_intersections(boxes_a, boxes_b), areas_px(a, "box"), areas_px(b, "box")


def box_intersections(a_xyxy: Floats, b_xyxy: Floats) -> Floats:
    """The area `[n_a, n_b]` that every two boxes (`[n, 4]`) have in common."""
    first = np.maximum(a_xyxy[:, None, :2], b_xyxy[None, :, :2])
    last = np.minimum(a_xyxy[:, None, 2:], b_xyxy[None, :, 2:])
    common: Floats = (last - first).clip(min=0).prod(2)
    return common


def areas_px(objects: Instances, kind: Kind) -> Floats:
    """`[n]` the areas of their masks or boxes.

    Raises:
        ArgumentError: objects with boxes only, and masks are asked for.
    """
    if kind == "mask":
        found: Floats = masks_of(objects).areas_px().double().numpy()
    else:
        sides = objects.boxes_xyxy.double()
        found = (sides[:, 2:] - sides[:, :2]).clamp(min=0).prod(1).numpy()
    return found


def iou_from_areas(common_px: Areas, a_px: Areas, b_px: Areas) -> npt.NDArray[np.float32]:
    """Intersection over union from what `intersections` gives."""
    unions = a_px[:, None] + b_px[None, :] - common_px
    overlaps: npt.NDArray[np.float32] = (common_px / np.where(unions > 0, unions, 1)).astype(np.float32)
    return overlaps


def _mask_intersections(a: CropMasks, b: CropMasks) -> tuple[Indices, Indices, Indices]:
    placed_a, placed_b = PlacedCrops.of(a.placed()), PlacedCrops.of(b.placed())
    found_a, found_b, pixels = common_pixels(placed_a, placed_b)
    common_px = np.zeros((len(a), len(b)), dtype=np.int64)
    common_px[found_a, found_b] = pixels
    return common_px, placed_a.areas_px, placed_b.areas_px
