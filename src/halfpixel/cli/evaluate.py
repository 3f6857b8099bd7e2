"""`halfpixel evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, between, number, plain_table, say, say_json, say_sizes, show
from halfpixel.cli.option_groups import Reading, Sizes, Speed
from halfpixel.cli.savings_text import explain_savings
from halfpixel.data.formats.format_names import Format
from halfpixel.jobs.annotated import AS_WRITTEN
from halfpixel.jobs.model_options import AS_USUAL
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.wording import COMPARED, plural

if TYPE_CHECKING:
    from halfpixel.evaluation.evaluation import Evaluation, SliceEvaluation
    from halfpixel.jobs.evaluate import EvaluateResult

SHOWN_IOUS = (0.5, 0.75)
CLASSES_AT_MOST = 20


def evaluate(
    data: Path,
    /,
    *,
    out: Path,
    model: str | None = None,
    first_pass: str | None = None,
    images: Path | None = None,
    format: Format | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    predictions: Path | None = None,
    slice_by: str = "modality",
    boundary: bool = False,
    pictures: int = 8,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
    speed: Speed = AS_USUAL,
    reading: Reading = AS_WRITTEN,
    sizes: Sizes = SIZES_FOUND,
) -> int:
    """Compare what a model finds with annotations: average precision, accuracy, counts, and every error by its type.

    Args:
        data: Annotated images: a file or a folder, in any format that `halfpixel data convert` reads.
        out: The folder for the page (index.html), report.json and the predictions (instances.json).
        model: A named model (see `halfpixel models`) or a model file. Default: nuclei.
        first_pass: A U-Net (a name, such as nuclei-unet, or a file) that looks at the reduced image first; the model
            then looks only where it saw something.
        images: The folder of the images, where they are not beside the annotation file.
        format: The format of the annotations, where it is not found by looking.
        threshold: Accuracy and counts take objects that score at least this, 0 to 1. Default: the model's own.
        limit: At most this many objects an image. Default: the model's own.
        predictions: Evaluate the predictions of this COCO file, and run no model.
        slice_by: An attribute of the images; everything is also measured for each of its values.
        boundary: Also compute boundary AP, by the overlap of outlines; takes long on large images.
        pictures: How many of the worst images the page shows, at most.
        overwrite: Replace an earlier report in the folder.
        as_json: Print the whole report as JSON.
        speed: What the model runs on, and how fast.
        reading: How the annotations are taken.
        sizes: At which size images are looked at.
    """
    from halfpixel.report.evaluation_run import evaluate_model

    with Listener() as listener:
        result = evaluate_model(
            data, out=out, model=model, first_pass=first_pass, images=images, format=format, threshold=threshold,
            limit=limit, predictions=predictions, slice_by=slice_by, boundary=boundary, pictures=pictures,
            overwrite=overwrite, speed=speed, reading=reading, sizes=sizes, tell=listener,
        )  # fmt: skip
    if result.evaluation is not None and as_json:
        say_json(result.to_json())
    elif result.evaluation is not None:
        print_evaluation(result.evaluation, result.whose)
        say_sizes(result.outcome.looked_at)
        _show_prefilter(result)
        say(f"The page: {out / 'index.html'}   All numbers and definitions: {out / 'report.json'}")
    return listener.finish(result.outcome)


def _show_prefilter(result: EvaluateResult) -> None:
    """What the first pass saved and lost."""
    if result.first_pass is None or result.savings is None:
        return
    explain_savings(result.first_pass, result.savings)
    evaluated = None if result.evaluation is None else result.evaluation.prefilter
    if evaluated is not None:
        objects = plural(evaluated.n_objects, "annotated object")
        say(f"  Objects lost: {evaluated.lost:,} of {objects} lie, by the larger part, where the network did not look.")
    say()


def print_evaluation(evaluation: Evaluation, whose: str) -> None:
    """The main numbers, each with what it means."""
    overall = evaluation.overall
    images, objects = plural(overall.n_images, "image"), plural(overall.n_objects, "annotated object")
    say(f"{whose} on {evaluation.data}: {images}, {objects}.")
    say()
    for name, ap, usual in (
        ("mask", evaluation.mask_ap, evaluation.mask_ap_100),
        ("box", evaluation.box_ap, evaluation.box_ap_100),
    ):
        if ap is None or usual is None:
            continue
        say(
            f"COCO {name} AP {number(ap.ap)}{between(ap.intervals.get('ap'))}   at IoU .50 {number(ap.ap50)}   "
            f"at IoU .75 {number(ap.ap75)}   with 100 detections {number(usual.ap)}"
        )
    say(f"  mean over classes and IoU .50 to .95, at most {evaluation.max_detections:,} objects of a class and image")
    if evaluation.boundary_ap is not None:
        outlines = evaluation.boundary_ap
        say(f"Boundary AP {number(outlines.ap)}{between(outlines.intervals.get('ap'))}   (Cheng et al. 2021)")
    say()
    say(f"Of objects that score at least {evaluation.threshold:g}, with 95% intervals:")
    accuracy = [f"accuracy at IoU {_iou(iou)}" for iou in SHOWN_IOUS]
    numbers = ("images", "objects", *accuracy, "count MAE", "count bias")
    table = plain_table(evaluation.slice_by or "", *numbers, right=numbers)
    for name, one in (*evaluation.slices.items(), ("all", overall)):
        if name == "all" and evaluation.slices:
            table.add_section()
        table.add_row(name, *_cells(one))
    show(table)
    what = COMPARED[evaluation.compared_by]
    say(f"  accuracy: TP / (TP + FP + FN) of {what} paired one to one, summed over images (not COCO AP)")
    say("  count MAE: mean over images of |found - annotated|; bias: mean of found - annotated, above 0 is too many")
    wrong = [f"{one.count.label} {one.count.events:,}" for one in overall.error_types if one.count.events]
    say(f"Error types: {', '.join(wrong) or 'none'}")
    say()
    if evaluation.classes:
        _print_classes(evaluation)


def _print_classes(evaluation: Evaluation) -> None:
    """Counts of the classes that are there, most first."""
    errors = {name: one.count for name, one in evaluation.classes.items()}
    some = {name: error for name, error in errors.items() if error.true or error.predicted}
    shown = sorted(some.items(), key=lambda item: -item[1].true)[:CLASSES_AT_MOST]
    numbers = ("annotated", "found", "count MAE", "count bias")
    table = plain_table("class", *numbers, right=numbers)
    for name, error in shown:
        table.add_row(name, f"{error.true:,}", f"{error.predicted:,}", number(error.mae, 2), number(error.bias, 2, "+"))
    show(table)
    if len(some) > len(shown):
        say(f"  and {plural(len(some) - len(shown), 'more class', 'more classes')}")
    say()


def _cells(one: SliceEvaluation) -> list[str]:
    by_iou = {round(q.counts.iou, 2): q for q in one.detection}
    accuracy = [f"{number(by_iou[iou].counts.accuracy)}{between(by_iou[iou].interval)}" for iou in SHOWN_IOUS]
    mae = f"{number(one.count.mae, 2)}{between(one.count_mae_interval, 2)}"
    return [f"{one.n_images:,}", f"{one.n_objects:,}", *accuracy, mae, number(one.count.bias, 2, "+")]


def _iou(iou: float) -> str:
    return f"{iou:.2f}".lstrip("0")
