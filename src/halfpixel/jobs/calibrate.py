"""Calibrates a model on a small annotated set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.thresholds.goals import LOWEST_SCORE, Goal, check_calibration
from halfpixel.files import write_with_folder
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions, check_data, matched_names, open_dataset
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import check_models, open_model
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.runner import Outcome, Runner, image_warnings
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.zoo.names import DEFAULT_MODEL, locate

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.data.images.contrast import Rgb8
    from halfpixel.engine.predictor import Predictor
    from halfpixel.engine.size_finder import ChosenScale
    from halfpixel.evaluation.counts.calibration_fit import CalibrationReport
    from halfpixel.structures.calibration import Calibration
    from halfpixel.structures.instances import Instances
    from halfpixel.structures.novelty import Novelty


@dataclass(frozen=True)
class CalibrateRequest:
    """Which model to calibrate on what; see `calibrate`."""

    data: Path
    out: Path
    model: str = DEFAULT_MODEL
    level: float = 0.9
    goal: str | None = None
    threshold: float | None = None
    images: Path | None = None
    format: Format | None = None
    predictions: Path | None = None
    overwrite: bool = False
    reading: ReadingOptions = AS_WRITTEN
    sizes: SizeOptions = SIZES_FOUND

    def __post_init__(self) -> None:
        if self.threshold is not None and self.goal is not None:
            raise ArgumentError("`threshold` and `goal`: give one of the two")
        self.sizes.refuse_with(self.predictions)
        check_calibration(self.level, self.threshold)
        if self.goal is not None:
            Goal.parse(self.goal)
        if self.out.suffix != ".safetensors":
            raise ArgumentError(f"`out` {self.out}: expected the name of a .safetensors file")

    @property
    def plot(self) -> Path:
        """The reliability plot."""
        return self.out.with_suffix(".png")

    @property
    def numbers(self) -> Path:
        """All numbers."""
        return self.out.with_suffix(".json")


@dataclass(frozen=True, eq=False)
class CalibrateResult:
    """What came of it.

    Attributes:
        outcome: images, failures and warnings.
        about: the model, the data and the file of predictions, if there was one.
        n_images: that the model was calibrated on.
        report: the calibration, and how good it is; None where no image could be used.
        model: the calibrated model's file.
        plot: the reliability plot.
        numbers: the file with all numbers.
    """

    outcome: Outcome
    about: dict[str, str | None]
    n_images: int
    report: CalibrationReport | None
    model: Path
    plot: Path
    numbers: Path

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        assert self.report is not None, "without images there is nothing to tell"
        return {**self.about, **self.report.to_json(), **self.outcome.to_json()}


def calibrate(
    data: str | Path,
    *,
    out: str | Path,
    model: str | Path = DEFAULT_MODEL,
    level: float = 0.9,
    goal: str | None = None,
    threshold: float | None = None,
    images: str | Path | None = None,
    format: Format | None = None,
    predictions: str | Path | None = None,
    overwrite: bool = False,
    reading: ReadingOptions = AS_WRITTEN,
    sizes: SizeOptions = SIZES_FOUND,
    tell: Tell = ignore,
) -> CalibrateResult:
    """Calibrate a model: a threshold, probabilities, and intervals for counts: `halfpixel calibrate`.

    They are stored in a copy of the model file. Take images that neither trained the model nor are reported on.

    Args:
        data: annotated images: a file or a folder, in any format that `read_dataset` reads.
        out: the model file to write, a .safetensors file; beside it go a plot (.png) and all numbers (.json).
        model: a named model or a model file.
        level: the part of images whose true count is to be inside its interval, between 0 and 1.
        goal: what to choose the threshold for: `count`, `f1` or `precision=0.95`. Default: `count`.
        threshold: take this threshold and choose none, 0.05 to 1.
        images: the folder of the images, where they are not beside the annotation file.
        format: of the annotations. Default: found by looking.
        predictions: take the predictions of this COCO file, which the model made, and do not run it.
        overwrite: replace earlier files.
        reading: how the annotations are taken.
        sizes: at which size images are looked at; intervals are then for images that are looked at alike.
        tell: hears how far it is, and of images that cannot be used.

    Raises:
        ArgumentError: options out of range, or that contradict each other, or earlier files; or a model that only
            predicts, which has no model file.
        AnnotationError: annotations or predictions that cannot be used, or too few images.
    """
    request = CalibrateRequest(
        data=Path(data),
        out=Path(out),
        model=str(model),
        level=level,
        goal=goal,
        threshold=threshold,
        images=None if images is None else Path(images),
        format=format,
        predictions=None if predictions is None else Path(predictions),
        overwrite=overwrite,
        reading=reading,
        sizes=sizes,
    )
    return run(request, tell)


def run(request: CalibrateRequest, tell: Tell = ignore) -> CalibrateResult:
    """Calibrate what was requested; see `calibrate`."""
    _check_files(request)
    from halfpixel.evaluation.counts.calibration_fit import calibrate as fit
    from halfpixel.evaluation.counts.calibration_fit import check_enough
    from halfpixel.jobs.collect import few_overlap, warn_of_boxes
    from halfpixel.nn.network import check_weights

    out, plot, numbers, predictions = request.out, request.plot, request.numbers, request.predictions
    goal = None if request.goal is None else Goal.parse(request.goal)
    runner = Runner(tell, sizes=request.sizes)
    dataset = open_dataset(request.data, request.images, request.format, runner.warn, request.reading, "val")
    check_enough(len(dataset.samples), request.level, str(dataset.path))
    predictor = open_model(request.model, tell, request.sizes)
    check_weights(predictor.model, "be written with a calibration")
    limits = DetectionLimits.resolve(LOWEST_SCORE, None, predictor.info)
    dataset, found = _find(runner, predictor, dataset, predictions, limits, f"the model {request.model}")
    about = {
        "model": request.model,
        "data": str(request.data),
        "predictions": None if predictions is None else str(predictions),
    }
    if not found:
        return CalibrateResult(runner.outcome(), about, 0, None, out, plot, numbers)
    report = fit(dataset, found, level=request.level, goal=goal, threshold=request.threshold)
    warn_of_boxes(runner, dataset, report.compared_by, found)
    if predictions is not None and (doubt := few_overlap(report.n_real, report.n_listed, report.n_true)):
        raise ArgumentError(f"{predictions}: {doubt}")
    novelty = _novelty(runner, predictor, dataset, found)
    outcome = runner.outcome(*image_warnings(runner.notes, limits.limit))
    if outcome.looked_at is not None:
        report = replace(report, calibration=replace(report.calibration, scales=outcome.looked_at.scale))
    result = CalibrateResult(outcome, about, len(found), report, out, plot, numbers)
    _store(out, request.model, predictor, report.calibration, novelty)
    write_with_folder(plot, _draw(report))
    write_with_folder(numbers, json.dumps(result.to_json(), indent=1, allow_nan=False).encode())
    return result


def _find(
    runner: Runner,
    predictor: Predictor,
    dataset: Dataset,
    predictions: Path | None,
    limits: DetectionLimits,
    whose: str,
) -> tuple[Dataset, list[Instances]]:
    """Predictions of the model, or from the file that it made."""
    from halfpixel.data.formats.coco_results import read_coco_results
    from halfpixel.jobs.collect import lowest_score, predict_dataset

    if predictions is None:
        return predict_dataset(runner, predictor, dataset, limits, whose)
    matched_names(dataset, predictor.class_names, whose, runner.warn)
    found = [one[: limits.limit] for one in read_coco_results(predictions, dataset, runner.warn)]
    lowest = lowest_score(found)
    if lowest > 2 * LOWEST_SCORE:
        text = f"{predictions}: no object scores under {lowest:.2g}"
        runner.warn(f"{text}; intervals are wrong if the model finds more from {LOWEST_SCORE} upwards")
    return dataset, found


def _check_files(request: CalibrateRequest) -> None:
    """Refuse what is not there, and what is there already, before anything is imported that takes time."""
    out = request.out
    if out.is_dir():
        raise ArgumentError(f"`out` {out}: expected the name of a .safetensors file")
    check_folder(out.parent, f"`out` {out}")
    if not request.overwrite:
        refuse_to_overwrite([out, request.plot, request.numbers])
    check_data(request.data, request.images, request.predictions)
    check_models(request.model)


def _novelty(runner: Runner, predictor: Predictor, dataset: Dataset, found: Sequence[Instances]) -> Novelty | None:
    """What the images look like that intervals are for; None where they are not there, or too few, which is said."""
    from halfpixel.engine.size_finder import ChosenScale
    from halfpixel.structures.novelty import FEWEST
    from halfpixel.train.novelty_fit import measure_novelty

    paths = [sample.path for sample in dataset.samples]
    chosen = {path: ChosenScale(one.scale, one.found_diameter_px) for path, one in zip(paths, found, strict=True)}

    def choose(path: Path, pixels: Rgb8) -> ChosenScale:
        """As it was looked at; objects from a file do not say that."""
        unknown = chosen[path].scale is None and runner.sizes.are_found
        return predictor.choose_scale(pixels) if unknown else chosen[path]

    novelty = measure_novelty(paths, predictor.info.input, choose, "calibration")
    if novelty is None:
        too_few = f"{dataset.path}: fewer than {FEWEST} images that can be read"
        runner.warn(f"{too_few}, so the model will not say which images are unlike these")
    return novelty


def _store(out: Path, model: str, predictor: Predictor, calibration: Calibration, novelty: Novelty | None) -> None:
    """Write a copy of the model with its calibration."""
    from halfpixel.zoo.modelfile import save_described, save_model

    path = locate(model)
    info = replace(predictor.info, calibration=calibration, score_threshold=calibration.threshold, novelty=novelty)
    out.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_described(out, path, info)
    else:
        save_model(out, predictor.model, info)


def _draw(report: CalibrationReport) -> bytes:
    from halfpixel.plots.score_curves import draw_reliability

    curves = {name: [(one.said, one.real, one.n) for one in bins] for name, bins in report.reliability.items()}
    errors = [f"(expected calibration error {report.calibration_error[name]:.3f})" for name in curves]
    return draw_reliability(curves, errors)
