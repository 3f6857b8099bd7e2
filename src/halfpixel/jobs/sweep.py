"""What each score threshold does to counts and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.evaluation.thresholds.goals import Goal, check_wishes, thresholds_between
from halfpixel.files import write_with_folder
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions, check_data, open_dataset
from halfpixel.jobs.detection_limits import DetectionLimits, check_limits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import check_models, describe_model, open_model
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.runner import Outcome, Runner, image_warnings
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.jobs.source import as_patterns
from halfpixel.outputs.csv import csv_bytes
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.evaluation.thresholds.threshold_sweep import Recommendation, Sweep
    from halfpixel.structures.instances import Instances

TABLE, PLOT = "sweep.csv", "sweep.png"


@dataclass(frozen=True)
class SweepRequest:
    """Which thresholds to try on which images; see `sweep`."""

    data: Sequence[str]
    out: Path
    model: str | None = None
    first: float = 0.3
    last: float = 0.9
    step: float = 0.1
    iou: float = 0.5
    goal: str = "count"
    images: Path | None = None
    format: Format | None = None
    limit: int | None = None
    predictions: Path | None = None
    overwrite: bool = False
    reading: ReadingOptions = AS_WRITTEN
    sizes: SizeOptions = SIZES_FOUND

    def __post_init__(self) -> None:
        check_limits(None, self.limit)
        check_wishes(self.thresholds, self.iou)
        Goal.parse(self.goal)
        if self.predictions is not None and self.model is not None:
            raise ArgumentError("`predictions` and `model`: give one of the two")
        self.sizes.refuse_with(self.predictions)
        if len(self.data) > 1 and (self.images is not None or self.format is not None):
            raise ArgumentError("`images` and `format` go with one annotation file or data-set folder")

    @property
    def thresholds(self) -> Sequence[float]:
        """All that are tried."""
        return thresholds_between(self.first, self.last, self.step)


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
            "compared_by": None if self.swept.outcomes is None else self.swept.compared_by,
            "points": [point.to_json() for point in self.swept.points],
            "recommended": None if self.recommended is None else self.recommended.to_json(),
            **self.outcome.to_json(),
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
    reading: ReadingOptions = AS_WRITTEN,
    sizes: SizeOptions = SIZES_FOUND,
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
        iou: of masks or, without them, boxes: from here on found and annotated are the same; above 0 and at most 1.
        goal: what to recommend a threshold for: `f1`, `count` (the smallest mean absolute error of counts), or
            `precision=0.95` (the lowest threshold that is that precise).
        images: the folder of the images, where they are not beside the annotation file.
        format: of the annotations. Default: found by looking.
        limit: at most this many objects an image. Default: the model's own.
        predictions: sweep the predictions of this COCO file, and run no model.
        overwrite: replace an earlier sweep in the folder.
        reading: how the annotations are taken.
        sizes: at which size images are looked at.
        tell: hears how far it is, and of images that cannot be used.

    Raises:
        ArgumentError: options out of range, or that contradict each other, or an earlier sweep in the folder.
        AnnotationError: annotations or predictions that cannot be used.
    """
    request = SweepRequest(
        data=as_patterns(data),
        out=Path(out),
        model=None if model is None else str(model),
        first=first, last=last, step=step, iou=iou, goal=goal,
        images=None if images is None else Path(images),
        format=format,
        limit=limit,
        predictions=None if predictions is None else Path(predictions),
        overwrite=overwrite,
        reading=reading,
        sizes=sizes,
    )  # fmt: skip
    return run(request, tell)


