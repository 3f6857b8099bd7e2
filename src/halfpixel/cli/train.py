"""`halfpixel train`."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from rich.progress import MofNCompleteColumn, TextColumn

from halfpixel.cli.console import ERR, Listener, first_process, progress_bar, say, warn
from halfpixel.cli.evaluate import print_evaluation
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs.annotated import check_classes, open_dataset
from halfpixel.jobs.model_options import download_progress
from halfpixel.jobs.output_folder import check_folder
from halfpixel.jobs.wording import name_some, plural
from halfpixel.train.recipe import Recipe
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.dataset import Dataset
    from halfpixel.structures.images import InputRules
    from halfpixel.train.run_log import Event
    from halfpixel.train.start import Start

LINES_WITHOUT_BAR = 20
"""How often the loss is printed where stderr is not a terminal, for example into a log."""

INPUT_GROUP = Group("Input rules", help="Default: those of the start model; from scratch, sides of 800 to 1333 pixels.")
RECIPE_GROUP = Group("Recipe")


STANDARD = Recipe()


@Parameter(name="*", group=INPUT_GROUP)
@dataclasses.dataclass(frozen=True)
class InputOptions:
    """How images are brought to the network.

    Attributes:
        scale: Enlarge images by this factor, instead of bringing their sides to a length.
        longest_side: With a scale: what has a longer side than so many pixels once it is enlarged is predicted in
            tiles that overlap. Without: no side of an image becomes longer than this.
        stretch_below: Brighten images whose 99.9th percentile is under this (0 to 1, where 1 is white).
    """

    scale: float | None = None
    longest_side: int | None = None
    stretch_below: float | None = None

    def apply(self, rules: InputRules) -> InputRules:
        """The rules with what was given put in."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        try:
            return dataclasses.replace(rules, **given)
        except ArgumentError as error:
            name, space, rest = str(error).partition(" ")  # it begins with the field
            raise ArgumentError(f"--{name.replace('_', '-')}{space}{rest}") from error


def train(
    data: Path,
    /,
    *,
    out: Path,
    val: Path | None = None,
    hold_out: int | None = None,
    resume: bool = False,
    model: str = DEFAULT_MODEL,
    images: Path | None = None,
    format: Format | None = None,
    backbone: Path | None = None,
    score_threshold: float | None = None,
    half: bool = False,
    tensorboard: bool = False,
    inputs: InputOptions = InputOptions(),
    recipe: Annotated[Recipe, Parameter(name="*", group=RECIPE_GROUP, negative_bool="no-")] = STANDARD,
) -> int:
    """Train a model on annotated images, and write it and a record of the run to a new folder.

    Where the classes of the data are those of the start model, in the same order, its last layers are kept; otherwise
    they are new. Images without objects teach the background. Ctrl-C saves; the same command with --resume goes on.
    Several GPUs or machines: torchrun --nproc-per-node=2 -m halfpixel train ...

    Args:
        data: Annotated images: a file or a folder, in any format that `halfpixel data convert` reads.
        out: The folder for model.safetensors and the record of the run; runs are never overwritten.
        val: Annotated images (as DATA) to measure on while training; the best averaged weights are kept.
        hold_out: Instead of --val: take this many images, chosen by the seed, out of DATA.
        resume: Go on with the run in --out, if it was begun: give the same command again.
        model: Where to start: a named model, a model file, or a network to train from scratch (mask_rcnn_lite,
            mask_rcnn_r50_fpn, mask_rcnn_r50_fpn_v2, unet_lite, unet_lite_boundary).
        images: The folder of the images, where they are not beside the annotation files.
        format: The format of the annotations, where it is not found by looking.
        backbone: For a network from scratch: a safetensors file of ImageNet weights under timm's names.
        score_threshold: The trained model leaves out objects that score less, 0 to 1. Default: the start model's.
        half: Store the trained weights in 16 bits each: half the size, practically the same results.
        tensorboard: Also write events for TensorBoard (pip install "halfpixel[tensorboard]").
        inputs: How images are brought to the network.
        recipe: All decisions of the run.
    """
    _check(out, val, hold_out, resume, score_threshold)
    dataset, held_out = _data(data, val, hold_out, images, format, recipe.seed)
    start = _start(model, dataset, backbone, recipe)
    info = dataclasses.replace(start.info, input=inputs.apply(start.info.input))
    if score_threshold is not None:
        info = dataclasses.replace(info, score_threshold=score_threshold)
    objects = sum(len(sample.objects) for sample in dataset.samples)
    say(
        f"Training on {dataset.path}: {plural(len(dataset.samples), 'image')}, {plural(objects, 'object')}, "
        f"{plural(len(dataset.class_names), 'class', 'classes')} ({name_some(dataset.class_names)})."
    )
    _train(dataclasses.replace(start, info=info), dataset, held_out, recipe, out, resume, tensorboard)
    if not first_process():
        return 0
    file = out / "model.safetensors"
    if half:
        _halve(file)
    say(f"Wrote {file}")
    return 0 if held_out is None else _measure(held_out, file)


