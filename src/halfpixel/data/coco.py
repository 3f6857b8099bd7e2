"""COCO files: annotated data sets, results, and the data sets of predictions that halfpixel writes.

The format is described at https://cocodataset.org/#format-data and https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfpixel.data.polygons import check_numbers, rasterise
from halfpixel.data.sample import Dataset, Fault, Sample
from halfpixel.errors import AnnotationError
from halfpixel.files import write_whole
from halfpixel.ops import rle
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Entry = dict[str, Any]
Box = tuple[float, float, float, float]
Keys = Mapping[str, type | tuple[type, ...]]

IMAGE_KEYS: Keys = {"id": int, "file_name": str, "width": int, "height": int}
CATEGORY_KEYS: Keys = {"id": int, "name": str}
ANNOTATION_KEYS: Keys = {"id": int, "image_id": int, "category_id": int, "segmentation": (list, dict)}
RESULT_KEYS: Keys = {"image_id": int, "category_id": int, "score": (int, float)}


class _LeftOutError(Exception):
    """One annotation is of no use, which does no harm to the others."""


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
    by ascending id. What an image's entry holds beyond the usual keys becomes `Sample.attributes`. Left out, and
    listed in `Dataset.warnings`, are annotations of an image or category that is not in the file, with a box wholly
    outside of the image, with a mask of no pixels, or with polygons of less than three points only.

    Args:
        annotations: the JSON file.
        images: the folder that the file names start from. Default: `images` beside the annotation file, or else the
            folder that it lies in. Whether the images exist is not looked at.

    Raises:
        AnnotationError: the file is not COCO JSON, an entry lacks a key, an id is given twice, or an annotation makes
            no sense (an odd number of coordinates, run lengths that do not fit the image, a size of another image).
    """
    path = Path(annotations)
    content = _load_json(path)
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected a COCO data set (a JSON object), got a JSON {_json_type(content)}")
    if images is None:
        images = path.parent / "images" if (path.parent / "images").is_dir() else path.parent
    image_entries = _entries(path, content, "images", IMAGE_KEYS)
    categories = sorted(_entries(path, content, "categories", CATEGORY_KEYS), key=lambda entry: int(entry["id"]))
    sizes_hw = {entry["id"]: (entry["height"], entry["width"]) for entry in image_entries}
    for image_id, (height, width) in sizes_hw.items():
        if height < 1 or width < 1:
            raise AnnotationError(f"{path}: image {image_id}: a size of {width} x {height} pixels")
    labels = {entry["id"]: k for k, entry in enumerate(categories)}

    found: dict[int, list[tuple[Entry, _Object]]] = {image_id: [] for image_id in sizes_hw}
    warnings = []
    for entry in _entries(path, content, "annotations", ANNOTATION_KEYS, unique=False):
        try:
            read = _read_annotation(entry, sizes_hw, labels)
            found[entry["image_id"]].append((entry, read))
        except _LeftOutError as reason:
            warnings.append(Fault("annotation_left_out", path, f"annotation {entry['id']}", f"left out, {reason}"))
        except ValueError as fault:
            raise AnnotationError(f"{path}: annotation {entry['id']}: {fault}") from None
    class_names = tuple(str(entry["name"]) for entry in categories)
    samples = tuple(_sample(entry, images, found.pop(entry["id"]), class_names) for entry in image_entries)
    return Dataset(path, class_names, tuple(labels), samples, tuple(warnings))


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
    content = _load_json(path)
    if isinstance(content, dict):
        samples = _pair_images(path, _entries(path, content, "images", {"id": int, "file_name": str}), dataset)
        labels = _pair_categories(_entries(path, content, "categories", CATEGORY_KEYS), dataset)
        entries = _entries(path, content, "annotations", RESULT_KEYS, unique=False)
    elif isinstance(content, list):
        samples = {sample.image_id: k for k, sample in enumerate(dataset.samples)}
        labels = {category_id: k for k, category_id in enumerate(dataset.category_ids)}
        entries = _entries(path, {"results": content}, "results", RESULT_KEYS, unique=False)
    else:
        raise AnnotationError(f"{path}: expected a list of COCO results, got a JSON {_json_type(content)}")
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
    content: dict[str, list[Entry]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": k, "name": name} for k, name in zip(ids, class_names, strict=True)],
    }
    for image_id, file_name, objects in images:
        height, width = objects.size_hw
        content["images"].append({"id": image_id, "file_name": file_name, "width": width, "height": height})
        for entry in _prediction_entries(objects):
            numbers = {"id": len(content["annotations"]) + 1, "image_id": image_id}
            entry["category_id"] = ids[entry["category_id"]]
            content["annotations"].append(numbers | entry)
    write_whole(path, json.dumps(content, allow_nan=False).encode())


