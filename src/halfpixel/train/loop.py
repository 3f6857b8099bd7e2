"""The training loop."""

from __future__ import annotations

import copy
import csv
import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from halfpixel.data.sample import Dataset
from halfpixel.errors import AnnotationError, ArgumentError, HalfpixelError
from halfpixel.files import write_whole
from halfpixel.models.mask_rcnn import MaskRCNN
from halfpixel.train.recipe import Recipe
from halfpixel.train.views import batches
from halfpixel.zoo.modelfile import ModelInfo, save_model

Report = Callable[[int, dict[str, float]], None]


def fit(
    model: MaskRCNN,
    info: ModelInfo,
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    report: Report | None = None,
) -> MaskRCNN:
    """Train a network and write `recipe.json`, `log.csv` and `model.safetensors` into a new folder.

    Args:
        model: is trained in place.
        info: its description; the recipe is added to it.
        dataset: annotated images; those without objects teach the background.
        recipe: how.
        out: a folder that does not exist yet, or is empty.
        report: called after each step with the step's number (from 1) and the loss terms.

    Returns:
        The averaged weights as a network, which is what the model file holds.

    Raises:
        ArgumentError: `out` holds something already.
        AnnotationError: there is nothing to train on.
        HalfpixelError: the loss stopped being finite; names the step's images.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ArgumentError(f"{out} is not empty; runs are never overwritten")
    if not any(len(sample.objects) for sample in dataset.samples):
        raise AnnotationError(f"{dataset.path}: no annotated objects to train on")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "recipe.json", (json.dumps(dataclasses.asdict(recipe), indent=2) + "\n").encode())

    fabric = Fabric(accelerator="auto", devices=1, precision=recipe.precision)  # type: ignore[arg-type]
    torch.manual_seed(recipe.seed)
    fast = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(_parameter_groups(model, recipe), lr=recipe.learning_rate)
    network, fabric_optimiser = fabric.setup(fast, optimiser)
    network.mark_forward_method("losses")
    average = _Average(model, recipe.ema_decay)
    with (out / "log.csv").open("w", newline="") as file:
        log = csv.writer(file)
        for step, (images, targets, samples) in enumerate(
            itertools.islice(batches(dataset, info.input, recipe), recipe.steps), start=1
        ):
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * _schedule(step, recipe)
            images = dataclasses.replace(
                images, tensor=images.tensor.to(fabric.device).contiguous(memory_format=torch.channels_last)
            )
            losses: dict[str, Tensor] = network.losses(images, targets)
            total = torch.stack(list(losses.values())).sum()
            values = {name: float(value.detach()) for name, value in (losses | {"total": total}).items()}
            if not math.isfinite(values["total"]):
                names = ", ".join(str(sample.path) for sample in samples)
                raise HalfpixelError(f"step {step}: the loss is {values['total']} on {names}")
            fabric.backward(total)
            fabric.clip_gradients(network, fabric_optimiser, max_norm=recipe.clip_norm)
            fabric_optimiser.step()
            fabric_optimiser.zero_grad()
            average.update(model)
            if step == 1:
                log.writerow(["step", *values])
            log.writerow([step, *(f"{value:.6g}" for value in values.values())])
            file.flush()
            if report is not None:
                report(step, values)
    best = average.model.cpu().eval()
    info = dataclasses.replace(info, recipe=dataclasses.asdict(recipe))
    save_model(out / "model.safetensors", best, info)
    return best


def _parameter_groups(model: MaskRCNN, recipe: Recipe) -> list[dict[str, object]]:
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": recipe.learning_rate * (recipe.backbone_rate if backbone else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (backbone, decays), parameters in groups.items()
    ]


def _schedule(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at a step, counted from 1."""
    if step <= recipe.warmup_steps:
        return step / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(recipe.steps - recipe.warmup_steps, 1)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


class _Average:
    """Running average of the weights; short at first, so that the start is forgotten."""

    def __init__(self, model: MaskRCNN, decay: float) -> None:
        self.model = copy.deepcopy(model)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: MaskRCNN) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        current = model.state_dict()
        for name, tensor in self.model.state_dict().items():
            if tensor.is_floating_point():
                tensor.lerp_(current[name], 1 - decay)
