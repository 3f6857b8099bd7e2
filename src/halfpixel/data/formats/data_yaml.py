"""YOLO's data.yaml: what the classes are called, and which images each split has; text files of names as well."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml  # type: ignore[import-untyped]

from halfpixel.data.formats.format_names import Split
from halfpixel.data.formats.image_finder import ImageFinder
from halfpixel.data.formats.mask_files import files_in
from halfpixel.errors import AnnotationError
from halfpixel.files import is_regular, is_there, read_regular

YAML = (".yaml", ".yml")
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class DataYaml:
    """What a data.yaml says.

    Attributes:
        path: the file.
        names: the classes by their numbers.
        root: the folder that the splits are in.
        splits: folders, lists of images or images of each split, as they are written.
    """

    path: Path
    names: Mapping[int, str]
    root: Path
    splits: Mapping[Split, Sequence[str]]

    def choose(self, wanted: Split | None) -> Split:
        """The split that is wanted, if it is there; otherwise the first one."""
        return next(one for one in (wanted, *SPLITS) if one is not None and one in self.splits)

    def places(self, split: Split) -> list[Path]:
        """The folders and files that a split names.

        Raises:
            AnnotationError: one of them is not there, or it is unclear which one it is.
        """
        finder = ImageFinder(self.root / self.path.name, None, is_there)
        return [self._place(finder, split, entry) for entry in self.splits[split]]

    def _place(self, finder: ImageFinder, split: Split, entry: str) -> Path:
        # Roboflow writes ../train/images for what is beside the file
        above, beside = self.root / entry, self.root / entry.removeprefix("../")
        if entry.startswith("../") and is_there(above) and is_there(beside):
            raise AnnotationError(f"{self.path}: '{split}: {entry}' could be {above} and {beside}; name the folder")
        place = finder.find(entry)
        if not is_there(place):
            raise AnnotationError(
                f"{self.path}: '{split}: {entry}': there is no {place}; name the folder of the split, or give the "
                "folder of the images"
            )
        return place


def read_data_yaml(path: Path) -> DataYaml:
    """Read a data.yaml: `names`, and where they are given `path`, `train`, `val` and `test`.

    Raises:
        AnnotationError: the file is not what it should be.
    """
    try:
        content = yaml.load(read_text(path), Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError(f"{path}: broken YAML ({' '.join(str(error).split())[:300]})") from None
    content = content if isinstance(content, dict) else {}
    names = content.get("names")
    if isinstance(names, list):
        names = {str(k): name for k, name in enumerate(names)}
    if not isinstance(names, dict) or not names or not all(_is_number(k) for k in names):
        raise AnnotationError(f"{path}: 'names' must be a list, or a mapping of class numbers to names")
    if not all(isinstance(name, str) for name in names.values()):
        raise AnnotationError(f"{path}: 'names' must be texts")
    home = content.get("path")
    roots = [path.parent / home] if isinstance(home, str) and home else []
    root = next((one for one in roots if is_there(one) and one.is_dir()), path.parent)
    splits = {split: entries for split in SPLITS if (entries := _entries(path, split, content.get(split)))}
    return DataYaml(path, _distinct(path, {int(k): name for k, name in names.items()}), root, splits)


def read_names(path: Path) -> Mapping[int, str]:
    """The class names in a YAML file (a list or a mapping `names`) or in a text file with a name a line.

    Raises:
        AnnotationError: the file is not what it should be.
    """
    if path.suffix.lower() in YAML:
        return read_data_yaml(path).names
    return _distinct(path, dict(enumerate(line.strip() for line in read_text(path).splitlines() if line.strip())))


def images_at(place: Path, home: Path | None = None) -> list[Path]:
    """The images of a folder, those that a text file names, or the one image that this is.

    Args:
        place: the folder or file.
        home: where else a text file's names may start from.

    Raises:
        AnnotationError: a text file cannot be read, or it is unclear which files it names.
    """
    if place.is_dir():
        return files_in(place)
    if place.suffix.lower() != ".txt":
        return [place]
    finders = [ImageFinder(folder / place.name, None) for folder in (place.parent, home or place.parent)]
    found: dict[Path, None] = {}
    for name in (line.strip() for line in read_text(place).splitlines()):
        if name:
            first, other = (one.find(name) for one in finders)
            found[first if is_regular(first) or not is_regular(other) else other] = None
    return list(found)


def read_text(path: Path) -> str:
    """The text of a file, without the mark that Windows puts before it.

    Raises:
        AnnotationError: it cannot be opened, or is not text.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except OSError as error:
        raise AnnotationError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise AnnotationError(f"{path}: not a text file ({error})") from None


class _PlainLoader(yaml.BaseLoader):  # type: ignore[misc]
    """Reads every value as the text that it is (a class called `no` is not False), and nothing else."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):  # a few lines of them can stand for more than any memory holds
            raise yaml.YAMLError(f"aliases are not read: *{event.anchor}")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags are not read: {event.tag}")
        return super().compose_node(parent, index)


def _is_number(text: object) -> bool:
    return isinstance(text, str) and re.fullmatch(r"[0-9]{1,9}", text) is not None


def _entries(path: Path, split: Split, value: object) -> list[str]:
    entries = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
        raise AnnotationError(f"{path}: '{split}' must be a folder, a text file of names, or a list of them")
    return [one for one in entries if one]


def _distinct(path: Path, names: dict[int, str]) -> dict[int, str]:
    """The names, if no two are the same."""
    name, times = max(Counter(names.values()).items(), key=lambda item: item[1], default=("", 0))
    if times > 1:
        raise AnnotationError(f"{path}: two classes are called {name!r}")
    return names
