"""COCO files: annotated data sets, results, and the data sets of predictions that halfpixel writes.

The format is described at https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfpixel.data.dataset import Dataset, Fault, Sample
from halfpixel.data.formats.coco_entries import (
    Entry,
    Keys,
    checked_entries,
    is_id,
    json_type,
    key_fault,
    list_of,
    load_json,
)
from halfpixel.data.formats.polygons import check_numbers, lies_outside, rasterise
from halfpixel.errors import AnnotationError
from halfpixel.ops import rle
from halfpixel.outputs.coco import image_entry, prediction_entries, write_coco_entries
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Box = tuple[float, float, float, float]

IMAGE_KEYS: Keys = {"id": int, "file_name": str, "width": int, "height": int}
CATEGORY_KEYS: Keys = {"id": int, "name": str}
ANNOTATION_KEYS: Keys = {"id": int, "image_id": int, "category_id": int, "segmentation": (list, dict)}
RESULT_KEYS: Keys = {"image_id": int, "category_id": int, "score": (int, float)}


class _LeftOutError(Exception):
    """One annotation is of no use, which does no harm to the others."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True)
class _Object:
    label: int
    score: float
    box_xyxy: Box
    mask: tuple[rle.Crop, tuple[int, int]] | None
    area_px: float = math.nan


def read_coco(annotations: Path, images: Path | None = None) -> Dataset:
    """Read a COCO data set of polygons, compressed or uncompressed run lengths.

    Boxes and areas are taken as the file gives them (in pixels), boxes cut to the image; where they are missing, or a
    box has no area, the mask's are taken. Regions with `iscrowd` become `Sample.ignored`. Labels count the categories
    by ascending id. What an image's entry holds beyond the usual keys becomes `Sample.attributes`.

    What is wrong with one annotation alone leaves it out and becomes a fault in `Dataset.warnings`. The kinds:
    `unusable_annotation` (a key that is missing or of the wrong type), `unknown_image` and `unknown_category` (not in
    the file), `unusable_box` (not four finite numbers, or a negative side), `unusable_polygon` (an odd number of
    coordinates, NaN), `unusable_run_lengths` (they do not fit the image), `unusable_area`, `outside_image` (nothing of
    the object is on it), `empty_mask` (no pixels, for example all polygons have less than three points). Annotations
    that share an id are all kept, with a fault `repeated_id`.

    Args:
        annotations: the JSON file.
        images: the folder that the file names start from. Default: `images` beside the annotation file, or else the
            folder that it lies in. Whether the images exist is not looked at.

    Raises:
        AnnotationError: the file is not COCO JSON, an image or category lacks a key, or two of them share an id.
    """
    path = Path(annotations)
    content = load_json(path)
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected a COCO data set (a JSON object), got a JSON {json_type(content)}")
    if images is None:
        images = path.parent / "images" if (path.parent / "images").is_dir() else path.parent
    image_entries = checked_entries(path, content, "images", IMAGE_KEYS)
    categories = sorted(checked_entries(path, content, "categories", CATEGORY_KEYS), key=lambda entry: int(entry["id"]))
    sizes_hw = {entry["id"]: (entry["height"], entry["width"]) for entry in image_entries}
    for image_id, (height, width) in sizes_hw.items():
        if height < 1 or width < 1:
            raise AnnotationError(f"{path}: image {image_id}: a size of {width} x {height} pixels")
    labels = {entry["id"]: k for k, entry in enumerate(categories)}

    files = {entry["id"]: images / entry["file_name"] for entry in image_entries}
    found: dict[int, list[tuple[Entry, _Object]]] = {image_id: [] for image_id in sizes_hw}
    entries = list_of(path, content, "annotations")
    warnings = _repeated_ids(path, entries)
    for k, entry in enumerate(entries):
        try:
            if (fault := key_fault(entry, ANNOTATION_KEYS)) is not None:
                raise _LeftOutError("unusable_annotation", f"it {fault}")
            read = _read_annotation(entry, sizes_hw, labels)
            found[entry["image_id"]].append((entry, read))
        except _LeftOutError as reason:
            numbers = entry if isinstance(entry, dict) else {}
            where = f"annotation {numbers['id']}" if is_id(numbers.get("id")) else f"annotations[{k}]"
            image = files.get(numbers["image_id"]) if is_id(numbers.get("image_id")) else None
            warnings.append(Fault(reason.kind, path, where, f"left out, {reason}", image))
    class_names = tuple(str(entry["name"]) for entry in categories)
    samples = tuple(_sample(entry, images, found.pop(entry["id"]), class_names) for entry in image_entries)
    return Dataset(path, class_names, tuple(labels), samples, tuple(warnings))