def _check(out: Path, val: Path | None, hold_out: int | None, resume: bool, score_threshold: float | None) -> None:
    """Refuse what cannot be done before anything is read."""
    check_folder(out)
    if score_threshold is not None and not 0 <= score_threshold < 1:
        raise ArgumentError(f"--score-threshold must be from 0 up to, but not including, 1; got {score_threshold}")
    if val is not None and hold_out is not None:
        raise ArgumentError("--val and --hold-out: give one of the two")
    if not resume and out.is_dir() and any(out.iterdir()):
        raise ArgumentError(f"--out {out}: the folder is not empty; runs are never overwritten (--resume goes on)")


def _data(
    data: Path, val: Path | None, hold_out: int | None, images: Path | None, format: Format | None, seed: int
) -> tuple[Dataset, Dataset | None]:
    """The images to train on, and those to measure on."""
    dataset = _checked(open_dataset(data, images, format, warn))
    if hold_out is not None:
        from halfpixel.data import split

        if hold_out < 1:
            raise ArgumentError(f"--hold-out must be at least 1, got {hold_out}")
        return split.hold_out(dataset, hold_out, seed)
    if val is None:
        return dataset, None
    held_out = _checked(open_dataset(val, images, format, warn))
    check_classes(held_out, dataset.class_names, str(dataset.path))
    return dataset, held_out


def _checked(dataset: Dataset) -> Dataset:
    """Refuse a data set on which a long run would stop in the middle."""
    from halfpixel.data.checks.dataset_check import check_before_training

    with progress_bar() as bar:
        task = bar.add_task(f"Looking at {dataset.path.name}")
        check_before_training(dataset, lambda done, total: bar.update(task, completed=done, total=total))
    return dataset


def _start(model: str, dataset: Dataset, backbone: Path | None, recipe: Recipe) -> Start:
    """What to begin with; says so where the last layers are new."""
    from halfpixel.train.start import start_from

    with Listener() as listener:
        progress = download_progress(model, listener)
        start = start_from(model, dataset, backbone=backbone, seed=recipe.seed, progress=progress)
    if start.new_layers:
        say(f"The classes are not those of {model}: the last layers start anew.")
    return start


def _train(
    start: Start,
    dataset: Dataset,
    held_out: Dataset | None,
    recipe: Recipe,
    out: Path,
    resume: bool,
    tensorboard: bool,
) -> None:
    from halfpixel.train.loop import train_network

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision that was asked for
    columns = MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}{task.fields[ap]}")
    with progress_bar(*columns) as bar:
        task = bar.add_task("Training", total=recipe.steps, loss="", ap="")
        every = max(recipe.steps // LINES_WITHOUT_BAR, 1)

        def report(event: Event) -> None:
            step, values = event.step, event.values
            if event.kind == "validating":
                bar.update(task, description="Measuring")
                return
            if event.kind == "validation":
                text = f"mask AP {values['mask_ap']:.3f}"
                bar.update(task, description="Training", ap=f", {text}")
                if not ERR.is_terminal:
                    ERR.print(f"step {step} of {recipe.steps}: {text}, count MAE {values['count_mae']:.2f}")
                return
            bar.update(task, completed=step, loss=f"{values['total']:.3f}")
            if not ERR.is_terminal and (step % every == 0 or step == recipe.steps):
                ERR.print(f"step {step} of {recipe.steps}: loss {values['total']:.3f}")

        try:
            train_network(
                start, dataset, recipe, out, val=held_out, report=report, resume=resume, tensorboard=tensorboard
            )
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"{error}; the same command with --resume goes on from the checkpoint") from None


def _halve(file: Path) -> None:
    from halfpixel.zoo.modelfile import load_model, save_model

    save_model(file, *load_model(file), half=True)


def _measure(held_out: Dataset, file: Path) -> int:
    """Evaluate the model as it is in its file, print it, and put it into the file."""
    from halfpixel.train.held_out import measure_held_out

    with Listener() as listener:
        result = measure_held_out(file, held_out, listener)
    if result.evaluation is not None:
        print_evaluation(result.evaluation, str(file))
    return listener.finish(result.outcome)
