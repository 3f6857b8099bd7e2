"""`halfpixel data check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, plain_table, say, say_json, show
from halfpixel.cli.option_groups import Reading
from halfpixel.data.formats.format_names import Format
from halfpixel.jobs.annotated import AS_WRITTEN
from halfpixel.jobs.model_options import describe_model
from halfpixel.jobs.wording import name_some, plural

if TYPE_CHECKING:
    from halfpixel.data.checks.check_report import DatasetCheck, Summary


def check(
    data: Path,
    /,
    *,
    val: Path | None = None,
    images: Path | None = None,
    format: Format | None = None,
    model: str | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
    reading: Reading = AS_WRITTEN,
) -> int:
    """Look for what would spoil a training: broken images, faulty annotations, the same image in train and val.

    The exit code is 0 when there is nothing above a note, 1 when there are errors or warnings, and 2 when the data
    cannot be read at all.

    Args:
        data: Annotated images: a file or a folder, in any format that `halfpixel data convert` reads.
        val: The validation set: are any of its images in training, too?
        images: The folder of the images, where they are not beside the annotation files.
        format: The format of the annotations, where it is not found by looking.
        model: Where training will start: compares the objects with this model's limit, input scale and anchors.
        out: A folder for check.json and contact-sheet.png, the worst images with the faulty objects outlined.
        overwrite: Replace an earlier check in the folder.
        as_json: Print everything as JSON.
        reading: How the annotations are taken.
    """
    from halfpixel.jobs import check as job

    with Listener() as listener:
        found = job.run(job.CheckRequest(data, val, images, format, model, out, overwrite, reading), listener)
    if as_json:
        say_json(found.to_json())
        return 0 if found.healthy else 1
    _print(found, model)
    if out is not None:
        say(f"Wrote {out / job.REPORT}")
        if (header := job.sheet_header(found)) is not None:
            say(f"Wrote {out / job.SHEET}: {header}")
    return 0 if found.healthy else 1


def _print(found: DatasetCheck, model: str | None) -> None:
    _print_summary(found.data, found.summary, model)
    say()
    if found.groups:
        table = plain_table("", "what", "how many", "for example", "advice", right=("how many",))
        for one in found.groups:
            example = one.issues[0].brief if one.issues else ""
            table.add_row(one.severity, one.what, f"{one.n:,}" if one.issues else "", example, one.advice)
        show(table)
        say()
    counts = [plural(found.count("error"), "error"), plural(found.count("warning"), "warning")]
    say("Nothing above a note: ready for training." if found.healthy else f"{' and '.join(counts)}.")


def _print_summary(data: Path, summary: Summary, model: str | None) -> None:
    classes = plural(len(summary.class_counts), "class", "classes")
    say(f"{data}: {plural(summary.n_images, 'image')}, {plural(summary.n_objects, 'object')} of {classes}.")
    most_first = sorted(summary.class_counts.items(), key=lambda item: -item[1])
    say(f"  classes          {name_some([f'{name} {count:,}' for name, count in most_first])}")
    if summary.image_sizes_hw is not None:
        small, large = (f"{width} x {height}" for height, width in summary.image_sizes_hw)
        say(f"  image size       {small}" + (f" to {large}" if large != small else "") + " pixels")
    if summary.objects_per_image is not None:
        least, median, most = summary.objects_per_image
        say(f"  objects an image {least:,} to {most:,}, median {median:g}")
    if summary.side_px is not None:
        low, median, high = summary.side_px
        say(f"  object side      {low:.0f} to {high:.0f} px, median {median:.0f} (root of the mask's area, 5 to 95%)")
    if summary.side_at_input_px is not None and model is not None:
        low, median, high = summary.side_at_input_px
        say(f"  at the input     {low:.0f} to {high:.0f} px, median {median:.0f}, of the model {describe_model(model)}")
