"""What each score threshold does to counts and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco_results import read_coco_results
from halfpixel.data.formats.detect import detect
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.evaluation.thresholds.goals import Goal
from halfpixel.evaluation.thresholds.threshold_sweep import Recommendation, Sweep, count_curve
from halfpixel.evaluation.thresholds.threshold_sweep import sweep as measure
from halfpixel.files import write_with_folder
from halfpixel.jobs.annotated import check_classes, open_dataset
from halfpixel.jobs.collect import few_overlap, lowest_score, predict_dataset
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import describe_model, open_model
from halfpixel.jobs.runner import Outcome, Runner, image_warnings
from halfpixel.jobs.source import as_patterns
from halfpixel.jobs.sweep_request import PLOT, TABLE, SweepRequest
from halfpixel.outputs.csv import csv_bytes
from halfpixel.plots.score_curves import draw_sweep
from halfpixel.structures.instances import Instances
from halfpixel.zoo.names import DEFAULT_MODEL


@dataclass(frozen=True, eq=False)
class SweepResult:
    """What came of it.

    Attributes:
        outcome: images, failures and warnings.
        whose: the predictions are: a model's or a file's.
        from_file: they are a file's.
        goal: what a threshold is recommended for.
        swept: all thresholds; None where no image could be used.
        recommended: the threshold that is the best for the goal, where there are annotations and there is one.
        table: the CSV file with all numbers.
        plot: the picture of them.
    """

    outcome: Outcome
    whose: str
    from_file: bool
    goal: Goal
    swept: Sweep | None
    recommended: Recommendation | None
    table: Path
    plot: Path

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        assert self.swept is not None, "without images there is nothing to tell"
        return {
            "predictions" if self.from_file else "model": self.whose,
            "n_images": self.swept.n_images,
            "iou": self.swept.iou,
            "points": [point.to_json() for point in self.swept.points],
            "recommended": None if self.recommended is None else self.recommended.to_json(),
            "failed": self.outcome.failures_json(),
        }


def sweep(
    data: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    model: str | Path | None = None,
    first: float = 0.3,
    last: float = 0.9,
    step: float = 0.1,
    iou: float = 0.5,
    goal: str = "count",
    images: str | Path | None = None,
    format: Format | None = None,
    limit: int | None = None,
    predictions: str | Path | None = None,
    overwrite: bool = False,
    tell: Tell = ignore,
) -> SweepResult:
    """Show what each score threshold does to counts and accuracy, and recommend one: `halfpixel sweep`.

    Args:
        data: annotated images, in any format that `read_dataset` reads; or plain images (files, folders, globs), for
            which only the counts are shown.
        out: the folder for the table (sweep.csv) and the plot (sweep.png).
        model: a named model or a model file. Default: nuclei.
        first: the lowest score threshold, from 0 up to `last`.
        last: the highest, below 1.
        step: from one threshold to the next, above 0.
        iou: the mask IoU from which a found and an annotated object count as the same, above 0 and at most 1.
        goal: what to recommend a threshold for: `f1`, `count` (the smallest mean absolute error of counts), or
            `precision=0.95` (the lowest threshold that is that precise).
        images: the folder of the images, where they are not beside the annotation file.
        format: of the annotations. Default: found by looking.
        limit: at most this many objects an image. Default: the model's own.
        predictions: sweep the predictions of this COCO file, and run no model.
        overwrite: replace an earlier sweep in the folder.
        tell: hears how far it is, and of images that cannot be used.

    Raises:
        ArgumentError: options out of range, or that contradict each other, or an earlier sweep in the folder.
        AnnotationError: annotations or predictions that cannot be used.
    """
    request = SweepRequest(
        data=as_patterns(data),
        out=Path(out),
        model=None if model is None else str(model),
        first=first,
        last=last,
        step=step,
        iou=iou,
        goal=goal,
        images=None if images is None else Path(images),
        format=format,
        limit=limit,
        predictions=None if predictions is None else Path(predictions),
        overwrite=overwrite,
    )
    return run(request, tell)


def run(request: SweepRequest, tell: Tell = ignore) -> SweepResult:
    """Sweep what was requested; see `sweep`."""
    thresholds, goal = request.thresholds, request.check()
    table, plot = request.out / TABLE, request.out / PLOT
    runner, from_file = Runner(tell), request.predictions is not None
    dataset = _open_if_annotated(runner, request)
    found = _find(runner, request, dataset, thresholds[0])
    if not found.objects:
        return SweepResult(runner.outcome(), found.whose, from_file, goal, None, None, table, plot)
    if found.dataset is None:
        swept = count_curve(found.objects, thresholds)
    else:
        swept = measure(found.dataset, found.objects, thresholds, iou=request.iou)
    if from_file and (doubt := _doubt(swept)):
        runner.warn(f"{request.predictions}: {doubt}")
    best = None if dataset is None else swept.recommend(goal)
    rows = [point.to_json() for point in swept.points]
    write_with_folder(table, csv_bytes(tuple(rows[0]), [_csv_row(row) for row in rows]))
    marked = None if best is None else best.threshold
    write_with_folder(plot, draw_sweep(rows, swept.iou, marked, str(goal)))  # type: ignore[arg-type]
    warnings = []
    if dataset is not None and best is None:
        reached = f"no threshold from {thresholds[0]:g} to {thresholds[-1]:g} reaches {goal}"
        warnings.append(f"{reached}: none is recommended")
    outcome = runner.outcome(*warnings, *image_warnings(runner.notes, found.limit))
    return SweepResult(outcome, found.whose, from_file, goal, swept, best, table, plot)


@dataclass(frozen=True, eq=False)
class _Found:
    """Objects from the lowest threshold up, at most `limit` an image; of annotated images those that were usable."""

    whose: str
    dataset: Dataset | None
    objects: list[Instances]
    limit: int


def _find(runner: Runner, request: SweepRequest, dataset: Dataset | None, lowest: float) -> _Found:
    if request.predictions is not None:
        return _read(runner, request.predictions, dataset, lowest, request.limit)
    name = request.model or DEFAULT_MODEL
    predictor = open_model(name, runner.tell)
    if dataset is not None:
        check_classes(dataset, predictor.class_names, f"the model {name}")
    limits = DetectionLimits.resolve(lowest, request.limit, predictor.info)
    if dataset is not None:
        dataset, objects = predict_dataset(runner, predictor, dataset, limits)
    else:
        pairs = runner.predict(predictor, runner.find(request.data), limits)
        objects = [one for _, one in pairs]
    return _Found(describe_model(name), dataset, objects, limits.limit)


def _read(runner: Runner, path: Path, dataset: Dataset | None, lowest: float, limit: int | None) -> _Found:
    if dataset is None:
        raise ArgumentError("--predictions goes with annotated images")
    limits = DetectionLimits.resolve(lowest, limit, None)
    objects = [one[: limits.limit] for one in read_coco_results(path, dataset)]
    least = lowest_score(objects)
    if least > lowest:
        runner.warn(f"{path}: no object scores under {least:.2g}, so nothing changes below that threshold")
    return _Found(str(path), dataset, objects, limits.limit)


def _open_if_annotated(runner: Runner, request: SweepRequest) -> Dataset | None:
    """The data set that the one path names; None for plain images.

    Raises:
        AnnotationError: annotations that cannot be used.
        ArgumentError: several paths and an option of annotations.
    """
    path = Path(request.data[0])
    asked_for = request.images is not None or request.format is not None
    if len(request.data) > 1:
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
    return open_dataset(path, request.images, request.format, runner.warn)


def _doubt(swept: Sweep) -> str | None:
    """Whether even at the best threshold hardly anything overlaps; a strict IoU says nothing of that."""
    some = [one for one in swept.points if one.detection is not None and one.detection.precision is not None]
    if not some or swept.iou > 0.5:
        return None
    best = max((one.detection for one in some if one.detection), key=lambda one: one.precision or 0.0)
    return few_overlap(best.tp, best.tp + best.fp, best.tp + best.fn)


def _csv_row(row: dict[str, object]) -> list[object]:
    return ["" if one is None else f"{one:.6g}" if isinstance(one, float) else one for one in row.values()]
