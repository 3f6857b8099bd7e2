"""YOLO segmentation: one text file an image, one line an object: its class and a polygon in parts of the image's size.

The layout is that of https://docs.ultralytics.com/datasets/segment/: `images/` beside `labels/`, or any folders below
them in parallel, and a `data.yaml` with the `names` of the classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.mask_files import files_in, folders_in, read_size_hw
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.polygons import check_numbers, rasterise
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError
from halfpixel.ops import rle
from halfpixel.structures.masks import CropMasks

YAML = (".yaml", ".yml")
NAMES_FILE = "classes.txt"


def read_yolo(path: Path, images: Path | None = None) -> Dataset:
    """Read polygons of YOLO segmentation; an image without a label file has no objects.

    Class names come from `names` in a YAML file, or the lines of `classes.txt`, in the folder or one of the two above;
    without them classes are called by their numbers, with an issue `no_class_names`. Left out with an issue are lines
    that hold only a box (`box_without_outline`) or make no sense (`unusable_polygon`, `unknown_category`), objects
    without a pixel on the image (`empty_mask`), images that cannot be opened (`unusable_file`) and label files without
    an image (`annotation_without_image`).

    Args:
        path: the data set's folder, its YAML file (the folder is taken), or the folder of one split, for example
            `images/train`. The lists of files in the YAML are not followed: the folder's images are read.
        images: the folder of the images, if it is not beside the labels.

    Raises:
        AnnotationError: nothing can be used, or the file with the class names is broken.
    """
    path = Path(path)
    folder = path.parent if path.suffix.lower() in YAML else path
    named = path if folder != path else _find_names(folder)
    names = {} if named is None else read_names(named)
    issues: list[Issue] = []
    pairs = _pair_labels(folder, images, issues)
    if named is None:
        what = f"no class names in a .yaml file or {NAMES_FILE}: classes are called by their numbers"
        issues.append(Issue("no_class_names", path, "", what))
        found = {name for labels in pairs.values() if labels for name in _numbers_in(labels)}
        names = {number: str(number) for number in found}

    def read(image: Path) -> Annotated:
        size_hw, labels = read_size_hw(image), pairs[image]
        crops, classes = [], []
        for number, line in enumerate(_lines(labels) if labels else [], start=1):
            try:
                if line.strip():
                    k, mask = _read_line(line, size_hw, names)
                    crops.append(mask)
                    classes.append(names[k])
            except _LineError as error:
                assert labels is not None
                issues.append(Issue(error.kind, labels, f"line {number}", f"left out, {error}", image))
        return Annotated(image, CropMasks.from_crops(crops, size_hw), classes)

    return read_each(path, list(pairs), read, issues, [names[number] for number in sorted(names)])


def label_file_of(image: Path) -> Path:
    """Where YOLO looks for an image's labels: the last folder called `images` becomes `labels`."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts)


