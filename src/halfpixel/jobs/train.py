"""Trains a model on annotated images, and measures it as it is in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs.annotated import AS_WRITTEN, ReadingOptions, check_data, matched_names, open_dataset
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.events import Announced, Progress, Tell, Trained, ignore
from halfpixel.jobs.input_options import AS_BEFORE, InputOptions
from halfpixel.jobs.model_options import download_progress, open_model
from halfpixel.jobs.output_folder import check_folder
from halfpixel.jobs.runner import Outcome, Runner, image_warnings
from halfpixel.jobs.wording import name_some, plural
from halfpixel.train.recipe import Recipe, check_recipe
from halfpixel.zoo.names import DEFAULT_MODEL, check_start, with_weights

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.evaluation.evaluation import Evaluation
    from halfpixel.train.start import Start


@dataclass(frozen=True)
class TrainRequest:
    """What to train on what, and how; `halfpixel.fit` does the same with objects in memory.

    Attributes:
        data: annotated images: files or folders, in any format that `read_dataset` reads. Several are trained on
            together (`halfpixel.combine_datasets`).
        out: the folder for model.safetensors and the record of the run, see `halfpixel.train.loop.train_network`.
        val: annotated images to measure on while training, likewise; the best averaged weights are kept. Default: the
            splits `val` of data that name one, unless images are held out.
        hold_out: instead of `val`: take this many images, chosen by the seed, out of `data`.
        resume: go on with the run in `out`, if it was begun, with the same request.
        model: where to start: a named model, a model file, or a network to train from scratch.
        images: the folder of the images, where they are not beside the annotation files.
        format: of the annotations. Default: found by looking.
        backbone: for a network from scratch: a safetensors file of ImageNet weights under timm's names.
        size_finder: a model whose size finder the trained model takes along, and is trained for, see `start_from`.
        score_threshold: of the trained model, 0 to 1. Default: the start model's.
        half: store the trained weights in 16 bits each.
        tensorboard: also write events for TensorBoard, which has to be installed.
        inputs: how images are brought to the network. Default: as for the start model.
        settings: fields of the network's `Settings` that are to be others than the start model's, as `fit` takes them.
        recipe: fields of `halfpixel.Recipe`. What is not here is as it suits the network (its `RECIPE`), or as usual.
        reading: how the annotations are taken.
    """

    data: Sequence[Path]
    out: Path
    val: Sequence[Path] = ()
    hold_out: int | None = None
    resume: bool = False
    model: str = DEFAULT_MODEL
    images: Path | None = None
    format: Format | None = None
    backbone: Path | None = None
    size_finder: str | None = None
    score_threshold: float | None = None
    half: bool = False
    tensorboard: bool = False
    inputs: InputOptions = AS_BEFORE
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    reading: ReadingOptions = AS_WRITTEN

    def __post_init__(self) -> None:
        check_recipe(self.recipe)
        threshold = self.score_threshold
        if threshold is not None and not 0 <= threshold < 1:
            raise ArgumentError(f"`score_threshold` must be from 0 up to, but not including, 1; got {threshold}")
        if self.val and self.hold_out is not None:
            raise ArgumentError("`val` and `hold_out`: give one of the two")
        if self.hold_out is not None and self.hold_out < 1:
            raise ArgumentError(f"`hold_out` must be at least 1, got {self.hold_out}")

    @property
    def seed(self) -> int:
        """Of all that is random before the network is known."""
        return int(self.recipe.get("seed", Recipe.seed))


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What came of it.

    Attributes:
        outcome: of the images that were measured on, failures and warnings.
        model: the trained model's file.
        written: it was written by this process; under torchrun, only the first one writes and measures.
        evaluation: all numbers, on the images that were held out; None without these, or where none could be used.
    """

    outcome: Outcome
    model: Path
    written: bool
    evaluation: Evaluation | None


def run(request: TrainRequest, tell: Tell = ignore) -> TrainResult:
    """Train what was requested.

    Raises:
        ArgumentError: options out of range, or that contradict each other, or an earlier run in the folder.
        AnnotationError: annotations that cannot be used, or images that cannot.
        ModelFileError: the model to start from cannot be used.
        HalfpixelError: what `halfpixel.train.loop.train_network` raises.
        KeyboardInterrupt: Ctrl-C; the step under way was finished and saved.
    """
    _check_files(request)
    from halfpixel.train.loop import train_network
    from halfpixel.train.run_log import MODEL, Event
    from halfpixel.train.start import suited

    runner, file = Runner(tell), request.out / MODEL
    dataset, held_out = _open(request, runner)
    start = _start(request, dataset, tell)
    recipe = suited(start.network, request.recipe)
    objects = sum(len(sample.objects) for sample in dataset.samples)
    tell(
        Announced(
            f"Training on {', '.join(map(str, request.data))}: "
            f"{plural(len(dataset.samples), 'image')}, {plural(objects, 'object')}, "
            f"{plural(len(dataset.class_names), 'class', 'classes')} ({name_some(dataset.class_names)})."
        )
    )

    tell(Trained("begin", 0, recipe.steps, {}))

    def report(event: Event) -> None:
        tell(Trained(event.kind, event.step, recipe.steps, event.values))

    try:
        first = train_network(
            start, dataset, recipe, request.out, val=held_out, report=report, resume=request.resume,
            tensorboard=request.tensorboard,
        )  # fmt: skip
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"{error}; the same command with `resume` goes on from the checkpoint") from None
    if first and request.half:
        _halve(file)
    if not first or held_out is None:
        return TrainResult(runner.outcome(), file, first, None)
    return _measure(runner, file, held_out)


