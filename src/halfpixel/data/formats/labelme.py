"""LabelMe: one JSON file an image, with the shapes that were drawn on it (https://github.com/wkentaro/labelme)."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path, PureWindowsPath
from typing import Any

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.json_files import mentions_keys
from halfpixel.data.formats.mask_files import check_size, files_in, read_size_hw
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.polygons import FURTHEST_PX, check_numbers, rasterise
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError
from halfpixel.structures.masks import CropMasks

Polygon = list[float]

LABELME_KEYS = ("shapes", "imagePath")


def read_labelme(path: Path, images: Path | None = None) -> Dataset:
    """Read polygons, rectangles and circles of LabelMe; those that share label and `group_id` are one object.

    Coordinates are pixels, pixel j covering [j, j + 1). Left out with an issue are other kinds of shapes
    (`unusable_shape`), shapes that make no sense (`unusable_polygon`) or have no pixel on the image (`empty_mask`),
    files that are broken or do not fit their image (`unusable_file`) and images without a file
    (`image_without_annotation`). Pictures that the JSON itself may hold are not looked at.

    Args:
        path: one of the JSON files, or a folder of them.
        images: the folder of the images. Default: as each file says (`imagePath`, from where the file lies).

    Raises:
        AnnotationError: nothing can be used.
    """
    path = Path(path)
    issues: list[Issue] = []
    sources = files_in(path, (".json",)) if path.is_dir() else [path]
    dataset = read_each(path, sources, lambda file: _read_file(file, images, issues), issues)
    if path.is_dir():
        known = {sample.path.resolve() for sample in dataset.samples} | {
            one.image.resolve() for one in issues if one.image is not None
        }
        stems = {source.with_suffix("") for source in sources}
        for image in files_in(images or path):
            if image.resolve() not in known and image.with_suffix("") not in stems:
                what = "left out, it has no LabelMe file"
                issues.append(Issue("image_without_annotation", image, "", what, image))
    return Dataset(dataset.path, dataset.class_names, dataset.category_ids, dataset.samples, tuple(issues))


def _read_file(file: Path, images: Path | None, issues: list[Issue]) -> Annotated:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise AnnotationError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{file}: not a JSON file ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise AnnotationError(f"{file}: not a LabelMe file: it has no list 'shapes'")
    name = content.get("imagePath")
    if not isinstance(name, str) or not name:
        raise AnnotationError(f"{file}: it has no 'imagePath'")
    relative = PureWindowsPath(name)  # takes both kinds of slashes
    image = file.parent / relative.as_posix() if images is None else images / relative.name
    size_hw = read_size_hw(image)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if isinstance(height, int) and isinstance(width, int):
        check_size(file, (height, width), size_hw)
    return _objects(file, content["shapes"], image, size_hw, issues)


def _objects(file: Path, shapes: list[Any], image: Path, size_hw: tuple[int, int], issues: list[Issue]) -> Annotated:
    """Every shape its own object, but for those of one label and one group."""
    objects: dict[tuple[str, str], list[Polygon]] = {}
    first_shape: dict[tuple[str, str], int] = {}
    for k, shape in enumerate(shapes):
        try:
            label, outline = _read_shape(shape)
        except _ShapeError as error:
            issues.append(Issue(error.kind, file, f"shape {k}", f"left out, {error}", image))
            continue
        group = shape.get("group_id")
        key = (label, f"shape {k}" if group is None else f"group {group}")
        objects.setdefault(key, []).append(outline)
        first_shape.setdefault(key, k)
    crops, classes = [], []
    for key, outlines in objects.items():
        crop, offset_xy = rasterise(outlines, size_hw)
        if crop.size == 0:
            where = f"shape {first_shape[key]}"
            issues.append(Issue("empty_mask", file, where, "left out, it has no pixels on the image", image))
            continue
        crops.append((crop, offset_xy))
        classes.append(key[0])
    return Annotated(image, CropMasks.from_crops(crops, size_hw), classes)


class _ShapeError(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _read_shape(shape: Any) -> tuple[str, Polygon]:
    """A shape's label and outline."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise _ShapeError("unusable_shape", "it has no 'label'")
    kind = shape.get("shape_type") or "polygon"
    if kind not in ("polygon", "rectangle", "circle"):
        raise _ShapeError("unusable_shape", f"a {kind!r} cannot be used (only polygon, rectangle and circle)")
    points = shape.get("points")
    if not isinstance(points, list):
        raise _ShapeError("unusable_polygon", "it has no list 'points'")
    try:
        for k, point in enumerate(points):
            check_numbers(f"points[{k}]", point, 2)
            if max(map(abs, point)) > FURTHEST_PX:
                raise ValueError(f"points[{k}] is {max(map(abs, point)):g} pixels away from the image")
        return shape["label"], _outline(kind, points)
    except ValueError as error:
        raise _ShapeError("unusable_polygon", str(error)) from None


def _outline(kind: str, points: list[list[float]]) -> Polygon:
    if kind == "polygon" or (kind == "rectangle" and len(points) == 4):
        if len(points) < 3:
            raise ValueError(f"a polygon takes at least three points, got {len(points)}")
        return [value for point in points for value in point]
    if len(points) != 2:
        raise ValueError(f"a {kind} takes two points, got {len(points)}")
    (x0, y0), (x1, y1) = points
    if kind == "rectangle":
        return [x0, y0, x1, y0, x1, y1, x0, y1]
    radius = math.hypot(x1 - x0, y1 - y0)
    n = 32 + 4 * math.ceil(radius)  # the chords stay within a hundredth of a pixel of the circle
    angles = [2 * math.pi * k / n for k in range(n)]
    return [value for one in angles for value in (x0 + radius * math.cos(one), y0 + radius * math.sin(one))]


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    # beside a COCO file, JSON files further down are something else
    files = folder.glob("*.json") if "coco" in found else folder.rglob("*.json")
    return any(_fits_file(file) for file in files)


def _fits_file(file: Path) -> bool:
    return mentions_keys(file, LABELME_KEYS)


READER = Reader(
    name="labelme",
    layout="JSON files with shapes and imagePath",
    read=read_labelme,
    fits_folder=_fits_folder,
    fits_file=_fits_file,
)
