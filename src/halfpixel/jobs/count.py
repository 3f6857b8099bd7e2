"""Counts the objects in images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.errors import ArgumentError
from halfpixel.files import write_with_folder
from halfpixel.jobs.counting import DENSITY, INTERVAL, Counting, Frame
from halfpixel.jobs.detection_limits import DetectionLimits, check_limits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.image_options import AS_THEY_ARE, ImageOptions
from halfpixel.jobs.journal import Facts, Journal, resumable
from halfpixel.jobs.model_options import (
    AS_USUAL,
    Computed,
    SpeedOptions,
    calibration_in_use,
    check_models,
    first_pass_for_resuming,
    model_digest,
    open_with_prefilter,
)
from halfpixel.jobs.output_folder import check_folder
from halfpixel.jobs.runner import Outcome, Runner, image_warnings, notes_of
from halfpixel.jobs.savings import savings_of
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.jobs.source import as_patterns
from halfpixel.outputs.csv import csv_bytes
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.prefilter_savings import Savings
    from halfpixel.structures.calibration import Calibration

MANY_CLASSES = 10
"""With more classes than this, those that were found nowhere are left out of tables."""

OURS = ("image", "class", "count")
"""The columns that every table of counts begins with."""


@dataclass(frozen=True)
class CountRequest:
    """Which images to count on, and how; see `count`."""

    paths: Sequence[str]
    model: str = DEFAULT_MODEL
    first_pass: str | None = None
    threshold: float | None = None
    limit: int | None = None
    density: Frame | None = None
    csv: Path | None = None
    resume: bool = False
    images: ImageOptions = AS_THEY_ARE
    speed: SpeedOptions = AS_USUAL
    sizes: SizeOptions = SIZES_FOUND

    def __post_init__(self) -> None:
        check_limits(self.threshold, self.limit)
        if self.resume and self.csv is None:
            raise ArgumentError("`resume`: only a run with `csv` can be resumed")


@dataclass(frozen=True)
class ImageCount:
    """The counts of one image.

    Attributes:
        image: its label: the path, and the plane where each is an image of its own.
        counts: of all classes of the model.
        limit_reached: the detection limit cut objects off, so that counts may be too low.
        intervals: of each class `low`, `high`, `level` and `estimate`; None where there are none.
        densities: of each class `counted`, `area_px`, `per_megapixel` and `per_mm2`; None where not asked for.
        scale: by which factor the image was enlarged for the network; None where it was brought to one size.
        found_diameter_px: of its objects, as it was found before the network looked; None where it was not.
        novelty: how unlike the images it is that the model was trained or calibrated on, as in `Instances.novelty`.
    """

    image: str
    counts: Mapping[str, int]
    limit_reached: bool
    intervals: Mapping[str, Mapping[str, float]] | None = None
    densities: Mapping[str, Mapping[str, float | None]] | None = None
    scale: float | None = None
    found_diameter_px: float | None = None
    novelty: float | None = None

    @property
    def unlike_training(self) -> bool | None:
        """As in `Instances.unlike_training`; where it is true, there are no intervals."""
        from halfpixel.structures.novelty import is_unlike

        return is_unlike(self.novelty)

    def numbers(self, name: str, columns: Sequence[str]) -> dict[str, Any]:
        """What a class has besides its count; those that there are not are None."""
        known = {**(self.intervals or {}).get(name, {}), **(self.densities or {}).get(name, {})}
        return {column: known.get(column) for column in columns}


@dataclass(frozen=True)
class CountResult:
    """The objects of images.

    Attributes:
        outcome: images, failures and warnings.
        model: that found them.
        limits: which objects were counted; None where there was no image.
        computed: what ran the network; likewise.
        images: the counts of each.
        total: of each class, over all images.
        calibration: what intervals were made with; None where there are none.
        calibrated_for: the threshold that the model's calibration is for, if it has one.
        density: of which kind, if any.
        savings: of a first pass, if there was one.
    """

    outcome: Outcome
    model: str
    limits: DetectionLimits | None = None
    computed: Computed | None = None
    images: Sequence[ImageCount] = ()
    total: Mapping[str, int] = field(default_factory=dict)
    calibration: Calibration | None = None
    calibrated_for: float | None = None
    density: Frame | None = None
    first_pass: str | None = None
    savings: Savings | None = None

    @property
    def shown(self) -> list[str]:
        """The classes that tables show: of many only those that were found."""
        return [name for name in self.total if self.total[name] or len(self.total) <= MANY_CLASSES]

    def rows_of(self, image: ImageCount) -> list[str]:
        """The classes that have a row in the table of an image."""
        return [name for name in self.shown if image.counts[name] or len(self.total) <= MANY_CLASSES]

    @property
    def columns(self) -> tuple[str, ...]:
        """What a class of an image has besides its count."""
        return (INTERVAL if self.calibration is not None else ()) + (DENSITY if self.density is not None else ())

    @property
    def tells_unlike(self) -> bool:
        """Whether the model can say that an image is unlike those that it knows."""
        return any(one.novelty is not None for one in self.images)

    def csv_bytes(self) -> bytes:
        """A table with a row for each class of each image."""
        assert self.limits is not None, "without images there is no table"
        rows, flags = [], ("limit_reached", *(("unlike_training",) * self.tells_unlike))
        for one in self.images:
            said = ["yes" if getattr(one, flag) else "no" for flag in flags]
            for name in self.shown:
                numbers = one.numbers(name, self.columns).values()
                cells = ["" if value is None else f"{value:.10g}" for value in numbers]
                count = one.counts.get(name, 0)
                rows.append((one.image, name, count, *cells, f"{self.limits.threshold:g}", *said))
        return csv_bytes((*OURS, *self.columns, "score_threshold", *flags), rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        assert self.limits is not None, "without images there is nothing to tell"
        assert self.computed is not None, "likewise"
        extras = ("intervals",) * (self.calibration is not None) + ("densities",) * (self.density is not None)
        looked_at = self.outcome.looked_at
        extras += ("scale",) * (looked_at is not None)
        extras += ("found_diameter_px",) * (looked_at is not None and looked_at.found_px is not None)
        extras += ("unlike_training", "novelty") * self.tells_unlike
        savings = {} if self.savings is None else {"first_pass": {"model": self.first_pass, **asdict(self.savings)}}
        return {
            "model": self.model,
            **asdict(self.limits),
            **asdict(self.computed),
            **savings,
            "images": [
                {"image": one.image, "counts": one.counts, "limit_reached": one.limit_reached}
                | {key: getattr(one, key) for key in extras}
                for one in self.images
            ],
            "total": self.total,
            **self.outcome.to_json(),
        }


def count(
    paths: str | Path | Sequence[str | Path],
    *,
    model: str | Path = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    density: Frame | None = None,
    csv: str | Path | None = None,
    resume: bool = False,
    images: ImageOptions = AS_THEY_ARE,
    speed: SpeedOptions = AS_USUAL,
    sizes: SizeOptions = SIZES_FOUND,
    tell: Tell = ignore,
) -> CountResult:
    """Count the objects in images: `halfpixel count`.

    With a model that is calibrated for the threshold, counts come with intervals.

    Args:
        paths: image files, folders of images, or globs (`**` stands for folders of any depth).
        model: a named model or a model file.
        first_pass: a U-Net (a name or a file) that looks at the reduced image first; the model then looks only where
            it saw something.
        threshold: count objects that score at least this, 0 to 1. Default: the model's own.
        limit: at most this many objects an image. Default: the model's own.
        density: also objects per mm2 or per megapixel: `plain`, or `unbiased` with a counting frame.
        csv: write the table to this file as well; an earlier table of counts is replaced, any other file kept.
        resume: go on with an interrupted run that had `csv`, with the same options.
        images: how images are read and measured.
        speed: what the model runs on, and how fast.
        sizes: at which size images are looked at.
        tell: hears how far it is, and of images that cannot be used.

    Raises:
        ArgumentError: an option out of range.
        ModelFileError: there is no such model.
    """
    file = None if csv is None else Path(csv)
    patterns = as_patterns(paths)
    return run(
        CountRequest(patterns, str(model), first_pass, threshold, limit, density, file, resume, images, speed, sizes),
        tell,
    )


def run(request: CountRequest, tell: Tell = ignore) -> CountResult:
    """Count what was requested; see `count`."""
    csv, model = request.csv, request.model
    if csv is not None:
        _check_csv(csv)
    check_models(model, request.first_pass)
    runner = Runner(tell, request.images.reading(), sizes=request.sizes, images=request.images)
    files = runner.find(request.paths)
    if not files:
        return CountResult(runner.outcome(), model)
    predictor = open_with_prefilter(model, request.first_pass, request.speed, tell, request.sizes)
    limits = DetectionLimits.resolve(request.threshold, request.limit, predictor.info)
    counting = Counting(limits, calibration_in_use(predictor, limits.threshold), request.density, request.images)
    folder = None if csv is None else csv.with_name(f".{csv.name}.halfpixel-run")
    journal = Journal(folder, _for_resuming(request, limits), {path: str(path) for path in files})
    if request.resume:
        journal.resume()
    with resumable() if csv is not None else nullcontext():
        counting.look(runner, predictor, journal)
        found = journal.facts()
        runner.notes = notes_of(found)
        if not found:
            return CountResult(runner.outcome(), model)
        result = _result(request, runner, predictor, counting, found)
        if csv is not None:
            write_with_folder(csv, result.csv_bytes())
            journal.remove()
    return result


def _result(
    request: CountRequest, runner: Runner, predictor: Predictor, counting: Counting, found: Sequence[Facts]
) -> CountResult:
    names, of_model = predictor.class_names, predictor.info.calibration
    warnings = image_warnings(runner.notes, counting.limits.limit, request.images.advice)
    return CountResult(
        outcome=runner.outcome(*warnings, *counting.warnings(found)),
        model=request.model,
        limits=counting.limits,
        computed=Computed.by(predictor, request.speed),
        images=[_image_count(facts, names) for facts in found],
        total={name: sum(facts["counts"].get(name, 0) for facts in found) for name in names},
        calibration=None if counting.calibration is None else counting.calibration.calibration,
        calibrated_for=None if of_model is None else of_model.threshold,
        density=request.density,
        first_pass=request.first_pass,
        savings=None if request.first_pass is None else savings_of(found),
    )


def _image_count(facts: Facts, class_names: Sequence[str]) -> ImageCount:
    counts = {name: facts["counts"].get(name, 0) for name in class_names}
    note, more = facts["note"], (facts.get("intervals"), facts.get("densities"))
    looked_at = note["scale"], note["found_diameter_px"], note["novelty"]
    return ImageCount(facts["image"], counts, note["saturated"], *more, *looked_at)


def _for_resuming(request: CountRequest, limits: DetectionLimits) -> dict[str, object]:
    """What a resumed run must have in common with the one before."""
    options: dict[str, object] = {
        "threshold": limits.threshold,
        "limit": limits.limit,
        "density": request.density,
    }
    if request.csv is not None:
        options |= {"model (SHA-256)": model_digest(request.model), **first_pass_for_resuming(request.first_pass)}
        options |= request.images.for_resuming() | request.speed.for_resuming() | request.sizes.for_resuming()
    return options


def _check_csv(csv: Path) -> None:
    """Refuse a file that cannot be written, or that is not ours to replace, before a model is opened.

    Raises:
        ArgumentError: a folder, a path through a file, or an existing file that is no table of counts.
    """
    if csv.is_dir():
        raise ArgumentError(f"`csv` {csv}: this is a folder, not a file")
    check_folder(csv.parent, f"`csv` {csv}")
    if csv.exists() and not _is_ours(csv):
        raise ArgumentError(f"`csv` {csv}: this file exists and is no table of counts; choose another name")


def _is_ours(path: Path) -> bool:
    """Whether a file begins as a table of counts does."""
    if not path.is_file():  # a device or a pipe, which reading might wait for
        return False
    start = f"{','.join(OURS)},".encode()
    with path.open("rb") as file:
        return file.read(len(start)) == start
