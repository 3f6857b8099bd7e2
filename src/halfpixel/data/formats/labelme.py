"""LabelMe: one JSON file an image, with the shapes that were drawn on it (https://github.com/wkentaro/labelme)."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.image_finder import ImageFinder
from halfpixel.data.formats.json_files import load_json, mentions_keys, whole
from halfpixel.data.formats.mask_files import check_size, files_in, read_embedded_mask, read_size_hw
from halfpixel.data.formats.mask_sizes import PlacedCrop, united
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.polygons import FURTHEST_PX, check_numbers, ellipse_outline, rasterise
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError, ImageError
from halfpixel.files import is_there
from halfpixel.structures.masks import CropMasks

Polygon = list[float]

LABELME_KEYS = ("shapes", "imagePath")


def read_labelme(path: Path, images: Path | None = None) -> Dataset:
    """Read polygons, rectangles, circles and masks of LabelMe; those that share label and `group_id` are one object.

    Coordinates are pixels, pixel j covering [j, j + 1). Where the image is not there and its file holds the picture
    itself, that is taken: `Sample.path` is then the JSON file, which `read_image` reads. Left out with an issue are
    other kinds of shapes and broken masks (`unusable_shape`), shapes that make no sense (`unusable_polygon`) or have no
    pixel on the image (`empty_mask`), files that are broken or do not fit their image (`unusable_file`) and images
    without a file (`image_without_annotation`).

    Args:
        path: one of the JSON files, or a folder of them.
        images: the folder of the images. Default: as each file says (`imagePath`), where `ImageFinder` finds it.

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
    content = load_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise AnnotationError(f"{file}: not a LabelMe file: it has no list 'shapes'")
    name = content.get("imagePath")
    if not isinstance(name, str) or not name:
        raise AnnotationError(f"{file}: it has no 'imagePath'")
    image = ImageFinder(file, images).find(name)
    if not is_there(image) and isinstance(content.get("imageData"), str):
        image = file
    size_hw = read_size_hw(image)
    height, width = whole(content.get("imageHeight")), whole(content.get("imageWidth"))
    if height is not None and width is not None:
        check_size(file, (height, width), size_hw)
    return _objects(file, content["shapes"], image, size_hw, issues)


def _objects(file: Path, shapes: list[Any], image: Path, size_hw: tuple[int, int], issues: list[Issue]) -> Annotated:
    """Every shape its own object, but for those of one label and one group."""
    objects: dict[tuple[str, str], list[Polygon | PlacedCrop]] = {}
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
        where = f"shape {first_shape[key]}"
        try:
            masks = [one for one in outlines if isinstance(one, tuple)]
            crop, offset_xy = united(
                [rasterise([o for o in outlines if isinstance(o, list)], size_hw), *masks], size_hw
            )
        except ValueError as error:
            issues.append(Issue("unusable_polygon", file, where, f"left out, {error}", image))
            continue
        if crop.size == 0:
            issues.append(Issue("empty_mask", file, where, "left out, it has no pixels on the image", image))
            continue
        crops.append((crop, offset_xy))
        classes.append(key[0])
    return Annotated(image, CropMasks.from_crops(crops, size_hw), classes)


class _ShapeError(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _read_shape(shape: Any) -> tuple[str, Polygon | PlacedCrop]:
    """A shape's label, and its outline or mask."""
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise _ShapeError("unusable_shape", "it has no 'label'")
    kind = shape.get("shape_type") or "polygon"
    if kind not in ("polygon", "rectangle", "circle", "mask"):
        raise _ShapeError("unusable_shape", f"a {kind!r:.40} cannot be used (only polygon, rectangle, circle and mask)")
    points = shape.get("points")
    if not isinstance(points, list):
        raise _ShapeError("unusable_polygon", "it has no list 'points'")
    try:
        for k, point in enumerate(points):
            check_numbers(f"points[{k}]", point, 2)
            if max(map(abs, point)) > FURTHEST_PX:
                raise ValueError(f"points[{k}] is {max(map(abs, point)):g} pixels away from the image")
        return shape["label"], _mask(shape.get("mask"), points) if kind == "mask" else _outline(kind, points)
    except ImageError as error:
        raise _ShapeError("unusable_shape", f"its mask cannot be used ({error})") from None
    except ValueError as error:
        raise _ShapeError("unusable_polygon", str(error)) from None


def _mask(data: object, points: list[list[float]]) -> PlacedCrop:
    """A mask that was drawn by the AI tool: a picture, whose first pixel is at the first point."""
    if len(points) != 2:
        raise ValueError(f"a mask takes two points, got {len(points)}")
    if not isinstance(data, str):
        raise ImageError("there is no text 'mask'")
    crop = read_embedded_mask(data)
    return crop, (math.floor(points[0][0] + 0.5), math.floor(points[0][1] + 0.5))


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
    return ellipse_outline((x0, y0), (radius, radius))


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
