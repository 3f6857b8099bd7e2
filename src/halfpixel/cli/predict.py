"""`halfpixel predict`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from halfpixel.cli.console import (
    Note,
    Walk,
    calibration_at,
    check_folder,
    check_limits,
    describe,
    model_digest,
    name_some,
    plain_table,
    plural,
    say,
    show,
)
from halfpixel.cli.first_pass import explain_savings, for_resuming, open_both, savings_of
from halfpixel.cli.image_options import AS_THEY_ARE, ImageOptions
from halfpixel.cli.speed_options import AS_USUAL, SpeedOptions, describe_speed
from halfpixel.errors import ArgumentError
from halfpixel.jobs.journal import Facts, Parts, remove_parts, resumable, was_interrupted
from halfpixel.jobs.result_kinds import (
    KINDS,
    Names,
    parse_save,
    refuse_to_mix,
    refuse_to_overwrite,
    remove_earlier,
    remove_torn,
)
from halfpixel.jobs.result_writers import Results
from halfpixel.zoo.names import DEFAULT_MODEL

HIDDEN = ".halfpixel-run"
"""The folder for the parts of a run, in its output folder."""


def predict(
    *paths: Annotated[str, Parameter("PATH", required=True)],
    out: Path,
    model: str = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    save: str = "coco,overlay,table",
    classes: str | None = None,
    gzip: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    images: ImageOptions = AS_THEY_ARE,
    speed: SpeedOptions = AS_USUAL,
) -> int:
    """Find every object in images and write the objects, pictures and tables to a folder.

    Args:
        paths: Image files, folders of images, or globs in quotes (** stands for folders of any depth).
        out: The folder for the results; it is made if need be.
        model: A named model (see `halfpixel models`) or a model file.
        first_pass: A U-Net (a name, such as nuclei-unet, or a file) that looks at the reduced image first; the model
            then looks only where it saw something.
        threshold: Leave out objects that score less, from 0 to below 1. Default: the model's own.
        limit: At most this many objects an image. Default: the model's own.
        save: What to write, separated by commas: coco (instances.json), overlay (pictures with the objects drawn in),
            labels (32-bit TIFF, each pixel its object's number; where objects overlap, that of the better score), table
            (objects.csv, all measurements), parquet (the same table), cutouts (one picture with transparency for each
            object), geojson (detections for QuPath), rois (regions for ImageJ), blurred (pictures with the objects made
            unrecognisable).
        classes: Of --save blurred: make objects of these classes unrecognisable, separated by commas. Default: all.
        gzip: Of --save geojson: compress the files.
        overwrite: Replace earlier results in the folder; without this, they are kept and nothing is done.
        resume: Go on with an interrupted run: give the same command again. At most one image was lost.
        images: How images are read and measured.
        speed: What the model runs on, and how fast.
    """
    kinds = parse_save(save)
    check_limits(threshold, limit)
    check_folder(out)
    _check_kinds(kinds, classes, gzip)
    _check_earlier(out, kinds, overwrite, resume)
    reading = images.reading()
    walk = Walk()
    files = walk.find(paths)
    if not files:
        return walk.exit_code
    predictor = open_both(model, first_pass, speed)
    threshold = predictor.info.score_threshold if threshold is None else threshold
    limit = predictor.info.detection_limit if limit is None else limit
    blurred = None if classes is None else _parse_classes(classes, predictor.class_names)
    names = Names.of(files, planes=images.planes == "all")
    options = {"model (SHA-256)": model_digest(model), "--threshold": threshold, "--limit": limit}
    options |= {"--save": sorted(kinds), "--classes": blurred, "--gzip": gzip, **images.for_resuming()}
    options |= for_resuming(first_pass) | speed.for_resuming()
    parts = Parts(out / HIDDEN, options, names.stems)
    if resume:
        parts.resume()
        remove_torn(out, kinds)
    elif overwrite:
        remove_earlier(out, kinds)
        remove_parts(out / HIDDEN)
    results = Results(out, kinds, names, parts, blurred, gzip, calibration_at(predictor, threshold))
    with resumable():
        for picture, objects in parts.walk(walk, predictor, threshold, limit, reading):
            pixel_size_um, doubt = images.pixel_size(picture)
            results.add(picture, objects, pixel_size_um, walk.facts(picture, objects, doubt))
        walk.notes = {facts["image"]: Note(**facts["note"]) for facts in parts.facts()}
        if not walk.done:
            return walk.exit_code
        places = results.finish(predictor.class_names)
        parts.remove()
    how = describe_speed(predictor, speed)
    say(f"Model {describe(model)}, {how}, objects that score at least {threshold:g}, at most {limit:,} an image.")
    _show(parts.facts(), walk.n_images, places)
    if first_pass is not None:
        explain_savings(first_pass, savings_of(parts.facts()))
    walk.warn(limit, advice=images.advice)
    return walk.exit_code


def _show(found: Sequence[Facts], n_images: str, places: Sequence[tuple[str, str]]) -> None:
    """Print how many objects of each class there are, and where."""
    totals = sum((Counter(facts["counts"]) for facts in found), Counter[str]())
    per_class = ", ".join(f"{name} {count:,}" for name, count in totals.most_common())
    sentence = f"{plural(totals.total(), 'object')} on {n_images}"
    say(f"{sentence}: {per_class}." if per_class else f"{sentence}.")
    table = plain_table("written", "what it is")
    for place in places:
        table.add_row(*place)
    show(table)


def _check_kinds(kinds: Sequence[str], classes: str | None, gzip: bool) -> None:
    """Refuse options for kinds of results that are not wanted."""
    if classes is not None and "blurred" not in kinds:
        raise ArgumentError("--classes is for --save blurred only")
    if gzip and "geojson" not in kinds:
        raise ArgumentError("--gzip is for --save geojson only")


def _check_earlier(out: Path, kinds: Sequence[str], overwrite: bool, resume: bool) -> None:
    """Refuse to spoil what earlier runs have left.

    Raises:
        ArgumentError: there is something, and nothing was said of it.
    """
    if overwrite and resume:
        raise ArgumentError("--overwrite and --resume: give one of the two")
    interrupted = was_interrupted(out / HIDDEN)
    if interrupted and not overwrite and not resume:
        raise ArgumentError(f"--out {out}: an interrupted run; --resume goes on with it, --overwrite begins anew")
    if overwrite:
        refuse_to_mix(out, kinds)
    elif not interrupted:
        refuse_to_overwrite([out / KINDS[kind].place for kind in kinds])


def _parse_classes(classes: str, known: Sequence[str]) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        ArgumentError: one that the model does not know.
    """
    chosen = [name for part in classes.split(",") if (name := part.strip())]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        what = f"the model knows no {unknown[0]!r}" if unknown else "it is empty"
        raise ArgumentError(f"--classes: {what}; its classes are {name_some(known)}")
    return chosen
