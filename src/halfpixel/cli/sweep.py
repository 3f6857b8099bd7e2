"""`halfpixel sweep`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import (
    Walk,
    check_folder,
    check_limits,
    describe,
    number,
    open_model,
    plain_table,
    plural,
    say,
    say_json,
    say_tied,
    show,
    warn,
    write_with_folder,
)
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.jobs.collect import few_overlap, open_dataset, open_predictions
from halfpixel.jobs.result_kinds import csv_bytes, refuse_to_overwrite
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.evaluation.thresholds.goals import Goal
    from halfpixel.evaluation.thresholds.threshold_sweep import Recommendation, Sweep
    from halfpixel.structures.instances import Instances

WRITTEN = ("sweep.csv", "sweep.png")


def sweep(
    *data: Annotated[str, Parameter("DATA|PATH", required=True)],
    out: Path,
    model: str | None = None,
    first: Annotated[float, Parameter("--from")] = 0.3,
    last: Annotated[float, Parameter("--to")] = 0.9,
    step: float = 0.1,
    iou: float = 0.5,
    goal: Annotated[str, Parameter("--for")] = "count",
    images: Path | None = None,
    format: Format | None = None,
    limit: int | None = None,
    predictions: Path | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
) -> int:
    """Show what each score threshold does to counts and quality, and recommend one for a goal.

    Choose thresholds on images that you do not report results of. See docs/threshold.md.

    Args:
        data: Annotated images, in any format that `halfpixel data convert` reads; or plain images (files, folders,
            globs in quotes), for which only the counts are shown.
        out: The folder for the table (sweep.csv) and the plot (sweep.png).
        model: A named model (see `halfpixel models`) or a model file. Default: nuclei.
        first: The lowest score threshold, from 0 up to --to.
        last: The highest, from --from up to, but not including, 1.
        step: From one threshold to the next, above 0.
        iou: The mask IoU from which a found and an annotated object count as the same, above 0 and at most 1.
        goal: What to recommend a threshold for: f1, count (the smallest mean absolute error of counts), or
            precision=0.95 (the lowest threshold that is that precise).
        images: The folder of the images, where they are not beside the annotation file.
        format: The format of the annotations, where it is not found by looking.
        limit: At most this many objects an image. Default: the model's own.
        predictions: Sweep the predictions of this COCO file, and run no model.
        overwrite: Replace an earlier sweep in the folder.
        as_json: Print the table and the recommendation as JSON.
    """
    from halfpixel.evaluation.thresholds.goals import Goal, check_wishes, thresholds_between

    check_limits(None, limit)
    check_folder(out)
    thresholds, aim = thresholds_between(first, last, step), Goal.parse(goal)
    check_wishes(thresholds, iou)
    if predictions is not None and model is not None:
        raise ArgumentError("--predictions and --model: give one of the two")
    if not overwrite:
        refuse_to_overwrite([out / name for name in WRITTEN])
    from halfpixel.evaluation.thresholds.threshold_sweep import count_curve
    from halfpixel.evaluation.thresholds.threshold_sweep import sweep as measure
    from halfpixel.plots.score_curves import draw_sweep

    walk, dataset = Walk(), open_if_annotated(data, images, format)
    if dataset is not None:
        opened = open_predictions(walk, dataset, predictions, model, thresholds[0], limit)
        whose, dataset, found, limit = opened
        if predictions is not None and opened.lowest_score > thresholds[0]:
            lowest = f"{opened.lowest_score:.2g}"
            warn(f"{predictions}: no object scores under {lowest}, so nothing changes below that threshold")
    elif predictions is not None:
        raise ArgumentError("--predictions goes with annotated images")
    else:
        whose, found, limit = _predict_plain(walk, data, model or DEFAULT_MODEL, thresholds[0], limit)
    if not found:
        return walk.exit_code
    swept = count_curve(found, thresholds) if dataset is None else measure(dataset, found, thresholds, iou=iou)
    if predictions is not None and (doubt := _doubt(swept)):
        warn(f"{predictions}: {doubt}")
    best = None if dataset is None else swept.recommend(aim)
    rows = [point.to_json() for point in swept.points]
    write_with_folder(out / "sweep.csv", csv_bytes(tuple(rows[0]), [_csv_row(row) for row in rows]))
    marked = None if best is None else best.threshold
    write_with_folder(out / "sweep.png", draw_sweep(rows, swept.iou, marked, str(aim)))  # type: ignore[arg-type]
    if as_json:
        recommended = None if best is None else best.to_json()
        about = {"model" if predictions is None else "predictions": whose, "n_images": swept.n_images, "iou": swept.iou}
        say_json({**about, "points": rows, "recommended": recommended, "failed": walk.failures_json()})
    else:
        _print(swept, whose, aim, best)
        say(f"The plot: {out / 'sweep.png'}   The table: {out / 'sweep.csv'}")
    if dataset is not None and best is None:
        warn(f"no threshold from {thresholds[0]:g} to {thresholds[-1]:g} reaches {aim}: none is recommended")
    walk.warn(limit)
    return walk.exit_code


def open_if_annotated(data: Sequence[str], images: Path | None, format: Format | None) -> Dataset | None:
    """The data set that the one argument names; None for plain images.

    Raises:
        AnnotationError: annotations that cannot be used.
        ArgumentError: several arguments and an option of annotations.
    """
    from halfpixel.data.formats.detect import detect

    path = Path(data[0])
    asked_for = images is not None or format is not None
    if len(data) > 1:
        if asked_for:
            raise ArgumentError("--images and --format go with one annotation file or data-set folder")
        return None
    if not asked_for:
        if path.is_dir():
            try:
                detect(path)
            except AnnotationError:
                # other than images there is something in it, so it may be meant as annotations
                if any(path.glob("*.json")) or (path / "labels").is_dir() or (path / "masks").is_dir():
                    raise
                return None
        elif path.suffix.lower() not in (".json", ".yaml", ".yml"):
            return None
    return open_dataset(path, images, format)


def _predict_plain(
    walk: Walk, data: Sequence[str], model: str, threshold: float, limit: int | None
) -> tuple[str, list[Instances], int]:
    predictor = open_model(model)
    limit = predictor.info.detection_limit if limit is None else limit
    found = walk.predict(predictor, walk.find(data), threshold, limit, counted_from=threshold)
    return describe(model), [objects for _, objects in found], limit


def _doubt(swept: Sweep) -> str | None:
    """Whether even at the best threshold hardly anything overlaps; a strict IoU says nothing of that."""
    some = [one for one in swept.points if one.quality is not None and one.quality.precision is not None]
    if not some or swept.iou > 0.5:
        return None
    quality = max((one.quality for one in some if one.quality), key=lambda one: one.precision or 0.0)
    return few_overlap(quality.tp, quality.tp + quality.fp, quality.tp + quality.fn)


def _print(swept: Sweep, whose: str, goal: Goal, best: Recommendation | None) -> None:
    say(f"{whose} on {plural(swept.n_images, 'image')}:")
    say()
    annotated = swept.outcomes is not None
    numbers = ["threshold", "found"]
    if annotated:
        numbers += ["annotated", "count bias", "count MAE", "precision", "recall", "F1", "quality"]
    table = plain_table(*numbers, right=tuple(numbers))
    for point in swept.points:
        cells = [f"{point.threshold:g}", f"{point.found:,}"]
        if point.count is not None and point.quality is not None:
            quality = point.quality
            cells += [f"{point.count.true:,}", number(point.count.bias, 2, "+"), number(point.count.mae, 2)]
            cells += [number(one) for one in (quality.precision, quality.recall, quality.f1, quality.quality)]
        table.add_row(*cells)
    show(table)
    if annotated:
        say(f"  of masks paired one to one at IoU {swept.iou:g}, summed over images; quality: TP / (TP + FP + FN)")
        say("  count bias: mean over images of found - annotated; MAE: of its absolute value")
    else:
        say("  no annotations here: how many objects survive, and nothing about how many are right")
    say()
    if best is not None:
        text = f"For {goal} the best of these thresholds is {best.threshold:g}{say_tied(best.tied)}"
        if best.interval is not None:
            text += f"; other images like these would choose from {best.interval.low:g} to {best.interval.high:g} (95%)"
        say(f"{text}.")


def _csv_row(row: dict[str, object]) -> list[object]:
    return ["" if one is None else f"{one:.6g}" if isinstance(one, float) else one for one in row.values()]
