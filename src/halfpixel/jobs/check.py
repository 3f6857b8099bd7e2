"""Looks for what would spoil a training, and writes down what was found with a sheet of the worst images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.data.dataset import Dataset, Issue, Sample
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ImageError
from halfpixel.files import write_with_folder
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions, check_data, open_dataset
from halfpixel.jobs.events import Event, Progress, Tell, ignore
from halfpixel.jobs.model_options import check_models, open_model
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.wording import plural

if TYPE_CHECKING:
    from halfpixel.data.checks.check_report import DatasetCheck, IssueGroup
    from halfpixel.engine.predictor import Predictor
    from halfpixel.viz.contact_sheet import Tile

REPORT, SHEET = "check.json", "contact-sheet.png"
SHOWN_AT_MOST = 12
OBJECTS_AT_MOST = 200
"""Outlines on one thumbnail."""

Data = Dataset | Path


@dataclass(frozen=True)
class CheckRequest:
    """Which annotated images to look at; see `check`."""

    data: Data
    val: Data | None = None
    images: Path | None = None
    format: Format | None = None
    model: Predictor | str | None = None
    out: Path | None = None
    overwrite: bool = False
    reading: ReadingOptions = AS_WRITTEN


def check(
    data: Dataset | str | Path,
    *,
    val: Dataset | str | Path | None = None,
    images: str | Path | None = None,
    format: Format | None = None,
    model: Predictor | str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    reading: ReadingOptions = AS_WRITTEN,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetCheck:
    """Look for what would spoil a training: broken images, faulty annotations, the same image in train and val.

    Args:
        data: annotated images: a data set, or a file or folder in any format that `read_dataset` reads.
        val: the validation set: are any of its images in training, too?
        images: the folder of the images, where they are not beside the annotation files.
        format: of the annotations. Default: found by looking.
        model: where training will start, or its name or file: its limit, input scale and anchors are compared with the
            objects.
        out: a folder for check.json and contact-sheet.png, the worst images with the faulty objects outlined.
        overwrite: replace an earlier check in the folder.
        reading: how the annotations are taken.
        progress: is told the number of images done and of all.

    Raises:
        AnnotationError: the data cannot be read, or none of its images is there.
        ArgumentError: `out` is a file, or holds an earlier check.
        ModelFileError: the model is neither a name nor a usable file.
    """

    def tell(event: Event) -> None:
        if progress is not None and isinstance(event, Progress) and event.task == "check":
            progress(event.done, event.total or 0)

    request = CheckRequest(
        data=Path(data) if isinstance(data, str) else data,
        val=Path(val) if isinstance(val, str) else val,
        images=None if images is None else Path(images),
        format=format,
        model=str(model) if isinstance(model, Path) else model,
        out=None if out is None else Path(out),
        overwrite=overwrite,
        reading=reading,
    )
    return run(request, tell)


def run(request: CheckRequest, tell: Tell = ignore) -> DatasetCheck:
    """Look at what was requested; see `check`."""
    _check_files(request)
    from halfpixel.data.checks.dataset_check import check_dataset

    dataset, held_out = _opened(request, request.data), None
    if request.val is not None:
        held_out = _opened(request, request.val)
    name = dataset.path.name
    found = check_dataset(
        dataset,
        held_out,
        progress=lambda done, total: tell(Progress("check", done, total, name)),
        **_limits_of(request.model, tell),
    )
    if request.out is not None:
        samples = [*(() if held_out is None else held_out.samples), *dataset.samples]
        write_check(found, {sample.path: sample for sample in samples}, request.out)
    return found


def _check_files(request: CheckRequest) -> None:
    """Refuse what is not there, and what is there already, before anything is imported that takes time."""
    if request.out is not None:
        check_folder(request.out)
        if not request.overwrite:
            refuse_to_overwrite([request.out / REPORT, request.out / SHEET])
    for data in (request.data, request.val):
        if isinstance(data, Path):
            check_data(data, request.images)
    if isinstance(request.model, str):
        check_models(request.model)


def write_check(found: DatasetCheck, samples: Mapping[Path, Sample], out: Path) -> None:
    """Write check.json and, where an image has errors or warnings, contact-sheet.png.

    Args:
        found: what to write.
        samples: by their image files, for the outlines.
        out: a folder, which is made if need be; the sheet of an earlier check does not stay.
    """
    write_with_folder(out / REPORT, json.dumps(found.to_json(), indent=1, allow_nan=False).encode())
    header = sheet_header(found)
    if header is None:
        (out / SHEET).unlink(missing_ok=True)
        return
    from halfpixel.data.images.rgb8 import png_bytes
    from halfpixel.viz.contact_sheet import draw_contact_sheet

    write_with_folder(out / SHEET, png_bytes(draw_contact_sheet(_tiles(found, samples), header)))


def sheet_header(found: DatasetCheck) -> str | None:
    """What stands above the contact sheet; None where there is nothing to show."""
    n = len(found.worst_images())
    shown = f"the {SHOWN_AT_MOST} worst of " if n > SHOWN_AT_MOST else ""
    return f"{found.data.name}: {shown}{plural(n, 'image')} with errors or warnings" if n else None


def _opened(request: CheckRequest, data: Data) -> Dataset:
    if isinstance(data, Dataset):
        return data
    return open_dataset(data, request.images, request.format, reading=request.reading)


def _limits_of(model: Predictor | str | None, tell: Tell) -> dict[str, Any]:
    """What a data set has to go with: the limit, the anchors and the scale of a model."""
    if model is None:
        return {}
    from halfpixel.data.images.prepare import network_size

    predictor = open_model(model, tell) if isinstance(model, str) else model
    return {
        "detection_limit": predictor.info.detection_limit,
        "anchor_sizes_px": predictor.model.anchor_sizes_px,
        "input_scale": lambda size_hw: network_size(size_hw, predictor.info.input)[0],
    }


def _tiles(found: DatasetCheck, samples: Mapping[Path, Sample]) -> Iterator[Tile]:
    """A thumbnail for each of the worst images, one at a time; each kind of issue has a colour of its own."""
    from halfpixel.viz.palette import distinct_colours

    kinds = [one.kind for one in found.groups if one.severity != "note"]
    colours = dict(zip(kinds, distinct_colours(len(kinds)), strict=True))
    for path, groups in found.worst_images()[:SHOWN_AT_MOST]:
        # those with outlines first: only a few lines fit
        ordered = sorted(groups, key=lambda one: not any(issue.objects for issue in one[1]))
        yield _tile(path, samples.get(path), ordered, colours)


def _tile(
    path: Path,
    sample: Sample | None,
    groups: Sequence[tuple[IssueGroup, Sequence[Issue]]],
    colours: Mapping[str, Any],
) -> Tile:
    """An image with its issues below it, the objects that they are about outlined."""
    import numpy as np

    from halfpixel.data.images.rgb8 import read_image
    from halfpixel.viz.contact_sheet import Tile

    try:
        picture = read_image(path)
    except ImageError:
        picture = None
    lines, rows, outlines = [], [], []
    for group, issues in groups:
        red, green, blue = colours[group.kind].tolist()
        text = f"{len(issues)} {group.what}" if len(issues) > 1 else issues[0].what
        lines.append((text, (red, green, blue)))
        chosen = [k for issue in issues for k in issue.objects]
        if group.kind == "size_mismatch" and sample is not None:
            chosen = list(range(len(sample.objects)))  # all of them are in the wrong place
        rows += chosen[:OBJECTS_AT_MOST]
        outlines += [colours[group.kind]] * len(chosen[:OBJECTS_AT_MOST])
    objects = None
    if sample is not None and picture is not None:
        objects = sample.objects[rows].translate(0, 0, (picture.shape[0], picture.shape[1]))
    return Tile(path.name, lines, picture, objects, np.array(outlines, dtype=np.uint8).reshape(-1, 3))
