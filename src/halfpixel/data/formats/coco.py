"""COCO files of annotated images (https://cocodataset.org/#format-data)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfpixel.data.dataset import Dataset, Issue, Sample
from halfpixel.data.formats.coco_entries import (
    CATEGORY_KEYS,
    Entry,
    Keys,
    checked_entries,
    is_id,
    key_issue,
    list_of,
    with_numbers,
)
from halfpixel.data.formats.coco_objects import (
    Box,
    CocoObject,
    read_area,
    read_box,
    read_mask,
    read_masks,
    tight_box,
    to_instances,
)
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.image_finder import ImageFinder
from halfpixel.data.formats.json_files import json_type, load_json, mentions_keys
from halfpixel.data.formats.labelme import LABELME_KEYS
from halfpixel.data.formats.mask_sizes import PlacedCrop, checked_size_hw
from halfpixel.data.formats.polygons import lies_outside
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError

IMAGE_KEYS: Keys = {"id": int, "file_name": str, "width": int, "height": int}
ANNOTATION_KEYS: Keys = {"id": int, "image_id": int, "category_id": int, "segmentation": (list, dict)}

HAS_CATEGORY: Keys = {"category_id": int}
ROBOFLOW_FILE = "_annotations.coco.json"

READ = {
    "images": None,  # all keys of an image are kept as its attributes
    "annotations": {"id", "image_id", "category_id", "segmentation", "bbox", "area", "iscrowd"},
    "categories": {"id", "name"},
}
"""The keys of each list that `read_coco` reads."""


class _LeftOutError(Exception):
    """One annotation is of no use, which does no harm to the others."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def read_coco(annotations: Path, images: Path | None = None) -> Dataset:
    """Read a COCO data set of polygons, compressed or uncompressed run lengths.

    Boxes and areas are taken as the file gives them (in pixels), boxes cut to the image; where they are missing, or a
    box has no area, the mask's are taken, and also where they make no sense, with an issue `unusable_box` or
    `unusable_area`. Regions with `iscrowd` become `Sample.ignored`; what is neither 0 nor 1 is an issue
    `unusable_crowd`, and the object is kept. Labels count the categories by ascending id; Roboflow's root category,
    which has no objects, is left out (`root_category`). Numbers may be written as text or floats. What an image's entry
    holds beyond the usual keys becomes `Sample.attributes`.

    What is wrong with one annotation alone leaves it out and becomes an issue in `Dataset.warnings`. The kinds:
    `unusable_annotation` (a key that is missing or of the wrong type), `unknown_image` and `unknown_category` (not in
    the file), `unusable_polygon` (an odd number of coordinates, NaN), `unusable_run_lengths` (they do not fit the
    image), `outside_image` (nothing of the object is on it), `empty_mask` (no pixels, for example all polygons have
    less than three points). Annotations that share an id are all kept, with an issue `repeated_id`.

    Args:
        annotations: the JSON file.
        images: the folder that the file names start from. Default: where `ImageFinder` finds them. Images that are
            not there are no error.

    Raises:
        AnnotationError: the file is not COCO JSON, an image or category lacks a key, two of them share an id, an
            image is absurdly large, or it is unclear which file an image is.
    """
    path = Path(annotations)
    content = load_json(path)
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected a COCO data set (a JSON object), got a JSON {json_type(content)}")
    image_entries = checked_entries(path, content, "images", IMAGE_KEYS)
    entries = [with_numbers(entry, ANNOTATION_KEYS) for entry in list_of(path, content, "annotations")]
    warnings = _repeated_ids(path, entries)
    categories = checked_entries(path, content, "categories", CATEGORY_KEYS)
    categories = sorted(_without_root(path, categories, entries, warnings), key=lambda entry: int(entry["id"]))
    sizes_hw = {entry["id"]: _size_hw(path, entry) for entry in image_entries}
    labels = {entry["id"]: k for k, entry in enumerate(categories)}
    finder = ImageFinder(path, images)
    files = {entry["id"]: finder.find(entry["file_name"]) for entry in image_entries}

    masks = read_masks(entries, sizes_hw)
    found: dict[int, list[tuple[Entry, CocoObject]]] = {image_id: [] for image_id in sizes_hw}
    for k, entry in enumerate(entries):
        numbers = entry if isinstance(entry, dict) else {}
        where = f"annotation {numbers['id']}" if is_id(numbers.get("id")) else f"annotations[{k}]"
        image = files.get(numbers["image_id"]) if is_id(numbers.get("image_id")) else None
        mended: list[tuple[str, str]] = []
        try:
            if (issue := key_issue(entry, ANNOTATION_KEYS)) is not None:
                raise _LeftOutError("unusable_annotation", f"it {issue}")
            read = _read_annotation(entry, masks.pop(k, None), sizes_hw, labels, mended)
            found[entry["image_id"]].append((entry, read))
            warnings += [Issue(kind, path, where, what, image) for kind, what in mended]
        except _LeftOutError as reason:
            warnings.append(Issue(reason.kind, path, where, f"left out, {reason}", image))
    class_names = tuple(str(entry["name"]) for entry in categories)
    samples = tuple(_sample(entry, files[entry["id"]], found.pop(entry["id"]), class_names) for entry in image_entries)
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
    outlined = [
        with_numbers(one, ANNOTATION_KEYS)
        for one in (entries if isinstance(entries, list) else [])
        if isinstance(one, dict) and isinstance(one.get("segmentation"), list)
    ]
    return {
        (entry["image_id"], entry["id"]): entry["segmentation"]
        for entry in outlined
        if key_issue(entry, ANNOTATION_KEYS) is None
    }


