"""Finds every object in images and fills a folder with the results."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.jobs.detection_limits import DetectionLimits, check_limits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.image_names import Names
from halfpixel.jobs.image_options import AS_THEY_ARE, ImageOptions
from halfpixel.jobs.journal import Facts, Journal, remove_journal, resumable, was_interrupted
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
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.result_folder import (
    ResultFolder,
    Written,
    check_extras,
    holds_result,
    parse_save,
    refuse_to_mix,
    remove_earlier,
    remove_torn,
)
from halfpixel.jobs.runner import Outcome, Runner, image_warnings, notes_of
from halfpixel.jobs.savings import savings_of
from halfpixel.jobs.size_options import SIZES_FOUND, SizeOptions
from halfpixel.jobs.source import as_patterns, label_of
from halfpixel.jobs.track_options import TrackOptions
from halfpixel.jobs.wording import name_some, plural
from halfpixel.outputs.writers import WRITERS
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.prefilter_savings import Savings
    from halfpixel.jobs.film_tracker import FilmTracker
    from halfpixel.measure.tracks import TrackedFilm

HIDDEN = ".halfpixel-run"
"""The folder for the journal of a run, in its output folder."""

UNFIT_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}
"""What a drive answers that allows no such name; with other images it may go on."""

SAVED = "coco,overlay,table"


@dataclass(frozen=True)
class PredictRequest:
    """Which images to look at, how, and what to write; see `predict_folder`.

    With `tracking` the images are a film, see `halfpixel.jobs.track`.
    """

    paths: Sequence[str]
    out: Path
    model: str = DEFAULT_MODEL
    first_pass: str | None = None
    threshold: float | None = None
    limit: int | None = None
    save: str = SAVED
    classes: str | None = None
    gzip: bool = False
    overwrite: bool = False
    resume: bool = False
    images: ImageOptions = AS_THEY_ARE
    speed: SpeedOptions = AS_USUAL
    sizes: SizeOptions = SIZES_FOUND
    tracking: TrackOptions | None = None

    def __post_init__(self) -> None:
        check_limits(self.threshold, self.limit)
        kinds = parse_save(self.save)
        of_films = [kind for kind in kinds if WRITERS[kind].of_films]
        if self.tracking is None and of_films:
            raise ArgumentError(f"`save` {of_films[0]} is of films: it is for `halfpixel track` only")
        if self.tracking is not None and self.resume:
            raise ArgumentError("`resume`: a film is followed from its first frame, and cannot be gone on with")
        if self.classes is not None and "blurred" not in kinds:
            raise ArgumentError("`classes` is for `save` blurred only")
        if self.gzip and "geojson" not in kinds:
            raise ArgumentError("`gzip` is for `save` geojson only")
        if self.overwrite and self.resume:
            raise ArgumentError("`overwrite` and `resume`: give one of the two")


@dataclass(frozen=True)
class PredictResult:
    """What a run over images found, and where it is.

    Attributes:
        outcome: images, failures and warnings.
        limits: which objects were taken; None where there was no image.
        computed: what ran the network; likewise.
        counts: objects of each class that was found, on all images together, most first.
        written: what is where.
        savings: of a first pass, if there was one.
        film: what the objects of a film did, where they were followed.
    """

    outcome: Outcome
    limits: DetectionLimits | None = None
    computed: Computed | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    written: Sequence[Written] = ()
    savings: Savings | None = None
    film: TrackedFilm | None = None


def predict_folder(
    paths: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    model: str | Path = DEFAULT_MODEL,
    first_pass: str | None = None,
    threshold: float | None = None,
    limit: int | None = None,
    save: str = SAVED,
    classes: str | None = None,
    gzip: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    images: ImageOptions = AS_THEY_ARE,
    speed: SpeedOptions = AS_USUAL,
    sizes: SizeOptions = SIZES_FOUND,
    tell: Tell = ignore,
) -> PredictResult:
    """Find every object in images and write the objects, pictures and tables to a folder: `halfpixel predict`.

    Args:
        paths: image files, folders of images, or globs (`**` stands for folders of any depth).
        out: the folder for the results; it is made if need be.
        model: a named model or a model file.
        first_pass: a U-Net (a name or a file) that looks at the reduced image first; the model then looks only where
            it saw something.
        threshold: leave out objects that score less, from 0 to below 1. Default: the model's own.
        limit: at most this many objects an image. Default: the model's own.
        save: what to write, names of `halfpixel.outputs.writers.WRITERS` separated by commas.
        classes: of `blurred`: make objects of these classes unrecognisable, separated by commas. Default: all.
        gzip: of `geojson`: compress the files.
        overwrite: replace earlier results in the folder; without this, they are kept and nothing is done.
        resume: go on with an interrupted run, which had the same options.
        images: how images are read and measured.
        speed: what the model runs on, and how fast.
        sizes: at which size images are looked at.
        tell: hears how far it is, and of images that cannot be used.

    Raises:
        ArgumentError: an option out of range, or earlier results in the folder.
        ModelFileError: there is no such model.
    """
    return run(
        PredictRequest(
            as_patterns(paths), Path(out), str(model), first_pass, threshold, limit, save, classes, gzip, overwrite,
            resume, images, speed, sizes,
        ),
        tell,
    )  # fmt: skip


def run(request: PredictRequest, tell: Tell = ignore) -> PredictResult:
    """Predict what was requested; see `predict_folder`."""
    kinds = parse_save(request.save)
    check_extras(kinds)
    check_folder(request.out)
    _check_earlier(request, kinds)
    check_models(request.model, request.first_pass)
    one_scene = request.tracking is not None
    runner = Runner(tell, request.images.reading(), sizes=request.sizes, images=request.images, one_scene=one_scene)
    files = _find(runner, request)
    if not files:
        return PredictResult(runner.outcome())
    predictor = open_with_prefilter(request.model, request.first_pass, request.speed, tell, request.sizes)
    limits = DetectionLimits.resolve(request.threshold, request.limit, predictor.info)
    blurred = None if request.classes is None else _parse_classes(request.classes, predictor.class_names)
    names = Names.of(files, planes=request.images.planes == "all")
    journal = Journal(request.out / HIDDEN, _for_resuming(request, kinds, limits, blurred), names.stems)
    if request.resume:
        journal.resume()
        remove_torn(request.out, kinds)
    elif request.overwrite:
        remove_earlier(request.out, kinds)
        remove_journal(request.out / HIDDEN)
    calibration = calibration_in_use(predictor, limits.threshold)
    with_scale = request.sizes.may_differ(predictor)
    folder = ResultFolder(request.out, kinds, names, blurred, request.gzip, calibration, with_scale, request.tracking)
    with resumable() if request.tracking is None else nullcontext():
        _look(request, runner, predictor, limits, journal, folder)
        found = journal.facts()
        runner.notes = notes_of(found)
        if not found:
            return PredictResult(runner.outcome())
        totals = sum((Counter(facts["counts"]) for facts in found), Counter[str]())
        gathered = folder.gather(journal, predictor.class_names)
        written = folder.finish(gathered, totals.total())
        journal.remove()
    return PredictResult(
        runner.outcome(*image_warnings(runner.notes, limits.limit, request.images.advice)),
        limits,
        Computed.by(predictor, request.speed),
        dict(totals.most_common()),
        written,
        None if request.first_pass is None else savings_of(found),
        gathered.film,
    )


def _find(runner: Runner, request: PredictRequest) -> list[Path]:
    """The images to look at, without the results of an earlier run that lie among them."""
    results: list[Path] = []

    def skip(path: Path) -> bool:
        if found := holds_result(request.out, path):
            results.append(path)
        return found

    files = runner.find(request.paths, skip)
    if results:
        some = name_some([str(path) for path in results])
        runner.warn(f"{plural(len(results), 'file')} in {request.out} ({some}) left out: they are results, no images")
    return files


def _look(
    request: PredictRequest,
    runner: Runner,
    predictor: Predictor,
    limits: DetectionLimits,
    journal: Journal,
    folder: ResultFolder,
) -> None:
    """Write what belongs to each image that is not in the journal, then put it there."""
    todo = journal.unfinished(runner.reading)
    in_parallel = journal.in_parallel(runner.reading)
    tracker = _tracker(request, todo)
    for picture, objects in runner.predict(predictor, todo, limits, skip=journal.knows, in_parallel=in_parallel):
        pixel_size_um, doubt = request.images.pixel_size(picture)
        frame = None
        if tracker is not None:
            try:
                objects, frame = tracker.see(picture, objects)
            except ImageError as error:
                runner.fail(label_of(picture.path, picture.plane), f"{picture.path}: {error}")
                continue
        facts: Facts = runner.facts(picture, objects, doubt)
        journal.begin()
        try:
            more, records = folder.write(picture, objects, pixel_size_um, frame)
        except OSError as error:
            if error.errno not in UNFIT_NAME:
                raise
            runner.fail(
                label_of(picture.path, picture.plane), f"{picture.path}: its results cannot be written: {error}"
            )
            continue
        journal.add(picture, facts | more, records)


def _tracker(request: PredictRequest, files: Sequence[Path]) -> FilmTracker | None:
    if request.tracking is None:
        return None
    from halfpixel.jobs.film_tracker import FilmTracker

    return FilmTracker(files, request.tracking)


def _for_resuming(
    request: PredictRequest, kinds: Sequence[str], limits: DetectionLimits, blurred: Sequence[str] | None
) -> dict[str, object]:
    """What a resumed run must have in common with the one before."""
    return {
        "model (SHA-256)": model_digest(request.model),
        "threshold": limits.threshold,
        "limit": limits.limit,
        "save": sorted(kinds),
        "classes": blurred,
        "gzip": request.gzip,
        **request.images.for_resuming(),
        **first_pass_for_resuming(request.first_pass),
        **request.speed.for_resuming(),
        **request.sizes.for_resuming(),
    }


def _check_earlier(request: PredictRequest, kinds: Sequence[str]) -> None:
    """Refuse to spoil what earlier runs have left.

    Raises:
        ArgumentError: there is something, and nothing was said of it.
    """
    out, overwrite, resume = request.out, request.overwrite, request.resume
    interrupted = was_interrupted(out / HIDDEN)
    if interrupted and not overwrite and not resume:
        goes_on = "" if request.tracking is not None else "`resume` goes on with it, "
        raise ArgumentError(f"`out` {out}: an interrupted run; {goes_on}`overwrite` begins anew")
    if overwrite:
        refuse_to_mix(out, kinds)
    elif not interrupted:
        refuse_to_overwrite([out / WRITERS[kind].place for kind in kinds])


def _parse_classes(classes: str, known: Sequence[str]) -> list[str]:
    """The names in a comma-separated list.

    Raises:
        ArgumentError: one that the model does not know.
    """
    chosen = [name for part in classes.split(",") if (name := part.strip())]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        what = f"the model knows no {unknown[0]!r}" if unknown else "it is empty"
        raise ArgumentError(f"`classes`: {what}; its classes are {name_some(known)}")
    return chosen
