"""`halfpixel data check`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halfpixel.cli.console import Listener, plain_table, progress_bar, say, say_json, show
from halfpixel.data.formats.format_names import Format
from halfpixel.files import write_with_folder
from halfpixel.jobs.annotated import open_dataset
from halfpixel.jobs.model_options import describe_model, open_model
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.wording import name_some, plural

if TYPE_CHECKING:
    from halfpixel.data.checks.dataset_check import Check, Summary
    from halfpixel.data.dataset import Dataset, Sample
    from halfpixel.viz.contact_sheet import Tile

REPORT, SHEET = "check.json", "contact-sheet.png"
SHOWN_AT_MOST = 12
OBJECTS_AT_MOST = 200
"""Outlines on one thumbnail."""


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
    """
    from halfpixel.data.checks.dataset_check import check_dataset

    if out is not None:
        check_folder(out)
        if not overwrite:
            refuse_to_overwrite([out / REPORT, out / SHEET])
    dataset = open_dataset(data, images, format)
    held_out = None if val is None else open_dataset(val, images, format)
    of_model = {} if model is None else _model_facts(model)
    with progress_bar() as bar:
        task = bar.add_task("Checking")

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = check_dataset(dataset, held_out, progress=tell, **of_model)
    if as_json:
        say_json(found.to_json())
    else:
        _print(found, model)
    if out is not None:
        _write(found, dataset, held_out, out, quiet=as_json)
    return 0 if found.healthy else 1


def _model_facts(model: str) -> dict[str, Any]:
    """What a data set has to go with: the limit, the anchors and the scale of a model."""
    from halfpixel.data.images.prepare import network_size

    with Listener() as listener:
        predictor = open_model(model, listener)
    rules = predictor.info.input

    def input_scale(size_hw: tuple[int, int]) -> float:
        return network_size(size_hw, rules)[0]

    anchors = predictor.model.anchor_sizes_px
    limit = predictor.info.detection_limit
    return {"detection_limit": limit, "anchor_sizes_px": anchors, "input_scale": input_scale}


def _print(found: Check, model: str | None) -> None:
    _print_summary(found.data, found.summary, model)
    say()
    if found.findings:
        table = plain_table("", "what", "how many", "for example", "advice", right=("how many",))
        for one in found.findings:
            example = str(one.places[0]) if one.places else ""
            table.add_row(one.severity, one.what, f"{one.n:,}" if one.places else "", example, one.advice)
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


def _write(found: Check, dataset: Dataset, val: Dataset | None, out: Path, quiet: bool) -> None:
    from halfpixel.data.images.rgb8 import png_bytes
    from halfpixel.viz.contact_sheet import draw_contact_sheet

    tell: Callable[[str], None] = (lambda _: None) if quiet else say
    write_with_folder(out / REPORT, json.dumps(found.to_json(), indent=1, allow_nan=False).encode())
    tell(f"Wrote {out / REPORT}")
    worst = found.worst_images()
    if not worst:
        (out / SHEET).unlink(missing_ok=True)  # of an earlier check
        return
    shown = f"the {SHOWN_AT_MOST} worst of " if len(worst) > SHOWN_AT_MOST else ""
    header = f"{found.data.name}: {shown}{plural(len(worst), 'image')} with errors or warnings"
    samples = {sample.path: sample for one in (val, dataset) if one is not None for sample in one.samples}
    sheet = draw_contact_sheet(_tiles(found, samples), header)
    write_with_folder(out / SHEET, png_bytes(sheet))
    tell(f"Wrote {out / SHEET}: {header}")


def _tiles(found: Check, samples: dict[Path, Sample]) -> Iterator[Tile]:
    """A thumbnail for each of the worst images, one at a time; each kind of finding has a colour of its own."""
    import numpy as np

    from halfpixel.data.images.rgb8 import read_image
    from halfpixel.errors import ImageError
    from halfpixel.viz.contact_sheet import Tile
    from halfpixel.viz.palette import distinct_colours

    kinds = [one.kind for one in found.findings if one.severity != "note"]
    colour_of = dict(zip(kinds, distinct_colours(len(kinds)), strict=True))
    for path, findings in found.worst_images()[:SHOWN_AT_MOST]:
        try:
            picture = read_image(path)
        except ImageError:
            picture = None
        sample = samples.get(path)
        lines, rows, colours = [], [], []
        for finding, places in sorted(findings, key=lambda one: not any(place.objects for place in one[1])):
            red, green, blue = colour_of[finding.kind].tolist()
            text = f"{len(places)} {finding.what}" if len(places) > 1 else places[0].what
            lines.append((text, (red, green, blue)))
            faulty = [k for place in places for k in place.objects]
            if finding.kind == "size_mismatch" and sample is not None:
                faulty = list(range(len(sample.objects)))  # all of them are in the wrong place
            rows += faulty[:OBJECTS_AT_MOST]
            colours += [colour_of[finding.kind]] * len(faulty[:OBJECTS_AT_MOST])
        objects = None
        if sample is not None and picture is not None:
            objects = sample.objects[rows].translate(0, 0, (picture.shape[0], picture.shape[1]))
        yield Tile(path.name, lines, picture, objects, np.array(colours, dtype=np.uint8).reshape(-1, 3))