def unread_keys(path: Path) -> list[Issue]:
    """What a COCO file says that `read_coco` has no place for, such as scores: one issue for each sort of key."""
    content = load_json(path)
    lost = [Issue("key", path, name, "not read") for name in content if name not in READ]
    for name, known in READ.items():
        if known is None:
            continue
        entries = [entry for entry in content[name] if isinstance(entry, dict)]
        counts = Counter(key for entry in entries for key in entry if key not in known)
        for key, n in counts.items():
            lost.append(Issue("score" if key == "score" else "key", path, f"'{key}' of {n:,} {name}", "not read"))
    return lost


def _repeated_ids(path: Path, entries: list[Any]) -> list[Issue]:
    times = Counter(entry["id"] for entry in entries if isinstance(entry, dict) and is_id(entry.get("id")))
    return [
        Issue("repeated_id", path, f"annotation {number}", f"{n} annotations have this id; all of them are kept")
        for number, n in times.items()
        if n > 1
    ]


def _without_root(path: Path, categories: list[Entry], entries: list[Any], issues: list[Issue]) -> list[Entry]:
    """The categories without the one that Roboflow puts above the others: no class to learn, as it has no objects."""
    used = {entry["category_id"] for entry in entries if key_issue(entry, HAS_CATEGORY) is None}
    above = {entry.get("supercategory") for entry in categories if isinstance(entry.get("supercategory"), str)}
    kept = []
    for entry in categories:
        is_root = entry["name"] in above or (path.name == ROBOFLOW_FILE and entry["id"] == 0)
        if is_root and entry["id"] not in used and len(categories) > 1 and _is_top(entry):
            where = f"category {entry['id']} ({entry['name']})"
            issues.append(
                Issue("root_category", path, where, "left out, it stands above the others and has no objects")
            )
        else:
            kept.append(entry)
    return kept


def _is_top(category: Entry) -> bool:
    return category.get("supercategory") in (None, "", "none", category["name"])


def _size_hw(path: Path, image: Entry) -> tuple[int, int]:
    try:
        return checked_size_hw(image["height"], image["width"])
    except ValueError as error:
        raise AnnotationError(f"{path}: image {image['id']!r:.40}: {error}") from None