def read_coco_polygons(annotations: Path) -> dict[tuple[int, int], list[list[float]]]:
    """The polygons of a COCO file as they stand in it, to see what `read_coco` mended without a word.

    Returns:
        For the ids of image and annotation its polygons `[x, y, x, y, ...]` in pixels. Annotations that `read_coco`
        leaves out may be among them; run lengths are not.

    Raises:
        AnnotationError: the file cannot be opened or is not JSON.
    """
    content = load_json(Path(annotations))
    entries = content.get("annotations") if isinstance(content, dict) else None
    return {
        (entry["image_id"], entry["id"]): entry["segmentation"]
        for entry in (entries if isinstance(entries, list) else [])
        if key_fault(entry, ANNOTATION_KEYS) is None and isinstance(entry["segmentation"], list)
    }


def read_coco_results(path: Path, dataset: Dataset) -> list[Instances]:
    """Read predictions for the images of a data set.

    Args:
        path: a COCO results list (with boxes, masks or both), or a COCO data set whose annotations have a `score`, as
            `write_coco` makes it. In the latter, images and classes are paired with the data set's by name.
        dataset: what the predictions are for.

    Returns:
        For each sample, in the data set's order, its predictions by descending score (equal scores keep the file's
        order). Results of boxes alone have no masks.

    Raises:
        AnnotationError: the file is not one of these, an entry lacks a key or makes no sense, or it is about an image
            or category that the data set does not have.
    """
    path = Path(path)
    content = load_json(path)
    if isinstance(content, dict):
        samples = _pair_images(path, checked_entries(path, content, "images", {"id": int, "file_name": str}), dataset)
        labels = _pair_categories(checked_entries(path, content, "categories", CATEGORY_KEYS), dataset)
        entries = checked_entries(path, content, "annotations", RESULT_KEYS, unique=False)
    elif isinstance(content, list):
        samples = {sample.image_id: k for k, sample in enumerate(dataset.samples)}
        labels = {category_id: k for k, category_id in enumerate(dataset.category_ids)}
        entries = checked_entries(path, {"results": content}, "results", RESULT_KEYS, unique=False)
    else:
        raise AnnotationError(f"{path}: expected a list of COCO results, got a JSON {json_type(content)}")
    with_masks = any("segmentation" in entry for entry in entries) or not entries
    found: list[list[_Object]] = [[] for _ in dataset.samples]
    for k, entry in enumerate(entries):
        try:
            if entry["image_id"] not in samples:
                raise ValueError(f"the data set {dataset.path} has no image {entry['image_id']}")
            if entry["category_id"] not in labels:
                raise ValueError(f"the data set {dataset.path} has no such category {entry['category_id']}")
            index = samples[entry["image_id"]]
            size_hw = dataset.samples[index].size_hw
            found[index].append(_read_result(entry, size_hw, labels[entry["category_id"]], with_masks))
        except ValueError as fault:
            raise AnnotationError(f"{path}: result {k} (counted from 0): {fault}") from None
    return [
        _instances(sorted(objects, key=lambda one: -one.score), sample.size_hw, dataset.class_names, with_masks)
        for sample, objects in zip(dataset.samples, found, strict=True)
    ]


