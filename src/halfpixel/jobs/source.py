"""What a walk over files looks at: their pictures, read when they are asked for, or why they cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.picture import Picture, Reading, read_pictures
from halfpixel.data.images.planes import COLOURS


@dataclass(frozen=True)
class View:
    """An image that was read, or why it could not be.

    Attributes:
        number: of its file.
        seen: the image, or the reason.
    """

    number: int
    seen: Picture | Exception

    def picture(self) -> Picture:
        """The image."""
        if isinstance(self.seen, Exception):
            raise self.seen
        return self.seen

    def rgb(self) -> Rgb8:
        """What the network sees of it."""
        return self.picture().rgb


def read_views(paths: Sequence[Path], reading: Reading, skip: Callable[[Path, str], bool]) -> Iterator[View]:
    """All that is to be looked at, read when it is asked for."""
    for number, path in enumerate(paths):
        try:
            for picture in read_pictures(path, reading):
                if reading.planes == "first":
                    picture = replace(picture, plane="")
                if not skip(path, picture.plane):
                    yield View(number, picture)
        except Exception as error:
            yield View(number, error)


def false_colours(picture: Picture) -> str:
    """A file and its channels, where the first three are not red, green and blue; else an empty text."""
    seen = picture.channel_names[: len(COLOURS)]
    unseen = len(picture.channel_names) - len(seen)
    if len(seen) == 1 or all(name.casefold() == colour for name, colour in zip(seen, COLOURS, strict=False)):
        return ""
    return f"{picture.path}: {', '.join(seen)}" + (f" without {unseen} more" if unseen else "")
