"""The formats of annotated images: which one it is, and reading it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats import coco, label_images, label_studio, labelme, mask_folders, semantic, via, yolo
from halfpixel.data.formats.format_names import Format, Split
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError, ArgumentError

READERS: tuple[Reader, ...] = (
    coco.READER,
    yolo.READER,
    labelme.READER,
    via.READER,
    label_studio.READER,
    mask_folders.READER,
    label_images.READER,
    semantic.READER,
)
"""Every format that can be read, in the order in which they are looked for."""


def read_dataset(
    path: Path, images: Path | None = None, format: Format | None = None, split: Split | None = None
) -> Dataset:
    """Read annotated images of any format that halfpixel knows.

    Args:
        path: an annotation file or a data set's folder.
        images: the folder of the images, where they are not beside the annotations.
        format: how to read it. Default: what `detect` finds.
        split: of a data set that says which parts it has, the part to take. Default, and where there is no such part:
            the first of train, val and test.

    Raises:
        AnnotationError: it cannot be read, or it is unclear which format it is.
        ArgumentError: there is no such format, or it has its images inside and others were given.
    """
    path = Path(path)
    reader = reader_of(detect(path, images) if format is None else format)
    if not path.exists():
        raise AnnotationError(f"{path}: No such file or folder")
    if reader.fits_file is None and not path.is_dir():
        raise AnnotationError(f"{path}: {reader.name} takes a folder")
    if split is not None and reader.read_split is not None:
        return reader.read_split(path, images, split)
    return reader.read(path, images)


def splits_of(path: Path, format: Format | None = None) -> tuple[Split, ...]:
    """The parts that a data set says it has; none where all of it is one.

    Raises:
        AnnotationError: it cannot be read, or it is unclear which format it is.
    """
    return reader_of(detect(Path(path)) if format is None else format).splits(Path(path))


def reader_of(format: Format) -> Reader:
    """The reader of a format.

    Raises:
        ArgumentError: there is none; names those that there are.
    """
    for reader in READERS:
        if reader.name == format:
            return reader
    raise ArgumentError(f"there is no format {format!r}; choose from {', '.join(one.name for one in READERS)}")


def detect(path: Path, images: Path | None = None) -> Format:
    """Find out the format of annotated images by looking at them.

    Masks whose numbers could be those of objects are label images. Where all files together have at most two different
    positive numbers, as 0 and 255, they are semantic, unless the numbers are 1 and 2 and each is one connected region,
    so that both readings find the same objects.

    Args:
        path: an annotation file or a data set's folder.
        images: the folder of the images, where they are not beside the annotations.

    Raises:
        AnnotationError: there is nothing, none of the formats fits, or several do.
    """
    path = Path(path)
    if not path.exists():
        raise AnnotationError(f"{path}: No such file or folder")
    if path.is_file():  # of any other file COCO's reader says what is wrong with it
        fitting = (one.name for one in READERS if one.fits_file is not None and one.fits_file(path))
        return next(fitting, coco.READER.name)
    found: list[Format] = []
    for reader in READERS:
        if reader.fits_folder(path, images, found):
            found.append(reader.name)
    if len(found) == 1:
        return found[0]
    if found:
        raise AnnotationError(f"{path}: this folder could be read as {' and '.join(found)}; say which with `format`")
    raise AnnotationError(
        f"{path}: expected annotated images in this folder, found 0 of the formats known: {_looked_for()}; "
        "name a file, or say with `format` which it is"
    )


def _looked_for() -> str:
    """All formats and what they look like; those that look the same together."""
    by_layout = groupby(READERS, lambda one: one.layout)
    return ", ".join(f"{' or '.join(one.name for one in readers)} ({layout})" for layout, readers in by_layout)