def write_coco(
    path: Path,
    images: Sequence[tuple[int, str, Instances]],
    class_names: Sequence[str],
    category_ids: Sequence[int] | None = None,
) -> None:
    """Write predictions as a COCO data set whose annotations have scores.

    Args:
        path: the JSON file; its folder must exist.
        images: for each image its id, its file name and what was found on it. Without masks an annotation has no
            `segmentation`, and its `area` is the box's.
        class_names: the labels index into them.
        category_ids: the file's number for each class. Default: 1, 2, 3, ...
    """
    ids = range(1, len(class_names) + 1) if category_ids is None else category_ids
    annotations = (
        {"image_id": image_id} | entry | {"category_id": ids[entry["category_id"]]}
        for image_id, _, objects in images
        for entry in prediction_entries(objects)
    )
    write_coco_entries(
        path,
        (image_entry(image_id, name, objects.size_hw) for image_id, name, objects in images),
        annotations,
        [{"id": k, "name": name} for k, name in zip(ids, class_names, strict=True)],
    )


def _pair_images(path: Path, entries: list[Entry], dataset: Dataset) -> dict[int, int]:
    """For each image id of a predicted data set the index of the sample with its name."""
    by_name: dict[str, list[int]] = {}
    for k, sample in enumerate(dataset.samples):
        by_name.setdefault(sample.path.name, []).append(k)
    paired = {}
    for entry in entries:
        name = Path(entry["file_name"]).name
        same = by_name.get(name, [])
        if len(same) > 1:  # in several folders: the id has to say which
            same = [k for k in same if dataset.samples[k].image_id == entry["id"]]
        if not same:
            raise AnnotationError(f"{path}: image {entry['id']} ({name}) is not in the data set {dataset.path}")
        paired[entry["id"]] = same[0]
    return paired


def _pair_categories(entries: list[Entry], dataset: Dataset) -> dict[int, int]:
    labels = {name: k for k, name in enumerate(dataset.class_names)}
    return {entry["id"]: labels[entry["name"]] for entry in entries if entry["name"] in labels}


def _repeated_ids(path: Path, entries: list[Any]) -> list[Fault]:
    times = Counter(entry["id"] for entry in entries if isinstance(entry, dict) and is_id(entry.get("id")))
    return [
        Fault("repeated_id", path, f"annotation {number}", f"{n} annotations have this id; all of them are kept")
        for number, n in times.items()
        if n > 1
    ]


def _read_annotation(entry: Entry, sizes_hw: Mapping[int, tuple[int, int]], labels: Mapping[int, int]) -> _Object:
    if entry["image_id"] not in sizes_hw:
        raise _LeftOutError("unknown_image", f"there is no image {entry['image_id']}")
    if entry["category_id"] not in labels:
        raise _LeftOutError("unknown_category", f"there is no category {entry['category_id']}")
    size_hw, segmentation = sizes_hw[entry["image_id"]], entry["segmentation"]
    kind = "unusable_box"
    try:
        box = _clip(_read_box(entry["bbox"]), size_hw) if entry.get("bbox") else None
        kind = "unusable_polygon" if isinstance(segmentation, list) else "unusable_run_lengths"
        crop, offset_xy = _read_mask(segmentation, size_hw)
        kind = "unusable_area"
        if entry.get("area") is not None:
            check_numbers("area", [entry["area"]])
    except ValueError as fault:
        raise _LeftOutError(kind, str(fault)) from None
    if crop.size == 0:
        raise _no_pixels(segmentation, size_hw)
    area = int(np.count_nonzero(crop)) if entry.get("area") is None else entry["area"]
    if box is None or box[0] == box[2] or box[1] == box[3]:
        box = _tight_box(crop, offset_xy)
    return _Object(labels[entry["category_id"]], 1.0, box, (crop, offset_xy), area)


