"""What can be wrong with the objects of one image."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from halfpixel.data.dataset import Dataset, Issue, Sample
from halfpixel.data.formats.coco import read_coco_polygons
from halfpixel.data.formats.polygons import crossing, overhang_px, polygon_area_px
from halfpixel.errors import AnnotationError
from halfpixel.ops import boxes
from halfpixel.ops.mask_nms import suppress_masks
from halfpixel.structures.masks import CropMasks

SPECK_PX = 10
"""A mask of fewer pixels is probably a slip of the hand."""
DUPLICATE_IOU = 0.9
"""Two masks of a class that overlap more than this are one object, annotated twice."""
LEAST_BOX_IOU = 0.5
"""A box and the tight box of its mask overlap at least this much, but for objects of a few pixels."""
LARGEST_AREA_RATIO = 1.5
"""An area in the file and the mask's differ by at most this factor, and `LARGEST_AREA_GAP_PX`."""
LARGEST_AREA_GAP_PX = 20
LARGEST_OVERHANG_PX = 1.0
"""Drawing tools often end polygons half a pixel outside of the image."""
BLOCK = 500
"""Boxes that are compared with all others at a time."""


def check_sample(sample: Sample) -> Iterator[Issue]:
    """The objects of an image that are probably wrong."""
    masks = sample.objects.masks
    assert masks is not None
    areas, tight = masks.areas_px(), masks.boxes_xyxy()
    overlaps = _iou_in_pairs(sample.objects.boxes_xyxy, tight)
    for k, (area, given, overlap) in enumerate(
        zip(areas.tolist(), sample.areas_px.tolist(), overlaps.tolist(), strict=True)
    ):
        if area < SPECK_PX:
            yield _object_issue("speck", sample, k, f"{area} of at least {SPECK_PX} pixels")
            continue
        if overlap < LEAST_BOX_IOU:
            box, own = sample.objects.boxes_xyxy[k], tight[k]
            yield _object_issue("box_off_mask", sample, k, f"its box is {_corners(box)}, its mask's {_corners(own)}")
        ratio = max(given, area) / max(min(given, area), 1e-9)
        if ratio > LARGEST_AREA_RATIO and abs(given - area) > LARGEST_AREA_GAP_PX:
            yield _object_issue("area_off_mask", sample, k, f"an area of {given:g}, but its mask has {area:,} pixels")
    yield from _duplicates(sample, masks, tight)


def check_outlines(dataset: Dataset) -> Iterator[Issue]:
    """Polygons that were mended when they were read, as far as the data set is a COCO file."""
    try:
        polygons = read_coco_polygons(dataset.path) if dataset.path.is_file() else {}
    except AnnotationError:  # of another format
        return
    for sample in dataset.samples if polygons else ():
        for k, number in enumerate(sample.annotation_ids):
            for polygon in polygons.get((sample.image_id, number), ()):
                if (found := _outline_issue(polygon, sample.size_hw)) is not None:
                    kind, what = found
                    yield _object_issue(kind, sample, k, what)


def _outline_issue(polygon: list[float], size_hw: tuple[int, int]) -> tuple[str, str] | None:
    """The kind of issue with a polygon, and its cause."""
    if len(polygon) < 6:
        return "degenerate_polygon", f"a polygon of {len(polygon) // 2} points"
    if (beyond := overhang_px(polygon, size_hw)) > LARGEST_OVERHANG_PX:
        return "polygon_beyond_image", f"a polygon reaches {beyond:.0f} px beyond the {size_hw[1]} x {size_hw[0]} image"
    if (at := crossing(polygon)) is not None:
        return "self_crossing_polygon", f"a polygon crosses itself at ({at[0]:.1f}, {at[1]:.1f})"
    if polygon_area_px(polygon) == 0:
        return "degenerate_polygon", "a polygon without area"
    return None


def _duplicates(sample: Sample, masks: CropMasks, tight: torch.Tensor) -> Iterator[Issue]:
    """Pairs of one class whose masks are practically the same; only those whose boxes agree are compared."""
    labels = sample.objects.labels
    for first in range(0, len(masks), BLOCK):
        block = slice(first, first + BLOCK)
        agreeing = boxes.iou(tight[block], tight) > DUPLICATE_IOU / 2
        agreeing &= labels[block, None] == labels[None]
        for row, other in torch.nonzero(agreeing.triu(first + 1)).tolist():
            pair = masks[[first + row, other]]
            alone = torch.zeros(2, dtype=torch.int64)
            if len(suppress_masks(pair.crops, pair.offsets_xy, torch.ones(2), alone, DUPLICATE_IOU)) == 1:
                twin = sample.annotation_ids[first + row]
                yield _object_issue("duplicate_object", sample, other, f"practically the same as annotation {twin}")


def _iou_in_pairs(a_xyxy: torch.Tensor, b_xyxy: torch.Tensor) -> torch.Tensor:
    """IoU of each box with its counterpart."""
    low, high = torch.maximum(a_xyxy[:, :2], b_xyxy[:, :2]), torch.minimum(a_xyxy[:, 2:], b_xyxy[:, 2:])
    overlap = (high - low).clamp(min=0).prod(dim=1)
    return overlap / (boxes.area(a_xyxy) + boxes.area(b_xyxy) - overlap).clamp(min=1e-9)


def _object_issue(kind: str, sample: Sample, k: int, what: str) -> Issue:
    return Issue(kind, sample.path, f"annotation {sample.annotation_ids[k]}", what, sample.path, (k,))


def _corners(box: torch.Tensor) -> str:
    x0, y0, x1, y1 = box.tolist()
    return f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
