"""`halfpixel train`."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from rich.progress import MofNCompleteColumn, TextColumn

from halfpixel.cli.dataset import check_classes, check_images, measured, open_dataset, predict_dataset
from halfpixel.cli.evaluate import print_evaluation
from halfpixel.cli.run import ERR, Walk, check_folder, name_some, open_model, plural, progress_bar, say
from halfpixel.errors import ArgumentError
from halfpixel.train.recipe import Recipe
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.data.sample import Dataset
    from halfpixel.models.mask_rcnn import MaskRCNN
    from halfpixel.structures.images import InputRules
    from halfpixel.zoo.modelfile import ModelInfo

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
        scale: Enlarge images by this factor, unless that makes a side longer than --longest-side.
        longest_side: No side of an image becomes longer than this many pixels.
        stretch_below: Brighten images whose 99.9th percentile is under this (0 to 1, where 1 is white).
    """

    scale: float | None = None
    longest_side: int | None = None
    stretch_below: float | None = None

    def apply(self, rules: InputRules) -> InputRules:
        """The rules with what was given put in."""
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not (0 <= value < math.inf and (value or name == "stretch_below")):
                raise ArgumentError(f"--{name.replace('_', '-')} is out of range: {value}")
        return dataclasses.replace(rules, **{k: v for k, v in dataclasses.asdict(self).items() if v is not None})


def train(
    data: Path,
    /,
    *,
    out: Path,
    val: Path | None = None,
    model: str = DEFAULT_MODEL,
    images: Path | None = None,
    backbone: Path | None = None,
    score_threshold: float | None = None,
    half: bool = False,
    inputs: InputOptions = InputOptions(),
    recipe: Annotated[Recipe, Parameter(name="*", group=RECIPE_GROUP)] = STANDARD,
) -> int:
    """Train a model on annotated images and write it, with its recipe and its log, to a new folder.

    Where the classes of the data are those of the start model, in the same order, its last layers are kept; otherwise
    they are new. Images without objects teach the background.

    Args:
        data: A COCO annotation file, or a folder with one.
        out: The folder for model.safetensors, recipe.json and log.csv; runs are never overwritten.
        val: Annotated images (as DATA) to measure the trained model on.
        model: Where to start: a named model, a model file, or a network to train from scratch (mask_rcnn_lite,
            mask_rcnn_r50_fpn, mask_rcnn_r50_fpn_v2).
        images: The folder of the images, where they are not beside the annotation files.
        backbone: For a network from scratch: a safetensors file of ImageNet weights under timm's names.
        score_threshold: The trained model leaves out objects that score less, 0 to 1. Default: the start model's.
        half: Store the trained weights in 16 bits each: half the size, practically the same results.
        inputs: How images are brought to the network.
        recipe: All decisions of the run.
    """
    check_folder(out)
    if score_threshold is not None and not 0 <= score_threshold < 1:
        raise ArgumentError(f"--score-threshold must be from 0 up to, but not including, 1; got {score_threshold}")
    if out.is_dir() and any(out.iterdir()):
        raise ArgumentError(f"--out {out}: the folder is not empty; runs are never overwritten")
    dataset = open_dataset(data, images)
    check_images(dataset)
    held_out = None if val is None else open_dataset(val, images)
    if held_out is not None:
        check_images(held_out)
        check_classes(held_out, dataset.class_names, str(dataset.path))
    network, info = _start(model, dataset, backbone, recipe.seed)
    info = dataclasses.replace(info, input=inputs.apply(info.input))
    if score_threshold is not None:
        info = dataclasses.replace(info, score_threshold=score_threshold)
    objects = sum(len(sample.objects) for sample in dataset.samples)
    say(
        f"Training on {dataset.path}: {plural(len(dataset.samples), 'image')}, {plural(objects, 'object')}, "
        f"{plural(len(dataset.class_names), 'class', 'classes')} ({name_some(dataset.class_names)})."
    )
    _train(network, info, dataset, recipe, out)
    file = out / "model.safetensors"
    if half:
        _halve(file)
    say(f"Wrote {file}")
    return 0 if held_out is None else _measure(held_out, file, half)


def _start(model: str, dataset: Dataset, backbone: Path | None, seed: int) -> tuple[MaskRCNN, ModelInfo]:
    """The network to train and its description."""
    import torch

    from halfpixel.zoo.modelfile import ModelInfo, build, load_backbone, settings_of, variant_names

    torch.manual_seed(seed)  # new layers start at random
    if model in variant_names():
        network = build(model, dataset.class_names)
        source = f"trained from scratch on {dataset.path.name}"
        if backbone is not None:
            load_backbone(network, backbone)
            source = f"trained on {dataset.path.name}, the backbone starting from {backbone.name}"
        return network, ModelInfo(model, dataset.class_names, settings=settings_of(network), source=source)
    if backbone is not None:
        raise ArgumentError(f"--backbone is for networks from scratch ({', '.join(variant_names())}), not for {model}")
    predictor = open_model(model)
    if predictor.class_names != dataset.class_names:
        predictor = predictor.with_classes(dataset.class_names)
        say(f"The classes are not those of {model}: the last layers start anew.")
    before = f" ({predictor.info.source})" if predictor.info.source else ""
    source = f"trained on {dataset.path.name}, starting from {Path(model).name}{before}"
    return predictor.model, dataclasses.replace(predictor.info, source=source, measured={})


def _train(network: MaskRCNN, info: ModelInfo, dataset: Dataset, recipe: Recipe, out: Path) -> MaskRCNN:
    from halfpixel.train.loop import fit

    with progress_bar(MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}")) as bar:
        task = bar.add_task("Training", total=recipe.steps, loss="")
        every = max(recipe.steps // LINES_WITHOUT_BAR, 1)

        def report(step: int, losses: dict[str, float]) -> None:
            bar.update(task, completed=step, loss=f"{losses['total']:.3f}")
            if not ERR.is_terminal and (step % every == 0 or step == recipe.steps):
                ERR.print(f"step {step} of {recipe.steps}: loss {losses['total']:.3f}")

        try:
            return fit(network, info, dataset, recipe, out, report)
        except KeyboardInterrupt:
            step = int(bar.tasks[0].completed)
            raise KeyboardInterrupt(f"after step {step}; {out} holds the log of the losses, but no model") from None


def _halve(file: Path) -> None:
    from halfpixel.zoo.modelfile import load_model, save_model

    save_model(file, *load_model(file), half=True)


def _measure(held_out: Dataset, file: Path, half: bool) -> int:
    """Evaluate the model as it is in its file, print it, and put it into the file."""
    from halfpixel.engine.predictor import Predictor
    from halfpixel.evaluation.evaluate import evaluate
    from halfpixel.zoo.modelfile import load_model, save_model

    network, info = load_model(file)
    walk = Walk()
    predictor = Predictor(network, info)
    usable, found = predict_dataset(walk, predictor, held_out, info.score_threshold, info.detection_limit)
    if found:
        result = evaluate(usable, found, threshold=info.score_threshold, max_detections=info.detection_limit)
        save_model(file, network, dataclasses.replace(info, measured=measured(result)), half=half)
        print_evaluation(result, str(file))
    walk.warn(info.detection_limit)
    return walk.exit_code
