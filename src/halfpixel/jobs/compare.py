"""Two models, or files of predictions, side by side on annotated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions, check_data, open_dataset
from halfpixel.jobs.detection_limits import DetectionLimits, check_limits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import check_models, describe_model, open_model
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.runner import Outcome, Runner, image_warnings
from halfpixel.jobs.size_options import SIZES_FOUND, LookedAt, SizeOptions

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset, Sample
    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.model_comparison import Comparison
    from halfpixel.evaluation.per_image import Candidate
    from halfpixel.structures.instances import Instances

WRITTEN = ("report.json", "index.html", "a/instances.json", "b/instances.json")
"""What a comparison leaves in its folder; `halfpixel.report` writes the first two."""


@dataclass(frozen=True)
class CompareRequest:
    """What to compare on which annotated images; see `halfpixel.report.comparison_run.compare`.

    Attributes:
        data: annotated images: a file or a folder.
        out: the folder for the page, the report and the predictions of models.
        sources: A and B: the name or the file of a model as a text, a COCO file of predictions as a path.
        images: the folder of the images, where they are not beside the annotation file.
        format: of the annotations. Default: found by looking.
        thresholds: none for the models' own, one for both, or two.
        limit: at most this many objects an image. Default: each model's own.
        slice_by: an attribute of the images; everything is also measured for each of its values.
        overwrite: replace an earlier comparison in the folder.
        reading: how the annotations are taken.
        sizes: at which size the models look at images; files of predictions are as they are.
    """

    data: Path
    out: Path
    sources: Sequence[str | Path]
    images: Path | None = None
    format: Format | None = None
    thresholds: Sequence[float] = ()
    limit: int | None = None
    slice_by: str = "modality"
    overwrite: bool = False
    reading: ReadingOptions = AS_WRITTEN
    sizes: SizeOptions = SIZES_FOUND

    def __post_init__(self) -> None:
        for threshold in self.thresholds or (None,):
            check_limits(threshold, self.limit)
        if len(self.thresholds) > 2:
            raise ArgumentError(f"`thresholds`: expected one for both or two, got {len(self.thresholds)}")
        if len(self.sources) != 2:
            raise ArgumentError(f"expected `models` and `predictions` two times in all, got {len(self.sources)}")
        if not any(isinstance(source, str) for source in self.sources):
            self.sizes.refuse_with(Path(self.sources[0]))


@dataclass(frozen=True, eq=False)
class CompareResult:
    """What came of it.

    Attributes:
        outcome: images that both could use, failures and warnings.
        dataset: these images.
        a: what the first one found on them.
        b: what the second one found; both None where no image could be used.
        comparison: all numbers; likewise.
        looked_at: at which size `a` and `b`, where they are models, looked at images, where that was asked for.
    """

    outcome: Outcome
    dataset: Dataset
    a: Candidate | None = None
    b: Candidate | None = None
    comparison: Comparison | None = None
    looked_at: Mapping[str, LookedAt] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        assert self.comparison is not None, "without images there is nothing to tell"
        sizes = {"looked_at": {side: one.to_json() for side, one in self.looked_at.items()}} if self.looked_at else {}
        return {"failed": self.outcome.failures_json(), **sizes, **self.comparison.to_json()}


def run(request: CompareRequest, tell: Tell = ignore) -> CompareResult:
    """Compare what was requested; predictions of models are written, too.

    Raises:
        ArgumentError: options out of range, not two to compare, or an earlier comparison in the folder.
        AnnotationError: annotations or predictions that cannot be used.
    """
    _check_files(request)
    from halfpixel.evaluation.evaluation import AP_RESAMPLES
    from halfpixel.evaluation.model_comparison import compare as measure
    from halfpixel.jobs.collect import few_overlap, warn_of_boxes, write_predictions

    thresholds: list[float | None] = [*request.thresholds] or [None]
    runner = Runner(tell)
    dataset = open_dataset(request.data, request.images, request.format, runner.warn, request.reading, "val")
    contenders = [
        _open(runner, source, dataset, own, request)
        for source, own in zip(request.sources, thresholds * 2, strict=False)  # one for both, or two
    ]
    runners = [Runner(tell, sizes=request.sizes) for _ in contenders]
    ran = []
    for one, of_one in zip(contenders, runners, strict=True):
        dataset, found = one.run(of_one, dataset)
        if not found:
            return CompareResult(of_one.outcome(), dataset)
        ran.append(found)
    # an image that one of the two could not use is left out for both
    a, b = (one.on(dataset, found) for one, found in zip(contenders, ran, strict=True))
    comparison = measure(dataset, a, b, slice_by=request.slice_by, ap_resamples=AP_RESAMPLES)
    warn_of_boxes(runner, dataset, comparison.compared_by, a.predictions, b.predictions)
    for one, total in zip(contenders, (comparison.overall.a, comparison.overall.b), strict=True):
        half = total.detection[0]  # at IoU .5
        if one.predictor is None and (doubt := few_overlap(half.tp, half.tp + half.fp, half.tp + half.fn)):
            runner.warn(f"{one.name}: {doubt}")
    for key, one, side in zip("ab", contenders, (a, b), strict=True):
        if one.predictor is not None:
            write_predictions(request.out / key, dataset, side.predictions)
    warnings = list(runner.warnings)
    for one, of_one in zip(contenders, runners, strict=True):
        warnings += image_warnings(of_one.notes, one.limits.limit)
    failures = tuple(failure for of_one in runners for failure in of_one.failures.values())
    outcome = Outcome(tuple(str(sample.path) for sample in dataset.samples), failures, tuple(warnings))
    sizes = {side: of_one.outcome().looked_at for side, of_one in zip("ab", runners, strict=True)}
    looked_at = {side: one for side, one in sizes.items() if one is not None}
    return CompareResult(outcome, dataset, a, b, comparison, looked_at)


def _check_files(request: CompareRequest) -> None:
    """Refuse what is not there, and what is there already, before anything is imported that takes time."""
    check_folder(request.out)
    if not request.overwrite:
        refuse_to_overwrite([request.out / name for name in WRITTEN])
    check_data(request.data, request.images, *(one for one in request.sources if isinstance(one, Path)))
    for source in request.sources:
        if isinstance(source, str):
            check_models(source)


@dataclass(frozen=True, eq=False)
class _Contender:
    """A model that is to run, or the predictions of a file for every image."""

    name: str
    predictor: Predictor | None
    predictions: Mapping[Sample, Instances]
    limits: DetectionLimits

    def run(self, runner: Runner, dataset: Dataset) -> tuple[Dataset, Mapping[Sample, Instances]]:
        """The images that could be used, and what was found on each."""
        if self.predictor is None:
            return dataset, self.predictions
        from halfpixel.jobs.collect import predict_dataset

        dataset, found = predict_dataset(runner, self.predictor, dataset, self.limits, f"the model {self.name}")
        return dataset, dict(zip(dataset.samples, found, strict=True))

    def on(self, dataset: Dataset, found: Mapping[Sample, Instances]) -> Candidate:
        """What takes part in the comparison."""
        from halfpixel.evaluation.per_image import Candidate

        objects = [found[sample] for sample in dataset.samples]
        return Candidate(self.name, objects, self.limits.threshold, self.limits.limit)


def _open(
    runner: Runner, source: str | Path, dataset: Dataset, threshold: float | None, request: CompareRequest
) -> _Contender:
    """Open a model (a text), or read a file."""
    if isinstance(source, Path):
        from halfpixel.jobs.collect import read_predictions

        found = dict(zip(dataset.samples, read_predictions(runner, source, dataset), strict=True))
        return _Contender(str(source), None, found, DetectionLimits.resolve(threshold, request.limit, None))
    predictor = open_model(source, runner.tell, request.sizes)
    limits = DetectionLimits.resolve(threshold, request.limit, predictor.info)
    return _Contender(describe_model(source), predictor, {}, limits)