def _check_files(request: TrainRequest) -> None:
    """Refuse what is not there, and what is there already, before anything is imported that takes time."""
    out = request.out
    check_folder(out)
    if not request.resume and out.is_dir() and any(out.iterdir()):
        raise ArgumentError(f"`out` {out}: the folder is not empty; runs are never overwritten (`resume` goes on)")
    for data in (*request.data, *request.val):
        check_data(data, request.images)
    check_start(request.model)
    if request.size_finder is not None:
        check_start(request.size_finder)


def _open(request: TrainRequest, runner: Runner) -> tuple[Dataset, Dataset | None]:
    """The images to train on, and those to measure on."""
    from halfpixel.data.combine import combine_datasets
    from halfpixel.data.formats.detect import detect
    from halfpixel.data.relabel import rename_classes
    from halfpixel.data.split import hold_out

    formats = [request.format or detect(data, request.images) for data in request.data]
    training = [
        open_dataset(data, request.images, format, runner.warn, split="train")
        for data, format in zip(request.data, formats, strict=True)
    ]
    measuring = _open_measuring(request, formats, runner)
    taken = request.reading.apply_together([*training, *measuring])
    dataset = combine_datasets(taken[: len(training)])
    _check_sound(taken[: len(training)], runner)
    if request.hold_out is not None:
        return hold_out(dataset, request.hold_out, request.seed)
    if not measuring:
        return dataset, None
    held_out = combine_datasets(taken[len(training) :])
    _check_sound(taken[len(training) :], runner)
    if not request.val:
        n = plural(len(held_out.samples), "image")
        runner.tell(Announced(f"Measuring on the split `val` of {_paths(measuring)}: {n}."))
    twice = {one.path.resolve() for one in dataset.samples} & {one.path.resolve() for one in held_out.samples}
    if twice:
        runner.warn(f"{plural(len(twice), 'image')} to measure on are trained on, too: accuracy will look too good")
    names = matched_names(held_out, dataset.class_names, _paths(training), runner.warn)
    return dataset, rename_classes(
        held_out, {old: new for old, new in zip(names, dataset.class_names, strict=True) if old != new}
    )


def _open_measuring(request: TrainRequest, formats: Sequence[Format], runner: Runner) -> list[Dataset]:
    """The data sets to measure on: those that were named, else the splits `val` of the others."""
    from halfpixel.data.formats.detect import splits_of

    if request.hold_out is not None:
        return []
    named: list[tuple[Path, Format | None]] = [(data, request.format) for data in request.val]
    if not named and request.images is None:
        of_data = zip(request.data, formats, strict=True)
        named = [(data, format) for data, format in of_data if "val" in splits_of(data, format)]
    return [open_dataset(data, request.images, format, runner.warn, split="val") for data, format in named]


def _check_sound(datasets: Sequence[Dataset], runner: Runner) -> None:
    """Refuse data on which a long run would stop in the middle; tells of images that several data sets show."""
    from halfpixel.data.checks.dataset_check import check_before_training

    name = ", ".join(dataset.name for dataset in datasets)
    repeats = check_before_training(datasets, lambda done, total: runner.tell(Progress("check", done, total, name)))
    if repeats:
        runner.warn(f"{plural(len(repeats), 'image')} of a data set shown by another one, too, e.g. {repeats[0]}")


def _paths(datasets: Sequence[Dataset]) -> str:
    return ", ".join(str(dataset.path) for dataset in datasets)


def _start(request: TrainRequest, dataset: Dataset, tell: Tell) -> Start:
    """What to begin with; tells which layers are new."""
    from halfpixel.train.start import start_from

    start = start_from(
        request.model, dataset, backbone=request.backbone, settings=request.settings,
        size_finder=request.size_finder, seed=request.seed, progress=download_progress(request.model, tell),
    )  # fmt: skip
    if start.from_scratch:
        trained = " or ".join(with_weights(request.model))
        tell(
            Announced(
                f"{request.model} starts from scratch{', but for its backbone' if request.backbone else ''}."
                f"{f' With trained weights, the same network is called {trained}.' if trained else ''}"
            )
        )
    if start.new_layers:
        tell(Announced(f"The classes are not those of {request.model}: the last layers start anew."))
    info = replace(start.info, input=request.inputs.apply(start.info.input))
    if request.score_threshold is not None:
        info = replace(info, score_threshold=request.score_threshold)
    return replace(start, info=info)


def _halve(file: Path) -> None:
    from halfpixel.zoo.modelfile import load_model, load_size_network, save_model

    model, info = load_model(file)
    save_model(file, model, info, half=True, size_network=load_size_network(file, info))


def _measure(runner: Runner, file: Path, held_out: Dataset) -> TrainResult:
    """Evaluate the model as it is in its file, and put the main numbers into the file."""
    from halfpixel.jobs.collect import predict_dataset
    from halfpixel.train.validation import measure_file

    predictor = open_model(str(file), runner.tell)
    limits = DetectionLimits.resolve(None, None, predictor.info)
    usable, found = predict_dataset(runner, predictor, held_out, limits)
    evaluation = measure_file(file, usable, found) if found else None
    return TrainResult(runner.outcome(*image_warnings(runner.notes, limits.limit)), file, True, evaluation)
