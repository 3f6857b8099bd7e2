"""YOLO segmentation: one text file an image, one line an object: its class and a polygon in parts of the image's size.

The layout is that of https://docs.ultralytics.com/datasets/segment/: `images/` beside `labels/`, or any folders below
them in parallel, and a `data.yaml` with the `names` of the classes and the images of each split.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.data_yaml import YAML, DataYaml, images_at, read_data_yaml, read_names, read_text
from halfpixel.data.formats.format_names import Format, Split
from halfpixel.data.formats.mask_files import files_in, folders_in, read_size_hw
from halfpixel.data.formats.mask_sizes import PlacedCrop
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.polygons import check_numbers, rasterise
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError
from halfpixel.structures.masks import CropMasks

NAMES_FILE = "classes.txt"


def read_yolo(path: Path, images: Path | None = None, split: Split | None = None) -> Dataset:
    """Read polygons of YOLO segmentation; an image without a label file has no objects.

    Class names come from `names` in a YAML file, or the lines of `classes.txt`, in the folder or one of the two above;
    without them classes are called by their numbers, with an issue `no_class_names`. Of a YAML file that names several
    splits one is read, and an issue `split_taken` says which. Left out with an issue are lines that hold only a box
    (`box_without_outline`) or make no sense (`unusable_polygon`, `unknown_category`), objects without a pixel on the
    image (`empty_mask`), images that cannot be opened (`unusable_file`) and label files without an image
    (`annotation_without_image`).

    Args:
        path: the data set's folder or its YAML file, the folder of one split, for example `images/train`, or a text
            file that names images.
        images: the folder of the images, if it is not beside the labels; then all of them are read.
        split: the split to take. Default, and where there is no such: the first of train, val and test.

    Raises:
        AnnotationError: nothing can be used, a split is not where the YAML file says, or the file with the class names
            is broken.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() not in (*YAML, ".txt"):
        raise AnnotationError(f"{path}: yolo takes a folder, a .yaml file or a .txt file of the names of images")
    folder = path if path.is_dir() else path.parent
    file = _data_yaml(path)
    data = None if file is None else read_data_yaml(file)
    named = file or _find_names(folder)
    names = data.names if data is not None else {} if named is None else read_names(named)
    issues: list[Issue] = []
    if data is not None and images is None and data.splits:
        pairs = _pair_split(data, split, issues)
    elif path.suffix.lower() == ".txt":
        pairs = _with_labels(images_at(path))
    else:
        pairs = _pair_labels(folder, images, issues)
    if named is None:
        what = f"no class names in a .yaml file or {NAMES_FILE}: classes are called by their numbers"
        issues.append(Issue("no_class_names", path, "", what))
        found = {name for labels in pairs.values() if labels for name in _numbers_in(labels)}
        names = {number: str(number) for number in found}

    def read(image: Path) -> Annotated:
        size_hw, labels = read_size_hw(image), pairs[image]
        crops, classes = [], []
        for number, line in enumerate(read_text(labels).splitlines() if labels else [], start=1):
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


def splits_of(path: Path) -> tuple[Split, ...]:
    """The splits that a YAML file, or the one in a folder, says there are.

    Raises:
        AnnotationError: the file is broken.
    """
    file = _data_yaml(Path(path))
    return () if file is None else tuple(read_data_yaml(file).splits)


