"""`halfpixel data convert`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halfpixel.cli.console import Listener, complain, plain_table, say, show
from halfpixel.cli.option_groups import Reading
from halfpixel.data.formats.format_names import Format, WritableFormat
from halfpixel.jobs.annotated import AS_WRITTEN
from halfpixel.jobs.wording import plural

if TYPE_CHECKING:
    from halfpixel.data.dataset import Issue
    from halfpixel.jobs.convert import Conversion


def convert(
    data: Path,
    /,
    *,
    to: WritableFormat,
    out: Path,
    images: Path | None = None,
    format: Format | None = None,
    reading: Reading = AS_WRITTEN,
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
        reading: How the annotations are taken.
    """
    from halfpixel.jobs import convert as job

    with Listener() as listener:
        done = job.convert(data, to, out, images=images, format=format, reading=reading, tell=listener)
    for path in done.missing:
        complain(f"{path}: there is no such image; left out")
    _print(done, to, out)
    return 1 if done.missing else 0


def _print(done: Conversion, to: WritableFormat, out: Path) -> None:
    objects = sum(len(sample.objects) for sample in done.dataset.samples)
    crowd = sum(len(sample.ignored) for sample in done.dataset.samples)
    what = f"{plural(len(done.dataset.samples), 'image')}, {plural(objects, 'object')}"
    if crowd:
        what += f", {plural(crowd, 'crowd region')}"
    say(f"Read {done.dataset.path} as {done.read_as}: {what}. Written to {out} as {to}.")
    if done.lost:
        _print_lost(done.lost)
    else:
        say("Nothing was lost.")


def _print_lost(lost: Sequence[Issue]) -> None:
    table = plain_table("not kept", "times", "for example", right=("times",))
    by_kind: dict[str, list[Issue]] = {}
    for issue in lost:
        by_kind.setdefault(issue.kind if issue.kind != "key" else f"key {issue.where.split()[0]}", []).append(issue)
    for kind, issues in by_kind.items():
        table.add_row(kind, f"{len(issues):,}", str(issues[0]))
    show(table)
