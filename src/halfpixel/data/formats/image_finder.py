"""Finds the files that annotations name. Exporters write the names as they know them, on another machine."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from urllib.parse import parse_qs, unquote, urlsplit

from halfpixel.errors import AnnotationError
from halfpixel.files import is_regular

ANNOTATION_FOLDERS = {"annotation", "annotations", "ann", "anns", "label", "labels", "json", "jsons"}
"""A file in a folder of such a name has its images beside that folder."""


class ImageFinder:
    r"""Looks for what an annotation file names, in this order; of several places in one step all are looked at.

    1. The name as it is written, with `/` for `\`, with `%20` and the like decoded; of an address its path. Each as a
       whole, then without its first folder, its first two, and so on.
    2. Where a folder of images is given, in that, then in the folder in it that the annotation file's name mentions
       (`train2017` for `instances_train2017.json`). Otherwise at the absolute path, if it is one; then in `images/`
       beside the file and beside the file itself; where the file lies in `annotations/`, `labels/` or the like, also
       around that folder; then in the folders there that the file's name mentions.

    Args:
        file: the annotation file.
        images: the folder of the images, if it was given.
        exists: whether something is at a path. Default: a regular file.
    """

    def __init__(self, file: Path, images: Path | None, exists: Callable[[Path], bool] = is_regular) -> None:
        self.file = file
        self._given = images
        self._exists = exists
        self._steps = list(_steps(file, images))
        self._shortened: dict[Path, str] = {}
        self._whole: dict[Path, str] = {}

    def find(self, name: str) -> Path:
        """The file of this name; the place where it should be, if there is none.

        Raises:
            AnnotationError: two files, or two names for one file, fit equally well; names both.
        """
        spellings = _spellings(name)
        if self._given is None:
            for one in spellings:
                if Path(one).is_absolute() and self._exists(Path(one)):
                    return Path(one)
        tails = [_tails(one) for one in spellings]
        for dropped in range(max(map(len, tails), default=0)):
            for folders in self._steps:
                for some in tails:
                    if dropped < len(some) and (found := self._look(name, folders, some[dropped])) is not None:
                        return self._once(name, found, dropped > 0)
        return self._expected(name)

    def _look(self, name: str, folders: list[Path], tail: str) -> Path | None:
        """The one file of this name in some folders."""
        if tail.startswith(".."):  # from where the annotation file lies
            folders = [] if self._given else [self.file.parent]
        found = [folder / tail for folder in folders if self._exists(folder / tail)]
        if len(found) > 1 and not all(found[0].samefile(other) for other in found[1:]):
            raise AnnotationError(
                f"{self.file}: '{name}' could be {found[0]} and {found[1]}; give the folder of the images"
            )
        return found[0] if found else None

    def _once(self, name: str, found: Path, shortened: bool) -> Path:
        """Refuse a second name for a file that was found without the folders in its name."""
        other = (self._whole if shortened else self._shortened).get(found) or self._shortened.get(found)
        if other not in (None, name):
            raise AnnotationError(f"{self.file}: '{other}' and '{name}' would both be {found}")
        (self._shortened if shortened else self._whole)[found] = name
        return found

    def _expected(self, name: str) -> Path:
        """Where a file that is not there should have been."""
        slashed = Path(name.replace("\\", "/"))
        folder = self._steps[0][0]
        if not slashed.is_absolute():
            return folder / slashed
        return slashed if self._given is None else folder / slashed.name


def plain_name(name: str) -> str:
    """A file's name without its folders, whichever slashes they are written with."""
    return PureWindowsPath(name).name


def _steps(file: Path, images: Path | None) -> Iterator[list[Path]]:
    """The folders to look in, those that are equally likely together."""
    words = set(re.split(r"[^a-z0-9]+", file.stem.lower())) - {""}
    homes = [file.parent] if images is None else [images]
    if images is None and file.resolve().parent.name.lower() in ANNOTATION_FOLDERS:
        homes.append(file.resolve().parent.parent)
    for home in homes:
        # where there is such a folder it is the likelier one
        both = [home / "images", home] if (home / "images").is_dir() else [home]
        yield [home] if images is not None else both
        for folder in both:
            named = sorted(one for one in _folders(folder) if one.name.lower() in words)
            if named:
                yield named


def _folders(folder: Path) -> list[Path]:
    try:
        return [Path(one.path) for one in os.scandir(folder) if one.is_dir()]
    except OSError:
        return []


def _spellings(name: str) -> list[str]:
    """The ways to write a name, as it stands first."""
    slashed = name.replace("\\", "/")
    plain = slashed
    if "?" in slashed or "://" in slashed:
        try:
            parts = urlsplit(slashed)
            plain = parse_qs(parts.query).get("d", [parts.path])[0]  # Label Studio: /data/local-files/?d=a.png
        except ValueError:  # not an address, whatever it looks like
            plain = slashed
    return list(dict.fromkeys(one for one in (name, slashed, plain, unquote(plain)) if one))


def _tails(name: str) -> list[str]:
    """A relative name, and what is left of it without its first folder, its first two, ..."""
    parts = [one for one in re.sub(r"^[A-Za-z]:", "", name).split("/") if one not in ("", ".")]
    return ["/".join(parts[k:]) for k in range(len(parts))]
