"""Compares what a model finds with annotations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions, check_data, open_dataset
from halfpixel.jobs.detection_limits import DetectionLimits, check_limits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import (
    AS_USUAL,
    Computed,
    SpeedOptions,
    check_models,
    describe_model,
    open_with_prefilter,
)
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.runner import Outcome, Runner, image_warnings
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.evaluation.evaluation import Evaluation
    from halfpixel.evaluation.prefilter_savings import Savings
    from halfpixel.structures.instances import Instances

WRITTEN = ("report.json", "index.html", "instances.json")
"""What an evaluation leaves in its folder; `halfpixel.report` writes the first two."""


@dataclass(frozen=True)
class EvaluateRequest:
    """What to evaluate on which annotated images; see `halfpixel.report.evaluation_run.evaluate_model`.

    Attributes:
        data: annotated images: a file or a folder.
        out: the folder for the page, the report and the predictions.
        model: a named model or a model file. Default: nuclei.
        first_pass: a U-Net (a name or a file) that looks at the reduced image first.
        images: the folder of the images, where they are not beside the annotation file.
        format: of the annotations. Default: found by looking.
        threshold: accuracy and counts take objects that score at least this. Default: the model's own.
        limit: at most this many objects an image. Default: the model's own.
        predictions: a COCO file to evaluate instead of running a model.
        slice_by: an attribute of the images; everything is also measured for each of its values.
        boundary: also compute boundary AP.
        overwrite: replace an earlier report in the folder.
        speed: what the model runs on, and how fast.
        reading: how the annotations are taken.
        sizes: at which size images are looked at.
    """

    data: Path
    out: Path
    model: str | None = None
    first_pass: str | None = None
    images: Path | None = None
    format: Format | None = None
    threshold: float | None = None
    limit: int | None = None
    predictions: Path | None = None
    slice_by: str = "modality"
    boundary: bool = False
    overwrite: bool = False
    speed: SpeedOptions = AS_USUAL
    reading: ReadingOptions = AS_WRITTEN
    sizes: SizeOptions = SIZES_FOUND

    def __post_init__(self) -> None:
        check_limits(self.threshold, self.limit)
        if self.predictions is not None and self.model is not None:
            raise ArgumentError("`predictions` and `model`: give one of the two")
        if self.predictions is not None and self.first_pass is not None:
            raise ArgumentError("`predictions` and `first_pass`: a file needs no model")
        if self.predictions is not None and self.speed != AS_USUAL:
            raise ArgumentError("`predictions` and `backend`, `precision` or `fast`: a file needs no model")
        self.sizes.refuse_with(self.predictions)


@dataclass(frozen=True, eq=False)
class EvaluateResult:
    """What came of it.

    Attributes:
        outcome: images, failures and warnings.
        whose: the predictions are: a model's or a file's.
        dataset: the images that could be used.
        found: on each of them.
        evaluation: all numbers; None where no image could be used.
        computed: what ran the network, if a model ran.
        first_pass: the model of the first pass, if there was one.
    """

    outcome: Outcome
    whose: str
    dataset: Dataset
    found: Sequence[Instances]
    evaluation: Evaluation | None
    computed: Computed | None
    first_pass: str | None

    @property
    def savings(self) -> Savings | None:
        """What the first pass saved, if there was one."""
        if self.first_pass is None:
            return None
        from halfpixel.evaluation.prefilter_savings import Savings

        return Savings.of([one.size_hw for one in self.found], [one.prefilter for one in self.found])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        assert self.evaluation is not None, "without images there is nothing to tell"
        computed = {} if self.computed is None else asdict(self.computed)
        passes = {} if self.first_pass is None else {"first_pass": self.first_pass}
        return {"model": self.whose, **computed, **passes, **self.outcome.to_json(), **self.evaluation.to_json()}


def run(request: EvaluateRequest, tell: Tell = ignore) -> EvaluateResult:
    """Measure what was requested; of a model, the predictions are written, too.

    Raises:
        ArgumentError: options out of range, or that contradict each other, or an earlier report in the folder.
        AnnotationError: annotations or predictions that cannot be used.
    """
    _check_files(request)
    from halfpixel.evaluation.evaluation import AP_RESAMPLES
    from halfpixel.evaluation.evaluation import evaluate as measure
    from halfpixel.jobs.collect import (
        few_overlap,
        predict_dataset,
        read_predictions,
        warn_of_boxes,
        write_predictions,
    )

    runner = Runner(tell, sizes=request.sizes)
    dataset = open_dataset(request.data, request.images, request.format, runner.warn, request.reading, "val")
    computed = None
    if request.predictions is not None:
        found = read_predictions(runner, request.predictions, dataset)
        limits = DetectionLimits.resolve(request.threshold, request.limit, None)
        whose = str(request.predictions)
    else:
        name = request.model or DEFAULT_MODEL
        predictor = open_with_prefilter(name, request.first_pass, request.speed, tell, request.sizes)
        limits = DetectionLimits.resolve(request.threshold, request.limit, predictor.info)
        dataset, found = predict_dataset(runner, predictor, dataset, limits, f"the model {name}")
        whose, computed = describe_model(name), Computed.by(predictor, request.speed)
        if not found:
            return EvaluateResult(runner.outcome(), whose, dataset, found, None, computed, request.first_pass)
        write_predictions(request.out, dataset, found)
    evaluation = measure(
        dataset, found, threshold=limits.threshold, max_detections=limits.limit, slice_by=request.slice_by,
        ap_resamples=AP_RESAMPLES, boundary=request.boundary,
    )  # fmt: skip
    warn_of_boxes(runner, dataset, evaluation.compared_by, found)
    if request.boundary and evaluation.boundary_ap is None:
        runner.warn(f"boundary AP is {evaluation.boundary_note}")
    half = next(one.counts for one in evaluation.overall.detection if round(one.counts.iou, 2) == 0.5)
    if request.predictions is not None and (doubt := few_overlap(half.tp, half.tp + half.fp, half.tp + half.fn)):
        runner.warn(f"{request.predictions}: {doubt}")
    outcome = runner.outcome(*image_warnings(runner.notes, limits.limit))
    return EvaluateResult(outcome, whose, dataset, found, evaluation, computed, request.first_pass)


def _check_files(request: EvaluateRequest) -> None:
    """Refuse what is not there, and what is there already, before anything is imported that takes time."""
    check_folder(request.out)
    if not request.overwrite:
        refuse_to_overwrite([request.out / name for name in WRITTEN])
    check_data(request.data, request.images, request.predictions)
    if request.predictions is None:
        check_models(request.model or DEFAULT_MODEL, request.first_pass)
