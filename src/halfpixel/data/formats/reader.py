"""What each format of annotated images says of itself to the table of readers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.format_names import Format, Split


def _nothing(path: Path) -> list[Issue]:
    return []


def _no_splits(path: Path) -> tuple[Split, ...]:
    return ()


@dataclass(frozen=True)
class Reader:
    """How a format of annotated images is recognised and read.

    Attributes:
        name: what `--format` calls it.
        layout: what a data set of it looks like, for people.
        read: reads a file or a folder that exists, with the folder of the images where they are not beside the
            annotations.
        fits_folder: whether a folder may be read so. It is told the folder, that of the images, and the formats above
            it in the table that fit.
        fits_file: whether a file may be read so; None for formats that take folders only.
        unread: what a data set says that `read` has no place for.
        splits: the parts that a data set says it has, of which `read` takes the first.
        read_split: as `read`, taking another of them; None for formats without.
    """

    name: Format
    layout: str
    read: Callable[[Path, Path | None], Dataset]
    fits_folder: Callable[[Path, Path | None, Collection[Format]], bool]
    fits_file: Callable[[Path], bool] | None = None
    unread: Callable[[Path], list[Issue]] = _nothing
    splits: Callable[[Path], tuple[Split, ...]] = _no_splits
    read_split: Callable[[Path, Path | None, Split], Dataset] | None = None
