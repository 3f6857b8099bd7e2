"""`halfpixel train`."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter
from rich.progress import MofNCompleteColumn, Progress, TextColumn

from halfpixel.cli.console import ERR, Listener, progress_bar, say
from halfpixel.cli.evaluate import print_evaluation
from halfpixel.cli.option_groups import Reading
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs.annotated import AS_WRITTEN
from halfpixel.jobs.events import Event, Trained
from halfpixel.jobs.input_options import AS_BEFORE, InputOptions
from halfpixel.train.recipe import Recipe
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.jobs.train import TrainResult

LINES_WITHOUT_BAR = 20
"""How often the loss is printed where stderr is not a terminal, for example into a log."""

INPUT_GROUP = Group("Input rules", help="Default: those of the start model; from scratch, sides of 800 to 1333 pixels.")
RECIPE_GROUP = Group(
    "Recipe", help="Default: what the network says suits it, else what stands here; recipe.json says what was taken."
)


class RecipeOptions(Recipe):
    """A recipe that knows which of its decisions were given: a network may have defaults of its own.

    Attributes:
        given: their values by name; they are looked at where they are used.
    """

    given: dict[str, Any]

    def __new__(cls, **given: Any) -> RecipeOptions:
        """Called with what stood on the command line, and no more."""
        options = super().__new__(cls)
        object.__setattr__(options, "given", given)
        return options

    def __post_init__(self) -> None:
        pass


RecipeOptions.__doc__ = Recipe.__doc__  # the help is made of it
NOTHING_GIVEN = RecipeOptions()


def train(
    *data: Annotated[Path, Parameter("DATA", required=True)],
    out: Path,
    val: tuple[Path, ...] = (),
    hold_out: int | None = None,
    resume: bool = False,
    model: str = DEFAULT_MODEL,
    images: Path | None = None,
    format: Format | None = None,
    backbone: Path | None = None,
    size_finder: str | None = None,
    score_threshold: float | None = None,
    half: bool = False,
    tensorboard: bool = False,
    inputs: Annotated[InputOptions, Parameter(name="*", group=INPUT_GROUP)] = AS_BEFORE,
    setting: tuple[str, ...] = (),
    recipe: Annotated[RecipeOptions, Parameter(name="*", group=RECIPE_GROUP, negative_bool="no-")] = NOTHING_GIVEN,
    reading: Reading = AS_WRITTEN,
) -> int:
    """Train a model on annotated images, and write it and a record of the run to a new folder.

    Where the classes of the data are those of the start model, in the same order, its last layers are kept; otherwise
    they are new. Images without objects teach the background. Ctrl-C saves; the same command with --resume goes on.
    Several GPUs or machines: torchrun --nproc-per-node=2 -m halfpixel train ...

    Args:
        data: Annotated images: files or folders, in any format that `halfpixel data convert` reads. Several, which must
            have the same classes, are trained on together.
        out: The folder for model.safetensors and the record of the run; runs are never overwritten.
        val: Annotated images (as DATA) to measure on while training; several times for several. The best averaged
            weights are kept. Default: the split val of a data.yaml that names one.
        hold_out: Instead of --val: take this many images, chosen by the seed, out of DATA.
        resume: Go on with the run in --out, if it was begun: give the same command again.
        model: Where to start: a named model, a model file, or a network to train from scratch, such as mask_rcnn_lite
            or rtmdet_lite (`halfpixel models --networks` lists them).
        images: The folder of the images, where they are not beside the annotation files.
        format: The format of the annotations, where it is not found by looking.
        backbone: For a network from scratch: a safetensors file of ImageNet weights under timm's names.
        size_finder: A model whose size finder is taken along, such as nuclei. Default: the start's, for its classes.
        score_threshold: The trained model leaves out objects that score less, 0 to 1. Default: the start model's.
        half: Store the trained weights in 16 bits each: half the size, practically the same results.
        tensorboard: Also write events for TensorBoard (pip install "halfpixel[tensorboard]").
        inputs: How images are brought to the network.
        setting: A setting of the network to change, such as masks=false to train RT-DETR's boxes alone; several times
            for several (`halfpixel models FILE` lists those of a model).
        recipe: All decisions of the run.
        reading: How the annotations are taken.
    """
    from halfpixel.jobs.train import TrainRequest, run

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision that was asked for
    request = TrainRequest(
        data, out, val, hold_out, resume, model, images, format, backbone, size_finder, score_threshold, half,
        tensorboard, inputs, dict(map(_pair, setting)), recipe.given, reading,
    )  # fmt: skip
    with TrainingListener() as listener:
        result = run(request, listener)
    if result.written:
        _print(result)
    return listener.finish(result.outcome)


def _pair(setting: str) -> tuple[str, Any]:
    """Name and value of a setting; numbers, true, false and null are written as in JSON."""
    name, equals, text = setting.partition("=")
    if not (name and equals):
        raise ArgumentError(f"`setting` must be like masks=false, got '{setting}'")
    try:
        return name, json.loads(text)
    except json.JSONDecodeError:
        return name, text


def _print(result: TrainResult) -> None:
    say(f"Wrote {result.model}")
    if result.evaluation is not None:
        print_evaluation(result.evaluation, str(result.model))


class TrainingListener(Listener):
    """Also shows how far a training is: a bar with the last loss and average precision, or lines in a log."""

    def __init__(self) -> None:
        super().__init__()
        self._training: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, Trained):
            self._show(event)
        else:
            super().__call__(event)

    def _show(self, event: Trained) -> None:
        if self._training is None:
            self._close()
            columns = MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}{task.fields[ap]}")
            self._training = self._bar = progress_bar(*columns)
            self._bar.start()
            self._bar.add_task("Training", total=event.steps, loss="", ap="")
        bar, task, values = self._training, self._training.task_ids[0], event.values
        line = ""
        if event.kind == "validating":
            bar.update(task, description="Measuring")
        elif event.kind == "validation":
            kind = "box" if math.isnan(values["mask_ap"]) and not math.isnan(values["box_ap"]) else "mask"
            text = f"{kind} AP {values[f'{kind}_ap']:.3f}"
            bar.update(task, description="Training", ap=f", {text}")
            line = f"{text}, count MAE {values['count_mae']:.2f}"
        elif event.kind == "step":
            bar.update(task, completed=event.step, loss=f"{values['total']:.3f}")
            if event.step % max(event.steps // LINES_WITHOUT_BAR, 1) == 0 or event.step == event.steps:
                line = f"loss {values['total']:.3f}"
        if line and not ERR.is_terminal:
            ERR.print(f"step {event.step} of {event.steps}: {line}")
