"""The objects of COCO files: boxes, masks and labels of single entries, and all of an image together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from halfpixel.data.formats.coco_entries import Entry
from halfpixel.data.formats.json_files import json_type
from halfpixel.data.formats.polygons import check_numbers, rasterise
from halfpixel.ops import rle
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CocoObject:
    """One entry: its label, its score (1 where it is annotated), its box, and where it has one its mask.

    Attributes:
        mask: a boolean crop `[h, w]` and its first pixel `(x, y)`.
        area_px: as the file gives it.
    """

    label: int
    score: float
    box_xyxy: Box
    mask: tuple[rle.Crop, tuple[int, int]] | None
    area_px: float = math.nan


def read_box(bbox: Any) -> Box:
    """The corners of a box `[left, top, width, height]` in pixels.

    Raises:
        ValueError: it is not four finite numbers, or has a negative side.
    """
    check_numbers("bbox", bbox, 4)
    x, y, width, height = bbox
    if width < 0 or height < 0:
        raise ValueError(f"the box {bbox} has a negative width or height")
    return float(x), float(y), float(x + width), float(y + height)


def tight_box(crop: rle.Crop, offset_xy: tuple[int, int]) -> Box:
    """The corners of a crop."""
    x, y = offset_xy
    return float(x), float(y), float(x + crop.shape[1]), float(y + crop.shape[0])


def read_mask(segmentation: object, size_hw: tuple[int, int]) -> tuple[rle.Crop, tuple[int, int]]:
    """A mask of polygons or run lengths as a boolean crop `[h, w]` and its first pixel `(x, y)`.

    Raises:
        ValueError: it is neither, or does not fit the image.
    """
    if isinstance(segmentation, list):
        return rasterise(segmentation, size_hw)
    if isinstance(segmentation, dict):
        return rle.decode_to_crop(_rle_counts(segmentation, size_hw), size_hw)
    raise ValueError(f"'segmentation' must be polygons or run lengths, got a JSON {json_type(segmentation)}")


def _rle_counts(segmentation: Entry, size_hw: tuple[int, int]) -> rle.Counts:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        raise ValueError(f"the run lengths are for a size [height, width] of {size}, the image has {list(size_hw)}")
    if isinstance(counts, str):
        return rle.decompress(counts)
    if not isinstance(counts, list) or any(type(one) is not int or one < 0 for one in counts):
        raise ValueError("the run lengths' 'counts' must be a string or a list of whole numbers from 0 up")
    if sum(counts) != size_hw[0] * size_hw[1]:  # here, as larger numbers than 64 bits hold may come in
        raise ValueError(f"the run lengths add up to {sum(counts)} pixels, the image has {size_hw[0] * size_hw[1]}")
    return np.array(counts, dtype=np.int64)


def to_instances(
    objects: Sequence[CocoObject], size_hw: tuple[int, int], class_names: tuple[str, ...], with_masks: bool
) -> Instances:
    """The objects of one image, in their order."""
    masks = [one.mask for one in objects if one.mask is not None]
    return Instances(
        size_hw=size_hw,
        boxes_xyxy=torch.tensor([one.box_xyxy for one in objects], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([one.score for one in objects], dtype=torch.float32),
        labels=torch.tensor([one.label for one in objects], dtype=torch.int64),
        class_names=class_names,
        masks=CropMasks.from_crops(masks, size_hw) if with_masks else None,
    )
