"""The objects of COCO files: boxes, masks and labels of single entries, and all of an image together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from halfpixel.data.formats.coco_entries import is_id
from halfpixel.data.formats.json_files import json_type
from halfpixel.data.formats.mask_sizes import PlacedCrop, read_run_lengths
from halfpixel.data.formats.polygons import check_numbers, rasterise, to_string
from halfpixel.data.images.container import MAX_PIXELS
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
    mask: PlacedCrop | None
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


def read_area(area: Any) -> float:
    """An area in pixels.

    Raises:
        ValueError: it is not a finite number from 0 up.
    """
    check_numbers("area", [area])
    if area < 0:
        raise ValueError(f"the area {area:g} is negative")
    return float(area)


def tight_box(crop: rle.Crop, offset_xy: tuple[int, int]) -> Box:
    """The corners of a crop."""
    x, y = offset_xy
    return float(x), float(y), float(x + crop.shape[1]), float(y + crop.shape[0])


def read_mask(segmentation: object, size_hw: tuple[int, int]) -> PlacedCrop:
    """A mask of polygons or run lengths as a boolean crop `[h, w]` and its first pixel `(x, y)`.

    Raises:
        ValueError: it is neither, or does not fit the image.
    """
    if isinstance(segmentation, list):
        return rasterise(segmentation, size_hw)
    if isinstance(segmentation, dict):
        return read_run_lengths(segmentation, size_hw)
    raise ValueError(f"'segmentation' must be polygons or run lengths, got a JSON {json_type(segmentation)}")


def read_masks(entries: Sequence[Any], sizes_hw: Mapping[int, tuple[int, int]]) -> dict[int, PlacedCrop]:
    """The masks of many entries by their places, those of an image decoded together.

    Args:
        entries: as they stand in the file. Those that something is wrong with, or that are no strings, are left out:
            `read_mask` takes or refuses them one by one.
        sizes_hw: the size of each image by its id.
    """
    by_image: dict[int, dict[int, str]] = {}
    for k, entry in enumerate(entries):
        image_id: Any = entry.get("image_id") if isinstance(entry, dict) else None
        size_hw = sizes_hw.get(image_id) if is_id(image_id) else None
        text = None if size_hw is None else _string_of(entry.get("segmentation"), size_hw)
        if text is not None:
            by_image.setdefault(image_id, {})[k] = text
    masks: dict[int, PlacedCrop] = {}
    for image_id, texts in by_image.items():
        try:
            counts = rle.decompress_all(list(texts.values()))
            found = rle.decode_to_crops(counts, sizes_hw[image_id], at_most_px=MAX_PIXELS)
        except ValueError:  # of one of them; alone, it says which
            continue
        masks |= zip(texts, found, strict=True)
    return masks


def _string_of(segmentation: object, size_hw: tuple[int, int]) -> str | None:
    """Run lengths as a string, where they are one or polygons that can be used."""
    if isinstance(segmentation, list):
        try:
            return to_string(segmentation, size_hw)
        except ValueError:
            return None
    if not isinstance(segmentation, dict) or segmentation.get("size") != list(size_hw):
        return None
    counts = segmentation.get("counts")
    return counts if isinstance(counts, str) else None


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
