"""COCO results: predictions for the images of a data set (https://cocodataset.org/#format-results)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco_entries import CATEGORY_KEYS, Entry, Keys, checked_entries
from halfpixel.data.formats.coco_objects import (
    CocoObject,
    read_box,
    read_mask,
    read_masks,
    tight_box,
    to_instances,
)
from halfpixel.data.formats.image_finder import plain_name
from halfpixel.data.formats.json_files import json_type, load_json
from halfpixel.data.formats.mask_sizes import PlacedCrop
from halfpixel.data.formats.polygons import check_numbers
from halfpixel.errors import AnnotationError
from halfpixel.structures.instances import Instances

RESULT_KEYS: Keys = {"image_id": int, "category_id": int, "score": (int, float)}


def read_coco_results(path: Path, dataset: Dataset, warn: Callable[[str], None] | None = None) -> list[Instances]:
    """Read predictions for the images of a data set.

    Args:
        path: a COCO results list (with boxes, masks or both), or a COCO data set whose annotations have a `score`, as
            `write_coco` makes it. In the latter, images and classes are paired with the data set's by name.
        dataset: what the predictions are for.
        warn: hears that the one class of either was taken for the same, under two names.

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
        labels = _pair_categories(path, checked_entries(path, content, "categories", CATEGORY_KEYS), dataset, warn)
        entries = checked_entries(path, content, "annotations", RESULT_KEYS, unique=False)
    elif isinstance(content, list):
        samples = {sample.image_id: k for k, sample in enumerate(dataset.samples)}
        labels = {category_id: k for k, category_id in enumerate(dataset.category_ids)}
        entries = checked_entries(path, {"results": content}, "results", RESULT_KEYS, unique=False)
    else:
        raise AnnotationError(f"{path}: expected a list of COCO results, got a JSON {json_type(content)}")
    with_masks = any("segmentation" in entry for entry in entries) or not entries
    sizes_hw = {image_id: dataset.samples[index].size_hw for image_id, index in samples.items()}
    masks = read_masks(entries, sizes_hw)
    found: list[list[CocoObject]] = [[] for _ in dataset.samples]
    for k, entry in enumerate(entries):
        try:
            if entry["image_id"] not in samples:
                raise ValueError(f"the data set {dataset.path} has no image {entry['image_id']}")
            if entry["category_id"] not in labels:
                raise ValueError(f"the data set {dataset.path} has no such category {entry['category_id']}")
            image_id, label = entry["image_id"], labels[entry["category_id"]]
            one = _read_result(entry, masks.pop(k, None), sizes_hw[image_id], label, with_masks)
            found[samples[image_id]].append(one)
        except ValueError as error:
            raise AnnotationError(f"{path}: result {k} (counted from 0): {error}") from None
    return [
        to_instances(sorted(objects, key=lambda one: -one.score), sample.size_hw, dataset.class_names, with_masks)
        for sample, objects in zip(dataset.samples, found, strict=True)
    ]


def _pair_images(path: Path, entries: list[Entry], dataset: Dataset) -> dict[int, int]:
    """For each image id of a predicted data set the index of the sample with its name."""
    by_name: dict[str, list[int]] = {}
    for k, sample in enumerate(dataset.samples):
        by_name.setdefault(sample.path.name, []).append(k)
    paired = {}
    for entry in entries:
        name = plain_name(entry["file_name"])
        same = by_name.get(name) or by_name.get(unquote(name), [])
        if len(same) > 1:  # in several folders: the id has to say which
            same = [k for k in same if dataset.samples[k].image_id == entry["id"]]
        if not same:
            raise AnnotationError(f"{path}: image {entry['id']} ({name}) is not in the data set {dataset.path}")
        paired[entry["id"]] = same[0]
    return paired


def _pair_categories(
    path: Path, entries: list[Entry], dataset: Dataset, warn: Callable[[str], None] | None
) -> dict[int, int]:
    """For each category of the predictions the data set's label."""
    labels = {name: k for k, name in enumerate(dataset.class_names)}
    if len(entries) == len(labels) == 1 and entries[0]["name"] not in labels:
        if warn is not None:
            own = entries[0]["name"]
            warn(f"{path}: its one class, {own}, was taken for the one of {dataset.path}, {dataset.class_names[0]}")
        return {entries[0]["id"]: 0}
    return {entry["id"]: labels[entry["name"]] for entry in entries if entry["name"] in labels}


def _read_result(
    entry: Entry, mask: PlacedCrop | None, size_hw: tuple[int, int], label: int, with_masks: bool
) -> CocoObject:
    if with_masks and "segmentation" not in entry:
        raise ValueError("it has no 'segmentation', though others have")
    if not with_masks and "bbox" not in entry:
        raise ValueError("it has neither 'bbox' nor 'segmentation'")
    check_numbers("score", [entry["score"]])
    if with_masks and mask is None:
        mask = read_mask(entry["segmentation"], size_hw)
    box = tight_box(*mask) if mask and not entry.get("bbox") else read_box(entry.get("bbox"))
    return CocoObject(label, float(entry["score"]), box, mask)