def _prediction_entries(objects: Instances) -> list[Entry]:
    boxes = objects.boxes_xyxy.tolist()
    entries: list[Entry] = [
        {"category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "score": score}
        for label, (x0, y0, x1, y1), score in zip(objects.labels.tolist(), boxes, objects.scores.tolist(), strict=True)
    ]
    if objects.masks is not None:
        for entry, mask, area in zip(entries, objects.masks.rles(), objects.masks.areas_px().tolist(), strict=True):
            entry |= {"segmentation": mask, "area": area}
    return [entry | {"iscrowd": 0} for entry in entries]


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise AnnotationError(
            f"{path}: broken JSON in line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:  # not text, absurdly long numbers, absurdly deep nesting
        raise AnnotationError(f"{path}: not a JSON file ({error})") from None


def _json_type(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), "null")


def _entries(path: Path, content: Entry, name: str, keys: Keys, unique: bool = True) -> list[Entry]:
    """One of the file's lists, each entry checked for its keys and their types, ids for being unique."""
    if name not in content:
        raise AnnotationError(f"{path}: not a COCO data set: it has no '{name}'")
    entries = content[name]
    if not isinstance(entries, list):
        raise AnnotationError(f"{path}: '{name}' must be a list, got a JSON {_json_type(entries)}")
    for k, entry in enumerate(entries):
        where = f"{path}: {name}[{k}]"
        if not isinstance(entry, dict):
            raise AnnotationError(f"{where} must be an object, got a JSON {_json_type(entry)}")
        for key, kind in keys.items():
            value = entry.get(key)
            if value is None or isinstance(value, bool) or not isinstance(value, kind):
                what = f"no '{key}'" if value is None else f"an unusable '{key}': {value!r:.60}"
                raise AnnotationError(f"{where} (id {entry.get('id', 'unknown')}) has {what}")
    if unique:
        counts = Counter(entry["id"] for entry in entries)
        twice = [number for number, times in counts.items() if times > 1]
        if twice:
            raise AnnotationError(f"{path}: '{name}' has more than one entry with the id {twice[0]}")
    return entries


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


def _read_annotation(entry: Entry, sizes_hw: Mapping[int, tuple[int, int]], labels: Mapping[int, int]) -> _Object:
    if entry["image_id"] not in sizes_hw:
        raise _LeftOutError(f"there is no image {entry['image_id']}")
    if entry["category_id"] not in labels:
        raise _LeftOutError(f"there is no category {entry['category_id']}")
    size_hw = sizes_hw[entry["image_id"]]
    box = _clip(_read_box(entry["bbox"]), size_hw) if entry.get("bbox") else None
    crop, offset_xy = _read_mask(entry["segmentation"], size_hw)
    if crop.size == 0:
        hint = " (a polygon takes at least three points)" if isinstance(entry["segmentation"], list) else ""
        raise _LeftOutError(f"its mask has no pixels{hint}")
    area = int(np.count_nonzero(crop)) if entry.get("area") is None else entry["area"]
    check_numbers("area", [area])
    if box is None or box[0] == box[2] or box[1] == box[3]:
        box = _tight_box(crop, offset_xy)
    return _Object(labels[entry["category_id"]], 1.0, box, (crop, offset_xy), area)


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
            f"its box (x {x0:g} to {x1:g}, y {y0:g} to {y1:g}) is outside of the {width} x {height} image"
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
    raise ValueError(f"'segmentation' must be polygons or run lengths, got a JSON {_json_type(segmentation)}")


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
    crops = tuple(torch.from_numpy(crop) for crop, _ in masks)
    offsets_xy = torch.tensor([offset_xy for _, offset_xy in masks], dtype=torch.int64).reshape(-1, 2)
    return Instances(
        size_hw=size_hw,
        boxes_xyxy=torch.tensor([one.box_xyxy for one in objects], dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor([one.score for one in objects], dtype=torch.float32),
        labels=torch.tensor([one.label for one in objects], dtype=torch.int64),
        class_names=class_names,
        masks=CropMasks(crops, offsets_xy, size_hw) if with_masks else None,
    )