def run(request: SweepRequest, tell: Tell = ignore) -> SweepResult:
    """Sweep what was requested; see `sweep`."""
    _check_files(request)
    thresholds, goal = request.thresholds, Goal.parse(request.goal)
    table, plot = request.out / TABLE, request.out / PLOT
    runner, from_file = Runner(tell, sizes=request.sizes), request.predictions is not None
    dataset = _open_if_annotated(runner, request)
    found = _find(runner, request, dataset, thresholds[0])
    if not found.objects:
        return SweepResult(runner.outcome(), found.whose, from_file, goal, None, None, table, plot)
    from halfpixel.evaluation.thresholds.threshold_sweep import count_curve
    from halfpixel.evaluation.thresholds.threshold_sweep import sweep as measure
    from halfpixel.jobs.collect import warn_of_boxes
    from halfpixel.plots.score_curves import draw_sweep

    if found.dataset is None:
        swept = count_curve(found.objects, thresholds)
    else:
        swept = measure(found.dataset, found.objects, thresholds, iou=request.iou)
        warn_of_boxes(runner, found.dataset, swept.compared_by, found.objects)
    if from_file and (doubt := _doubt(swept)):
        runner.warn(f"{request.predictions}: {doubt}")
    best = None if dataset is None else swept.recommend(goal)
    rows = [point.to_json() for point in swept.points]
    write_with_folder(table, csv_bytes(tuple(rows[0]), [_csv_row(row) for row in rows]))
    marked = None if best is None else best.threshold
    write_with_folder(plot, draw_sweep(rows, f"{swept.compared_by} IoU {swept.iou:g}", marked, str(goal)))  # type: ignore[arg-type]
    warnings = []
    if dataset is not None and best is None:
        reached = f"no threshold from {thresholds[0]:g} to {thresholds[-1]:g} reaches {goal}"
        warnings.append(f"{reached}: none is recommended")
    outcome = runner.outcome(*warnings, *image_warnings(runner.notes, found.limit))
    return SweepResult(outcome, found.whose, from_file, goal, swept, best, table, plot)


def _check_files(request: SweepRequest) -> None:
    """Refuse what is not there, and what is there already, before anything is imported that takes time."""
    check_folder(request.out)
    if not request.overwrite:
        refuse_to_overwrite([request.out / TABLE, request.out / PLOT])
    if request.images is not None or request.format is not None or request.predictions is not None:
        check_data(Path(request.data[0]), request.images, request.predictions)
    if request.predictions is None:
        check_models(request.model or DEFAULT_MODEL)


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
    files = runner.find(request.data) if dataset is None else []
    if dataset is None and not files:
        return _Found(describe_model(name), None, [], 0)
    predictor = open_model(name, runner.tell, request.sizes)
    limits = DetectionLimits.resolve(lowest, request.limit, predictor.info)
    if dataset is not None:
        from halfpixel.jobs.collect import predict_dataset

        dataset, objects = predict_dataset(runner, predictor, dataset, limits, f"the model {name}")
    else:
        pairs = runner.predict(predictor, files, limits)
        objects = [one for _, one in pairs]
    return _Found(describe_model(name), dataset, objects, limits.limit)


def _read(runner: Runner, path: Path, dataset: Dataset | None, lowest: float, limit: int | None) -> _Found:
    if dataset is None:
        raise ArgumentError("`predictions` goes with annotated images")
    from halfpixel.data.formats.coco_results import read_coco_results
    from halfpixel.jobs.collect import lowest_score

    limits = DetectionLimits.resolve(lowest, limit, None)
    objects = [one[: limits.limit] for one in read_coco_results(path, dataset, runner.warn)]
    least = lowest_score(objects)
    if least > lowest:
        runner.warn(f"{path}: no object scores under {least:.2g}, so nothing changes below that threshold")
    return _Found(str(path), dataset, objects, limits.limit)


def _open_if_annotated(runner: Runner, request: SweepRequest) -> Dataset | None:
    """The data set that the one path names; None for plain images.

    Raises:
        AnnotationError: annotations that cannot be used.
    """
    path = Path(request.data[0])
    asked_for = request.images is not None or request.format is not None
    if len(request.data) > 1:
        return None
    if not asked_for:
        if path.is_dir():
            from halfpixel.data.formats.detect import detect

            try:
                detect(path)
            except AnnotationError:
                # other than images there is something in it, so it may be meant as annotations
                if any(path.glob("*.json")) or (path / "labels").is_dir() or (path / "masks").is_dir():
                    raise
                return None
        elif path.suffix.lower() not in (".json", ".yaml", ".yml", ".txt"):
            return None
    return open_dataset(path, request.images, request.format, runner.warn, request.reading, "val")


def _doubt(swept: Sweep) -> str | None:
    """Whether even at the best threshold hardly anything overlaps; a strict IoU says nothing of that."""
    from halfpixel.jobs.collect import few_overlap

    some = [one for one in swept.points if one.detection is not None and one.detection.precision is not None]
    if not some or swept.iou > 0.5:
        return None
    best = max((one.detection for one in some if one.detection), key=lambda one: one.precision or 0.0)
    return few_overlap(best.tp, best.tp + best.fp, best.tp + best.fn)


def _csv_row(row: dict[str, object]) -> list[object]:
    return ["" if one is None else f"{one:.6g}" if isinstance(one, float) else one for one in row.values()]
