"""Which images a job is to look at, and their pixels, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from halfpixel.errors import ImageError

if TYPE_CHECKING:
    from halfpixel.data.images.contrast import Rgb8
    from halfpixel.data.images.picture import Picture, Reading


def as_patterns(paths: str | Path | Iterable[str | Path]) -> list[str]:
    """One path or several, as texts."""
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]


def find_all_images(
    patterns: Iterable[str],
    fail: Callable[[str, Exception], None],
    skip: Callable[[Path], bool] = lambda path: False,
) -> list[Path]:
    """The images that files, folders and globs stand for, each once.

    Args:
        patterns: what stands for them.
        fail: hears of each that stands for none, and why.
        skip: whether to leave out a file that a folder or a glob stands for; one that is named is never left out.
    """
    from halfpixel.data.images.rgb8 import find_images

    found: dict[str, Path] = {}
    for pattern in patterns:
        try:
            if not pattern:  # an unset variable of a shell script, which would stand for this folder
                raise ImageError("an empty PATH: expected a file, a folder or a glob")
            for path in find_images(pattern):
                if str(path) == pattern or not skip(path):
                    found.setdefault(os.path.normpath(path.absolute()), path)
        except (ImageError, OSError) as error:
            fail(pattern, error)
    return list(found.values())


@dataclass(frozen=True)
class Plane:
    """An image that was read, or why it could not be.

    Attributes:
        number: of its file.
        read: the image, or the reason.
    """

    number: int
    read: Picture | Exception

    def picture(self) -> Picture:
        """The image."""
        if isinstance(self.read, Exception):
            raise self.read
        return self.read

    def rgb(self) -> Rgb8:
        """What the network sees of it."""
        return self.picture().rgb


def read_planes(paths: Sequence[Path], reading: Reading, skip: Callable[[Path, str], bool]) -> Iterator[Plane]:
    """All that is to be looked at, read when it is asked for."""
    for number, path in enumerate(paths):
        try:
            for picture in _pictures(path, reading):
                if reading.planes == "first":
                    picture = replace(picture, plane="")
                if not skip(path, picture.plane):
                    yield Plane(number, picture)
        except Exception as error:
            yield Plane(number, error)


def _pictures(path: Path, reading: Reading) -> Iterator[Picture]:
    """Those in a file, which may be a film."""
    from halfpixel.data.films import is_film, read_film
    from halfpixel.data.images.picture import read_pictures

    return read_film(path, reading) if is_film(path) else read_pictures(path, reading)


def middle_of(path: Path, reading: Reading) -> Rgb8:
    """What the network sees of the picture in the middle of a file, which may be a film."""
    from halfpixel.data.films import is_film, middle_of_film
    from halfpixel.data.images.picture import middle_rgb

    return middle_of_film(path, reading) if is_film(path) else middle_rgb(path, reading)


def label_of(path: Path, plane: str) -> str:
    """How tables and warnings call an image: its path, and which plane of it where each is an image of its own."""
    return f"{path}#{plane}" if plane else str(path)


def false_colours(picture: Picture) -> str:
    """A file and its channels, where the first three are not red, green and blue; else an empty text."""
    from halfpixel.data.images.planes import COLOURS

    seen = picture.channel_names[: len(COLOURS)]
    unseen = len(picture.channel_names) - len(seen)
    if len(seen) == 1 or all(name.casefold() == colour for name, colour in zip(seen, COLOURS, strict=False)):
        return ""
    return f"{picture.path}: {', '.join(seen)}" + (f" without {unseen} more" if unseen else "")