def _no_pixels(segmentation: Any, size_hw: tuple[int, int]) -> _LeftOutError:
    """Why a mask that could be read holds nothing."""
    usable = [one for one in segmentation if len(one) >= 6] if isinstance(segmentation, list) else []
    if usable and all(lies_outside(polygon, size_hw) for polygon in usable):
        return _LeftOutError("outside_image", f"its polygons are outside of the {size_hw[1]} x {size_hw[0]} image")
    hint = " (a polygon takes at least three points)" if isinstance(segmentation, list) and not usable else ""
    return _LeftOutError("empty_mask", f"its mask has no pixels{hint}")


def _read_result(entry: Entry, size_hw: tuple[int, int], label: int, with_masks: bool) -> _Object:
    if with_masks and "segmentation" not in entry:
        raise ValueError("it has no 'segmentation', though others have")
    if not with_masks and "bbox" not in entry:
        raise ValueError("it has neither 'bbox' nor 'segmentation'")
    check_numbers("score", [entry["score"]])
    mask = _read_mask(entry["segmentation"], size_hw) if with_masks else None
    box = _tight_box(*mask) if mask and not entry.get("bbox") else _read_box(entry.get("bbox"))
    return _Object(label, float(entry["score"]), box, mask)


def _read_box(bbox: Any) -> Box:
    check_numbers("bbox", bbox, 4)
    x, y, width, height = bbox
    if width < 0 or height < 0:
        raise ValueError(f"the box {bbox} has a negative width or height")
    return float(x), float(y), float(x + width), float(y + height)


def _clip(box: Box, size_hw: tuple[int, int]) -> Box:
    height, width = size_hw
    x0, y0, x1, y1 = box
    if x0 < 0 >= x1 or y0 < 0 >= y1 or x0 >= width or y0 >= height:
        raise _LeftOutError(
            "outside_image",
            f"its box (x {x0:g} to {x1:g}, y {y0:g} to {y1:g}) is outside of the {width} x {height} image",
        )
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _tight_box(crop: rle.Crop, offset_xy: tuple[int, int]) -> Box:
    x, y = offset_xy
    return float(x), float(y), float(x + crop.shape[1]), float(y + crop.shape[0])


def _read_mask(segmentation: object, size_hw: tuple[int, int]) -> tuple[rle.Crop, tuple[int, int]]:
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


def _sample(image: Entry, folder: Path, found: list[tuple[Entry, _Object]], class_names: tuple[str, ...]) -> Sample:
    size_hw = (image["height"], image["width"])
    kept = [(entry, one) for entry, one in found if not entry.get("iscrowd")]
    crowd = [one for entry, one in found if entry.get("iscrowd")]
    objects = _instances([one for _, one in kept], size_hw, class_names, with_masks=True)
    return Sample(
        image_id=image["id"],
        path=folder / image["file_name"],
        size_hw=size_hw,
        objects=objects,
        areas_px=torch.tensor([one.area_px for _, one in kept], dtype=torch.float64),
        annotation_ids=tuple(entry["id"] for entry, _ in kept),
        ignored=_instances(crowd, size_hw, class_names, with_masks=True),
        attributes={key: value for key, value in image.items() if key not in IMAGE_KEYS},
    )


def _instances(
    objects: Sequence[_Object], size_hw: tuple[int, int], class_names: tuple[str, ...], with_masks: bool
) -> Instances:
    masks = [one.mask for one in objects if one.mask is not None]
    return Instances(
        size_hw=size_hw,
        boxes_xyxy=torch.tensor([one.box_xyxy for one in objects], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([one.score for one in objects], dtype=torch.float32),
        labels=torch.tensor([one.label for one in objects], dtype=torch.int64),
        class_names=class_names,
        masks=CropMasks.from_crops(masks, size_hw) if with_masks else None,
    )