def read_names(path: Path) -> dict[int, str]:
    """The class names in a YAML file (a list or a mapping `names`) or in a text file with a name a line.

    Raises:
        AnnotationError: the file is not what it should be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise AnnotationError(f"{path}: not a text file ({error})") from None
    if path.suffix.lower() not in YAML:
        return _distinct(path, dict(enumerate(line.strip() for line in text.splitlines() if line.strip())))
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: broken YAML ({' '.join(str(error).split())})") from None
    names: Any = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or any(type(k) is not int or k < 0 for k in names):
        raise AnnotationError(f"{path}: 'names' must be a list, or a mapping of class numbers to names")
    return _distinct(path, {k: str(name) for k, name in names.items()})


def _distinct(path: Path, names: dict[int, str]) -> dict[int, str]:
    """The names, if no two are the same."""
    name, times = max(Counter(names.values()).items(), key=lambda item: item[1], default=("", 0))
    if times > 1:
        raise AnnotationError(f"{path}: two classes are called {name!r}")
    return names


def _find_names(folder: Path) -> Path | None:
    for one in (folder, *folder.resolve().parents[:2]):
        for file in sorted(file for suffix in YAML for file in one.glob(f"*{suffix}")):
            if "names:" in file.read_text(encoding="utf-8", errors="replace"):
                return file
        for file in (one / NAMES_FILE, one / "labels" / NAMES_FILE):
            if file.is_file():
                return file
    return None


def _pair_labels(folder: Path, images: Path | None, issues: list[Issue]) -> dict[Path, Path | None]:
    """Each image with its label file, or None where there is none."""
    home = folder
    if images is None and "labels" in folder.resolve().parts:  # the labels of one split were named
        parts = list(folder.resolve().parts)
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"
        home = Path(*parts) if Path(*parts).is_dir() else folder
    label_folder = folder / "labels" if (folder / "labels").is_dir() else folder
    pairs: dict[Path, Path | None] = {}
    for image in files_in(images or home):
        beside = (label_folder / image.relative_to(images)).with_suffix(".txt") if images else image.with_suffix(".txt")
        usual = label_file_of(image if "images" in image.parts else image.resolve())
        pairs[image] = next((one for one in (usual, beside) if one.is_file()), None)
    used = {one.resolve() for one in pairs.values() if one is not None}
    for file in files_in(folder, (".txt",)):
        inside = "labels" in file.relative_to(folder).parts or "labels" in folder.resolve().parts
        if inside and file.name != NAMES_FILE and file.resolve() not in used:
            issues.append(Issue("annotation_without_image", file, "", "left out, it has no image"))
    return pairs


def _lines(labels: Path) -> list[str]:
    try:
        return labels.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise AnnotationError(f"{labels}: {error.strerror}") from error
    except ValueError:
        raise AnnotationError(f"{labels}: not a text file") from None


def _numbers_in(labels: Path) -> set[int]:
    try:
        words = [line.split()[0] for line in _lines(labels) if line.strip()]
    except AnnotationError:
        return set()
    return {int(word) for word in words if word.isdecimal()}


class _LineError(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _read_line(
    line: str, size_hw: tuple[int, int], names: Mapping[int, str]
) -> tuple[int, tuple[rle.Crop, tuple[int, int]]]:
    number, *words = line.split()
    if not number.isdecimal():
        raise _LineError("unusable_polygon", f"it must start with the number of a class, got {number!r:.40}")
    if int(number) not in names:
        raise _LineError("unknown_category", f"there is no class {number} in the {len(names)} names")
    try:
        values = [float(word) for word in words]
        check_numbers("coordinates", values, len(values))
        if len(values) == 4:
            raise _LineError("box_without_outline", "it holds a box only, which has no outline")
        if len(values) % 2 or len(values) < 6:
            raise ValueError(f"expected the x and y of at least three points, got {len(values)} numbers")
        if min(values) < -1 or max(values) > 2:
            raise ValueError(f"coordinates are parts of the image's size, 0 to 1; got {max(values, key=abs):g}")
    except ValueError as error:
        raise _LineError("unusable_polygon", str(error)) from None
    height, width = size_hw
    scaled = [value * (height if k % 2 else width) for k, value in enumerate(values)]
    mask = rasterise([scaled], size_hw)
    if mask[0].size == 0:
        raise _LineError("empty_mask", "it has no pixels on the image")
    return int(number), mask


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    is_inside = "labels" in folder.resolve().parts or (folder / "labels").is_dir()
    beside = label_file_of(folder.resolve() / "any.png").parent
    is_beside = "images" in folder.resolve().parts and beside.is_dir()
    nested = [one / "labels" for one in folders_in(folder) if (one / "labels").is_dir() and (one / "images").is_dir()]
    return any(files_in(one, (".txt",)) for one in [folder] * is_inside + [beside] * is_beside + nested)


READER = Reader(
    name="yolo",
    layout="labels/*.txt beside images/",
    read=read_yolo,
    fits_folder=_fits_folder,
    fits_file=lambda file: file.suffix.lower() in YAML,
)
