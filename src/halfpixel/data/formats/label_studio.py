"""Label Studio's own JSON: a list of tasks, each an image and what was drawn on it (https://labelstud.io/guide/export)."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from halfpixel.data.dataset import ONE_CLASS, Dataset, Issue
from halfpixel.data.formats.brush_runs import decode_brush
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.image_finder import ImageFinder
from halfpixel.data.formats.json_files import load_json, mentions_keys, whole
from halfpixel.data.formats.mask_files import check_size, read_size_hw
from halfpixel.data.formats.mask_sizes import PlacedCrop
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.polygons import check_numbers, ellipse_outline, rasterise
from halfpixel.data.formats.reader import Reader
from halfpixel.data.images.rgb8 import SUFFIXES
from halfpixel.errors import AnnotationError
from halfpixel.structures.masks import CropMasks

Region = Mapping[str, Any]

LABEL_STUDIO_KEYS = ("original_width", "result", "from_name")
SHAPES = ("polygon", "rectangle", "ellipse", "brush")


def read_label_studio(path: Path, images: Path | None = None) -> Dataset:
    """Read polygons, rectangles, ellipses and brush masks of Label Studio's JSON export (not of JSON-MIN).

    Of an image that several people annotated the first is taken, with an issue `several_annotations`. Left out with an
    issue are other regions (`unusable_shape`), those that make no sense (`unusable_polygon`, `unusable_run_lengths`)
    or have no pixel on the image (`empty_mask`), and images that cannot be opened or are of another size
    (`unusable_file`).

    Args:
        path: the JSON file, or a folder with one.
        images: the folder of the images. Default: where `ImageFinder` finds them.

    Raises:
        AnnotationError: the file is not Label Studio's, or nothing in it can be used.
    """
    path = Path(path)
    file = _export_in(path) if path.is_dir() else path
    tasks = load_json(file)
    if not isinstance(tasks, list) or not all(isinstance(one, dict) for one in tasks):
        raise AnnotationError(f"{file}: not a Label Studio export: expected a list of tasks")
    finder = ImageFinder(file, images)
    issues: list[Issue] = []
    by_image: dict[Path, list[Region]] = {}
    for k, task in enumerate(tasks):
        image = finder.find(_image_name(file, k, task))
        by_image.setdefault(image, []).extend(_regions(file, k, task, image, issues))
    return read_each(path, list(by_image), lambda image: _objects(file, image, by_image[image], issues), issues)


def _export_in(folder: Path) -> Path:
    found = [one for one in sorted(folder.glob("*.json")) if _fits_file(one)]
    if len(found) != 1:
        raise AnnotationError(f"{folder}: expected one Label Studio file here, found {len(found)}; name one of them")
    return found[0]


def _image_name(file: Path, k: int, task: Mapping[str, Any]) -> str:
    data = task.get("data")
    texts = [one for one in data.values() if isinstance(one, str)] if isinstance(data, dict) else []
    named = [one for one in texts if one.lower().endswith(SUFFIXES)] or texts
    if not named:
        raise AnnotationError(f"{file}: task {k} (counted from 0) names no image in its 'data'")
    return named[0]


def _regions(file: Path, k: int, task: Mapping[str, Any], image: Path, issues: list[Issue]) -> list[Region]:
    """What one person drew."""
    entries = task.get("annotations", task.get("completions"))
    some = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    some = [one for one in some if not one.get("was_cancelled") and isinstance(one.get("result"), list)]
    if len(some) > 1:
        what = f"{len(some)} people annotated it; the first is taken"
        issues.append(Issue("several_annotations", file, f"task {k}", what, image))
    return [one for one in some[0]["result"] if isinstance(one, dict)] if some else []


def _objects(file: Path, image: Path, regions: list[Region], issues: list[Issue]) -> Annotated:
    size_hw = read_size_hw(image)
    names = {str(one.get("id")): name for one in regions if (name := _label_of(one)) is not None}
    crops, classes = [], []
    for k, region in enumerate(regions):
        kind = str(region.get("type", "")).removesuffix("labels")
        if kind == "" or (kind not in SHAPES and not isinstance(region.get("original_width"), int)):
            continue  # a choice or a text about the image
        where, run_lengths = f"{image.name}, region {k}", kind == "brush"
        if kind not in SHAPES:
            what = f"left out, a {kind!r:.40} cannot be used (only {', '.join(SHAPES)})"
            issues.append(Issue("unusable_shape", file, where, what, image))
            continue
        drawn_hw = whole(region.get("original_height")), whole(region.get("original_width"))
        if drawn_hw[0] is not None and drawn_hw[1] is not None:
            check_size(file, (drawn_hw[0], drawn_hw[1]), size_hw)
        try:
            mask = _mask(kind, region.get("value"), size_hw)
        except ValueError as error:
            issue_kind = "unusable_run_lengths" if run_lengths else "unusable_polygon"
            issues.append(Issue(issue_kind, file, where, f"left out, {error}", image))
            continue
        if mask[0].size == 0:
            issues.append(Issue("empty_mask", file, where, "left out, it has no pixels on the image", image))
            continue
        crops.append(mask)
        classes.append(_label_of(region) or names.get(str(region.get("id"))) or ONE_CLASS)
    return Annotated(image, CropMasks.from_crops(crops, size_hw), classes)


def _label_of(region: Region) -> str | None:
    """The first of the labels that a region carries."""
    value = region.get("value")
    for key, labels in value.items() if isinstance(value, dict) else ():
        if key.endswith("labels") and isinstance(labels, list) and labels and isinstance(labels[0], str):
            return labels[0]
    return None


def _mask(kind: str, value: object, size_hw: tuple[int, int]) -> PlacedCrop:
    """A region's pixels; places are percentages of the image's width and height."""
    if not isinstance(value, dict):
        raise ValueError("it has no 'value'")
    if kind == "brush":
        return decode_brush(value.get("rle"), size_hw)
    percent_x, percent_y = size_hw[1] / 100, size_hw[0] / 100
    if kind == "polygon":
        points = value.get("points")
        if not isinstance(points, list) or len(points) < 3:
            raise ValueError("a polygon takes at least three 'points'")
        for k, point in enumerate(points):
            check_numbers(f"points[{k}]", point, 2)
        return rasterise([[one for x, y in points for one in (x * percent_x, y * percent_y)]], size_hw)
    keys = ("x", "y", "width", "height") if kind == "rectangle" else ("x", "y", "radiusX", "radiusY")
    numbers = [value.get(key) for key in keys]
    turned = value.get("rotation") or 0
    check_numbers("rotation", [turned])
    for key, number in zip(keys, numbers, strict=True):
        check_numbers(key, [number])
    x, y, a, b = (float(one) * scale for one, scale in zip(numbers, (percent_x, percent_y) * 2, strict=True))  # type: ignore[arg-type]
    if max(map(abs, (x, y, a, b))) > 1e6:
        raise ValueError("it lies far outside of the image")
    angle = math.radians(turned % 360)
    if kind == "ellipse":
        return rasterise([ellipse_outline((x, y), (abs(a), abs(b)), angle)], size_hw)
    corners = ((0.0, 0.0), (a, 0.0), (a, b), (0.0, b))  # turned around the first
    cos, sin = math.cos(angle), math.sin(angle)
    return rasterise([[one for u, v in corners for one in (x + u * cos - v * sin, y + u * sin + v * cos)]], size_hw)


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    return any(_fits_file(file) for file in folder.glob("*.json"))


def _fits_file(file: Path) -> bool:
    return mentions_keys(file, LABEL_STUDIO_KEYS)


READER = Reader(
    name="label_studio",
    layout="a JSON export of Label Studio",
    read=read_label_studio,
    fits_folder=_fits_folder,
    fits_file=_fits_file,
)
