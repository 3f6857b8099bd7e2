"""VIA, the VGG Image Annotator: one JSON file for all images (https://www.robots.ox.ac.uk/~vgg/software/via/)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from halfpixel.data.dataset import ONE_CLASS, Dataset, Issue
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.image_finder import ImageFinder
from halfpixel.data.formats.json_files import load_json, mentions_keys
from halfpixel.data.formats.mask_files import read_size_hw
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.polygons import FURTHEST_PX, check_numbers, ellipse_outline, rasterise
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError
from halfpixel.structures.masks import CropMasks

Region = Mapping[str, Any]

VIA_KEYS = ("shape_attributes", "filename")
CLASS_KEYS = ("class", "label", "name", "type", "category", "object")
"""Where a region has several attributes, the first of these is its class."""


def read_via(path: Path, images: Path | None = None) -> Dataset:
    """Read polygons, rectangles, circles and ellipses of VIA 1 and 2, of an annotation file or a project.

    The class is the region's one attribute, or that called class, label, name, type, category or object; without one it
    is `object`. Left out with an issue are other shapes (`unusable_shape`), shapes that make no sense
    (`unusable_polygon`) or have no pixel on the image (`empty_mask`), and images that cannot be opened
    (`unusable_file`).

    Args:
        path: the JSON file, or a folder with one.
        images: the folder of the images. Default: where `ImageFinder` finds them.

    Raises:
        AnnotationError: the file is not VIA's, or nothing in it can be used.
    """
    path = Path(path)
    file = _via_file(path) if path.is_dir() else path
    entries = _entries(file)
    finder = ImageFinder(file, images)
    files: dict[Path, list[Region]] = {}
    for name, regions in entries:
        files.setdefault(finder.find(name), []).extend(regions)
    issues: list[Issue] = []
    dataset = read_each(path, list(files), lambda image: _objects(file, image, files[image], issues), issues)
    return dataset


def _via_file(folder: Path) -> Path:
    found = [one for one in sorted(folder.glob("*.json")) if _fits_file(one)]
    if len(found) != 1:
        raise AnnotationError(f"{folder}: expected one VIA file in this folder, found {len(found)}; name one of them")
    return found[0]


def _entries(file: Path) -> list[tuple[str, list[Region]]]:
    """The name of each image and its regions."""
    content = load_json(file)
    if isinstance(content, dict) and isinstance(content.get("_via_img_metadata"), dict):
        content = content["_via_img_metadata"]
    if not isinstance(content, dict):
        raise AnnotationError(f"{file}: not a VIA file: expected an object with an entry for each image")
    found = []
    for key, entry in content.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str) or "regions" not in entry:
            raise AnnotationError(f"{file}: not a VIA file: '{key:.60}' has no 'filename' and 'regions'")
        regions = entry["regions"]
        if isinstance(regions, dict):  # VIA 1
            regions = list(regions.values())
        if not isinstance(regions, list):
            raise AnnotationError(f"{file}: '{key:.60}': 'regions' must be a list")
        found.append((entry["filename"], regions))
    return found


def _objects(file: Path, image: Path, regions: list[Region], issues: list[Issue]) -> Annotated:
    size_hw = read_size_hw(image)
    crops, classes = [], []
    for k, region in enumerate(regions):
        where = f"{image.name}, region {k}"
        try:
            kind, outline = _outline(region)
            if outline is None:
                what = f"left out, a {kind!r:.40} cannot be used (only polygon, rect, circle and ellipse)"
                issues.append(Issue("unusable_shape", file, where, what, image))
                continue
            mask = rasterise([outline], size_hw)
        except ValueError as error:
            issues.append(Issue("unusable_polygon", file, where, f"left out, {error}", image))
            continue
        if mask[0].size == 0:
            issues.append(Issue("empty_mask", file, where, "left out, it has no pixels on the image", image))
            continue
        crops.append(mask)
        classes.append(_class_of(region))
    return Annotated(image, CropMasks.from_crops(crops, size_hw), classes)


def _outline(region: Region) -> tuple[object, list[float] | None]:
    """The kind of a region's shape, and its outline where that is one of ours."""
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        raise ValueError("it has no 'shape_attributes'")

    def numbers(*keys: str) -> Iterator[float]:
        for key in keys:
            check_numbers(key, [shape.get(key)])
            if abs(shape[key]) > FURTHEST_PX:
                raise ValueError(f"{key} is {shape[key]:g} pixels")
            yield float(shape[key])

    kind = shape.get("name")
    if kind == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        return kind, [x, y, x + width, y, x + width, y + height, x, y + height]
    if kind == "circle":
        x, y, radius = numbers("cx", "cy", "r")
        return kind, ellipse_outline((x, y), (abs(radius), abs(radius)))
    if kind == "ellipse":
        x, y, a, b = numbers("cx", "cy", "rx", "ry")
        (turned,) = numbers("theta") if "theta" in shape else (0.0,)
        return kind, ellipse_outline((x, y), (abs(a), abs(b)), turned)
    if kind != "polygon":
        return kind, None
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    n = len(xs) if isinstance(xs, list) else 0
    if n < 3:
        raise ValueError(f"a polygon takes at least three points, got {n}")
    check_numbers("all_points_x", xs, n)
    check_numbers("all_points_y", ys, n)
    return kind, [value for point in zip(xs, ys, strict=True) for value in point]  # type: ignore[arg-type]


def _class_of(region: Region) -> str:
    """The one attribute of a region that names its class."""
    attributes = region.get("region_attributes")
    if not isinstance(attributes, dict) or not attributes:
        return ONE_CLASS
    key = next((one for one in CLASS_KEYS if one in attributes), None)
    value = attributes[key] if key is not None else next(iter(attributes.values()))
    if isinstance(value, dict):  # boxes that can be ticked
        value = next((name for name, is_so in value.items() if is_so), "")
    name = str(value).strip() if isinstance(value, str | int | float) else ""
    return name or ONE_CLASS


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    return any(_fits_file(file) for file in folder.glob("*.json"))


def _fits_file(file: Path) -> bool:
    return mentions_keys(file, VIA_KEYS)


READER = Reader(
    name="via",
    layout="a JSON file of the VGG Image Annotator",
    read=read_via,
    fits_folder=_fits_folder,
    fits_file=_fits_file,
)