def _read_annotation(
    entry: Entry,
    mask: PlacedCrop | None,
    sizes_hw: Mapping[int, tuple[int, int]],
    labels: Mapping[int, int],
    mended: list[tuple[str, str]],
) -> CocoObject:
    """An object with its mask (None: not read yet); what else is wrong is added to `mended`, each kind and cause."""
    if entry["image_id"] not in sizes_hw:
        raise _LeftOutError("unknown_image", f"there is no image {entry['image_id']}")
    if entry["category_id"] not in labels:
        raise _LeftOutError("unknown_category", f"there is no category {entry['category_id']}")
    size_hw, segmentation = sizes_hw[entry["image_id"]], entry["segmentation"]
    try:
        crop, offset_xy = mask or read_mask(segmentation, size_hw)
    except ValueError as error:
        kind = "unusable_polygon" if isinstance(segmentation, list) else "unusable_run_lengths"
        raise _LeftOutError(kind, str(error)) from None
    if crop.size == 0:
        raise _no_pixels(segmentation, size_hw)
    box, area = tight_box(crop, offset_xy), float(np.count_nonzero(crop))
    try:
        given = _clip(read_box(entry["bbox"]), size_hw) if entry.get("bbox") else box
        box = box if given[0] == given[2] or given[1] == given[3] else given
    except ValueError as error:
        mended.append(("unusable_box", f"{error}; that of its mask is taken"))
    try:
        area = area if entry.get("area") is None else read_area(entry["area"])
    except ValueError as error:
        mended.append(("unusable_area", f"{error}; that of its mask is taken"))
    if entry.get("iscrowd") not in (None, 0, 1):
        what = f"'iscrowd' must be 0 or 1, got {entry['iscrowd']!r:.40}; taken as an object"
        mended.append(("unusable_crowd", what))
    return CocoObject(labels[entry["category_id"]], 1.0, box, (crop, offset_xy), area)


def _no_pixels(segmentation: Any, size_hw: tuple[int, int]) -> _LeftOutError:
    """Why a mask that could be read holds nothing."""
    usable = [one for one in segmentation if len(one) >= 6] if isinstance(segmentation, list) else []
    if usable and all(lies_outside(polygon, size_hw) for polygon in usable):
        return _LeftOutError("outside_image", f"its polygons are outside of the {size_hw[1]} x {size_hw[0]} image")
    hint = " (a polygon takes at least three points)" if isinstance(segmentation, list) and not usable else ""
    return _LeftOutError("empty_mask", f"its mask has no pixels{hint}")


def _clip(box: Box, size_hw: tuple[int, int]) -> Box:
    """The part of a box that is on the image.

    Raises:
        ValueError: there is none.
    """
    height, width = size_hw
    x0, y0, x1, y1 = box
    if x0 < 0 >= x1 or y0 < 0 >= y1 or x0 >= width or y0 >= height:
        corners = f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
        raise ValueError(f"its box ({corners}) is outside of the {width} x {height} image")
    return max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))


def _sample(image: Entry, file: Path, found: list[tuple[Entry, CocoObject]], class_names: tuple[str, ...]) -> Sample:
    size_hw = (image["height"], image["width"])
    kept = [(entry, one) for entry, one in found if entry.get("iscrowd") != 1]
    crowd = [one for entry, one in found if entry.get("iscrowd") == 1]
    objects = to_instances([one for _, one in kept], size_hw, class_names, with_masks=True)
    return Sample(
        image_id=image["id"],
        path=file,
        size_hw=size_hw,
        objects=objects,
        areas_px=torch.tensor([one.area_px for _, one in kept], dtype=torch.float64),
        annotation_ids=tuple(entry["id"] for entry, _ in kept),
        ignored=to_instances(crowd, size_hw, class_names, with_masks=True),
        attributes={key: value for key, value in image.items() if key not in IMAGE_KEYS},
    )


def _only_json_file(folder: Path) -> Path:
    """The one JSON file of a folder.

    Raises:
        AnnotationError: there is none, or several.
    """
    found = sorted(folder.glob("*.json"))
    if len(found) != 1:
        names = [one.name for one in found]
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        which = f": {some}; name one of them" if found else ""
        raise AnnotationError(f"{folder}: expected one .json file in this folder, found {len(found)}{which}")
    return found[0]


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    return any(_fits_file(file) for file in folder.glob("*.json"))


def _fits_file(file: Path) -> bool:
    return mentions_keys(file, ("images", "annotations"), without=LABELME_KEYS)


READER = Reader(
    name="coco",
    layout="a JSON file with images, annotations and categories",
    read=lambda path, images: read_coco(_only_json_file(path) if path.is_dir() else path, images),
    fits_folder=_fits_folder,
    fits_file=_fits_file,
    unread=unread_keys,
)
