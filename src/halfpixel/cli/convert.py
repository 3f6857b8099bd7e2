"""`halfpixel data convert`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from halfpixel.cli.console import complain, plain_table, say, show, warn
from halfpixel.data.formats.format_names import Format, WritableFormat
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.jobs.annotated import open_dataset
from halfpixel.jobs.image_names import output_names, output_stems
from halfpixel.jobs.output_folder import check_folder
from halfpixel.jobs.wording import plural

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset, Issue


def convert(
    data: Path,
    /,
    *,
    to: WritableFormat,
    out: Path,
    images: Path | None = None,
    format: Format | None = None,
) -> int:
    """Bring annotated images to another format, and say what that format cannot hold.

    The new folder is a whole data set: it gets copies of the images. Masks keep every pixel that the format can hold.

    Args:
        data: Annotated images: a COCO file, LabelMe files, or the folder of a data set.
        to: The new format. coco keeps everything that is read; yolo has no holes; label_images no classes and no
            overlaps; mask_folders (one file an object) no classes.
        out: A new or empty folder.
        images: The folder of the images, where they are not beside the annotations.
        format: The format of the data. Default: found by looking.
    """
    from halfpixel.data.formats.detect import detect, reader_of
    from halfpixel.outputs.write_dataset import write_dataset

    check_folder(out)
    if out.is_dir() and any(out.iterdir()):
        raise ArgumentError(f"--out {out}: the folder is not empty; choose a new one")
    chosen = detect(data, images) if format is None else format
    dataset = open_dataset(data, images, chosen, warn)
    complete = replace(dataset, samples=tuple(sample for sample in dataset.samples if sample.path.is_file()))
    missing = [sample.path for sample in dataset.samples if not sample.path.is_file()]
    for path in missing:
        complain(f"{path}: there is no such image; left out")
    lost = reader_of(chosen).unread(dataset.path)
    with _folder(out) as folder:
        lost += write_dataset(complete, folder, new_stems([sample.path for sample in complete.samples]), to)
    _report(complete, chosen, to, out, lost)
    return 1 if missing else 0


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
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
    plain = [PurePosixPath(stem).name for stem in stems]
    without_images = ["/".join(part for part in stem.split("/") if part != "images") for stem in stems]
    for names in (plain, without_images, stems):
        if len({name.casefold() for name in names}) == len(names):
            return names
    twice = next(path for k, path in enumerate(paths) if path in paths[:k])
    raise AnnotationError(f"{twice}: this image is in the data set twice")


def _report(dataset: Dataset, chosen: Format, to: WritableFormat, out: Path, lost: Sequence[Issue]) -> None:
    objects = sum(len(sample.objects) for sample in dataset.samples)
    crowd = sum(len(sample.ignored) for sample in dataset.samples)
    what = f"{plural(len(dataset.samples), 'image')}, {plural(objects, 'object')}"
    if crowd:
        what += f", {plural(crowd, 'crowd region')}"
    say(f"Read {dataset.path} as {chosen}: {what}. Written to {out} as {to}.")
    if not lost:
        say("Nothing was lost.")
        return
    table = plain_table("not kept", "times", "for example", right=("times",))
    kinds: dict[str, list[Issue]] = {}
    for issue in lost:
        kinds.setdefault(issue.kind if issue.kind != "key" else f"key {issue.where.split()[0]}", []).append(issue)
    for kind, issues in kinds.items():
        table.add_row(kind, f"{len(issues):,}", str(issues[0]))
    show(table)
