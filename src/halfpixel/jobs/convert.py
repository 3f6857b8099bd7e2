"""Brings annotated images to another format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from halfpixel.data.formats.format_names import Format, WritableFormat
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.files import is_regular
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions, check_data, open_dataset
from halfpixel.jobs.events import Tell, Warned, ignore
from halfpixel.jobs.image_names import output_names, output_stems
from halfpixel.jobs.output_folder import check_folder

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset, Issue


@dataclass(frozen=True)
class ConvertRequest:
    """Which annotated images to bring to which format; see `convert`."""

    data: Path
    to: WritableFormat
    out: Path
    images: Path | None = None
    format: Format | None = None
    reading: ReadingOptions = AS_WRITTEN


@dataclass(frozen=True, eq=False)
class Conversion:
    """What was written, and what was not.

    Attributes:
        dataset: what was read, less the images that are missing.
        read_as: its format.
        missing: images that are not there; they were left out.
        lost: what the new format cannot hold, and what of the old one is not read.
    """

    dataset: Dataset
    read_as: Format
    missing: tuple[Path, ...]
    lost: tuple[Issue, ...]


def convert(
    data: str | Path,
    to: WritableFormat,
    out: str | Path,
    *,
    images: str | Path | None = None,
    format: Format | None = None,
    reading: ReadingOptions = AS_WRITTEN,
    tell: Tell = ignore,
) -> Conversion:
    """Bring annotated images to another format; the new folder is a whole data set, with copies of the images.

    Args:
        data: annotated images: a COCO file, LabelMe files, or the folder of a data set.
        to: the new format.
        out: a new or empty folder. When something fails, it is left as it was.
        images: the folder of the images, where they are not beside the annotations.
        format: of the data. Default: found by looking.
        reading: how the annotations are taken.
        tell: hears of issues with the data, which are in `Conversion.dataset.warnings`, too.

    Raises:
        ArgumentError: `out` is not a new or empty folder, or there is no such format.
        AnnotationError: the data cannot be read, or has no images that are there, or one twice.
    """
    folder = None if images is None else Path(images)
    return run(ConvertRequest(Path(data), to, Path(out), folder, format, reading), tell)


def run(request: ConvertRequest, tell: Tell = ignore) -> Conversion:
    """Convert what was requested; see `convert`."""
    data, out, images = request.data, request.out, request.images
    check_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise ArgumentError(f"`out` {out}: the folder is not empty; choose a new one")
    check_data(data, images)
    from halfpixel.data.formats.detect import detect, reader_of
    from halfpixel.outputs.write_dataset import write_dataset

    read_as = detect(data, images) if request.format is None else request.format
    dataset = open_dataset(data, images, read_as, lambda text: tell(Warned(text)), request.reading)
    missing = tuple(sample.path for sample in dataset.samples if not is_regular(sample.path))
    complete = replace(dataset, samples=tuple(sample for sample in dataset.samples if is_regular(sample.path)))
    lost = reader_of(read_as).unread(dataset.path)
    with _filled_at_once(out) as folder:
        lost += write_dataset(complete, folder, new_stems([sample.path for sample in complete.samples]), request.to)
    return Conversion(complete, read_as, missing, tuple(lost))


@contextmanager
def _filled_at_once(out: Path) -> Iterator[Path]:
    """A folder inside `out` whose content moves up when all went well, and is removed when not."""
    is_new = not out.exists()
    part = out / f".{os.getpid()}.part"
    try:
        part.mkdir(parents=True)
        yield part
        for one in list(part.iterdir()):
            one.rename(out / one.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if is_new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def new_stems(paths: Sequence[Path]) -> list[str]:
    """A unique name without suffix for each image: its own, with its folders only where images share a name.

    Raises:
        AnnotationError: an image is in the data set twice.
    """
    stems = output_stems(output_names(paths))
    without_folders = [PurePosixPath(stem).name for stem in stems]
    without_images = ["/".join(part for part in stem.split("/") if part != "images") for stem in stems]
    for names in (without_folders, without_images, stems):
        if len({name.casefold() for name in names}) == len(names):
            return names
    twice = next(path for k, path in enumerate(paths) if path in paths[:k])
    raise AnnotationError(f"{twice}: this image is in the data set twice")