def label_file_of(image: Path) -> Path:
    """Where YOLO looks for an image's labels: the last folder called `images` becomes `labels`."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return Path(*parts)


def _data_yaml(path: Path) -> Path | None:
    """The YAML file that this is, or that lies in this folder."""
    return path if path.suffix.lower() in YAML else _yaml_with_names(path) if path.is_dir() else None


def _yaml_with_names(folder: Path) -> Path | None:
    for file in sorted(file for suffix in YAML for file in folder.glob(f"*{suffix}") if file.is_file()):
        if "names:" in file.read_text(encoding="utf-8", errors="replace"):
            return file
    return None


def _find_names(folder: Path) -> Path | None:
    for one in (folder, *folder.resolve().parents[:2]):
        places = (_yaml_with_names(one), one / NAMES_FILE, one / "labels" / NAMES_FILE)
        found = next((file for file in places if file is not None and file.is_file()), None)
        if found is not None:
            return found
    return None


def _pair_split(data: DataYaml, wanted: Split | None, issues: list[Issue]) -> dict[Path, Path | None]:
    """The images of one split of a YAML file with their label files; says which split it is."""
    split = data.choose(wanted)
    places = data.places(split)
    pairs = _with_labels(image for place in places for image in images_at(place, data.root))
    others = [f"'{one}'" for one, entries in data.splits.items() if list(entries) != list(data.splits[split])]
    if others:
        n, left = len(pairs), " and ".join(others)
        issues.append(Issue("split_taken", data.path, "", f"took '{split}' ({n:,} image{'s' * (n != 1)}), not {left}"))
    folders = [label_file_of(place / "any.png").parent for place in places if place.is_dir()]
    for folder in dict.fromkeys(one for one in folders if one.is_dir()):
        issues += _labels_without_image(folder, pairs)
    return pairs


def _pair_labels(folder: Path, images: Path | None, issues: list[Issue]) -> dict[Path, Path | None]:
    """Each image of a folder with its label file, or None where there is none."""
    home = folder
    if images is None and "labels" in folder.resolve().parts:  # the labels of one split were named
        parts = list(folder.resolve().parts)
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"
        home = Path(*parts) if Path(*parts).is_dir() else folder
    label_folder = folder / "labels" if (folder / "labels").is_dir() else folder
    pairs = _with_labels(files_in(images or home), images, label_folder)
    issues += _labels_without_image(folder, pairs)
    return pairs


def _with_labels(
    files: Iterable[Path], images: Path | None = None, label_folder: Path | None = None
) -> dict[Path, Path | None]:
    """Images with their label files: beside the last folder `images`, beside the image, or in parallel to `images`."""
    pairs: dict[Path, Path | None] = {}
    for image in files:
        beside = image if images is None or label_folder is None else label_folder / image.relative_to(images)
        usual = label_file_of(image if "images" in image.parts else image.resolve())
        pairs[image] = next((one for one in (usual, beside.with_suffix(".txt")) if one.is_file()), None)
    return pairs


def _labels_without_image(folder: Path, pairs: Mapping[Path, Path | None]) -> list[Issue]:
    used = {one.resolve() for one in pairs.values() if one is not None}
    left = []
    for file in files_in(folder, (".txt",)):
        inside = "labels" in file.relative_to(folder).parts or "labels" in folder.resolve().parts
        if inside and file.name != NAMES_FILE and file.resolve() not in used:
            left.append(Issue("annotation_without_image", file, "", "left out, it has no image"))
    return left


def _numbers_in(labels: Path) -> set[int]:
    try:
        words = [line.split()[0] for line in read_text(labels).splitlines() if line.strip()]
    except AnnotationError:
        return set()
    return {number for word in words if (number := _class_number(word)) is not None}


def _class_number(word: str) -> int | None:
    """The number of a class, which tools that know no types write as 0.0."""
    return int(word.partition(".")[0]) if re.fullmatch(r"[0-9]{1,9}(\.0*)?", word) else None


class _LineError(Exception):
    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def _read_line(line: str, size_hw: tuple[int, int], names: Mapping[int, str]) -> tuple[int, PlacedCrop]:
    first, *words = line.split()
    number = _class_number(first)
    if number is None:
        raise _LineError("unusable_polygon", f"it must start with the number of a class, got {first!r:.40}")
    if number not in names:
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
    try:
        mask = rasterise([scaled], size_hw)
    except ValueError as error:
        raise _LineError("unusable_polygon", str(error)) from None
    if mask[0].size == 0:
        raise _LineError("empty_mask", "it has no pixels on the image")
    return number, mask


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
    fits_file=lambda file: file.suffix.lower() in (*YAML, ".txt"),
    splits=splits_of,
    read_split=read_yolo,
)
