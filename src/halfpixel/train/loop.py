"""The training loop."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.errors import AnnotationError, ArgumentError, HalfpixelError
from halfpixel.files import write_whole
from halfpixel.nn.network import Network
from halfpixel.structures.images import ImageBatch
from halfpixel.structures.targets import Targets
from halfpixel.train.augment.crops import Batch, Batches
from halfpixel.train.ema import Average
from halfpixel.train.interrupt import Interrupt
from halfpixel.train.recipe import Recipe
from halfpixel.train.run_log import MODEL, Records, Report, tensorboard_writer
from halfpixel.train.state import Checkpoint, Progress, load_checkpoint, restore, save_checkpoint
from halfpixel.zoo.modelfile import ModelInfo, load_model

CHECKPOINT = "last.safetensors"

LOADING_PROCESSES = 8
"""At most, for each GPU."""


def fit(
    model: Network,
    info: ModelInfo,
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    val: Dataset | None = None,
    report: Report | None = None,
    resume: bool = False,
    tensorboard: bool = False,
) -> Network:
    """Train a network, and keep a record of it in a folder.

    The folder holds `recipe.json`; `log.csv`, the loss terms of each step; `last.safetensors`, the checkpoint to go on
    from; `model.safetensors`, the averaged weights: with `val` those of the validation with the best mask AP, else the
    last; and `curves.png`. With `val` also `validation.csv` and in `pictures/` what each validation found.

    Under torchrun every process takes its share of each step's images, and the first one writes. The losses are those
    of a single process, up to rounding.

    Args:
        model: is trained in place.
        info: its description; the recipe and what was measured are added to it.
        dataset: annotated images; those without objects teach the background.
        recipe: how.
        out: a folder that does not exist yet, or is empty.
        val: annotated images to measure the averaged weights on as training goes.
        report: is told of each step and each validation.
        resume: go on from the folder's checkpoint if there is one; everything else must be as it was. On a CPU in 32
            bits the run then ends as if it had not been interrupted, to the last bit.
        tensorboard: also write events for TensorBoard, which has to be installed.

    Returns:
        The weights in `model.safetensors` as a network.

    Raises:
        ArgumentError: `out` holds something already, or resuming would not be the same run.
        AnnotationError: there is nothing to train on.
        MissingDependencyError: TensorBoard is asked for and not installed.
        HalfpixelError: a loss or gradient stopped being finite (names the images), or a file could not be written.
        KeyboardInterrupt: Ctrl-C; the step under way was finished and saved.
    """
    writer = tensorboard_writer() if tensorboard else None
    fabric = _fabric(recipe)
    saved = None
    if fabric.is_global_zero:
        saved = _check_start(out, dataset, resume)
    resumed = fabric.broadcast(saved is not None)
    if resumed and saved is None:
        saved = load_checkpoint(out / CHECKPOINT)
    run = _Run(fabric, model, recipe, out, _about(info, dataset, recipe), validates=val is not None)
    if saved is not None:
        run.go_on(saved)
    if fabric.is_global_zero:
        if not resumed:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(out / "recipe.json", (json.dumps(dataclasses.asdict(recipe), indent=2) + "\n").encode())
            run.save()  # before all else, so that a run killed at any moment can be taken up
        described = dataclasses.replace(info, recipe=dataclasses.asdict(recipe))
        run.records = Records(out, described, val, run.progress.step, report, writer)
    with Interrupt() as interrupt:
        run.validate_if_due()
        for parts in run.parts(dataset, info):
            stopped = run.step(parts, interrupt)
            run.save_if_due(stopped)
            if stopped:
                raise KeyboardInterrupt(f"after step {run.progress.step}, which is saved")
            run.validate_if_due()
    run.close()
    return load_model(out / MODEL)[0]


class _Run:
    """The parts of a run that change."""

    def __init__(
        self, fabric: Fabric, model: Network, recipe: Recipe, out: Path, about: Mapping[str, Any], validates: bool
    ) -> None:
        self.fabric = fabric
        self.validates = validates
        self.recipe = recipe
        self.checkpoint = out / CHECKPOINT
        self.about = about
        self.progress = Progress()
        self.records: Records | None = None  # the first process's
        model.backbone.requires_grad_(True)
        for module in _frozen(model, recipe.frozen_stages):
            module.requires_grad_(False)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(_parameter_groups(model, recipe), lr=recipe.learning_rate, fused=True)
        self.network, self.fabric_optimiser = fabric.setup(self.model, self.optimiser)
        self.network.mark_forward_method("losses")
        self.average = Average(self.model, recipe.ema_decay)

    def go_on(self, saved: Checkpoint) -> None:
        """Take up a run where its checkpoint is.

        Raises:
            ArgumentError: it was begun with something else.
        """
        _check_same(self.checkpoint.parent, saved.about, self.about)
        restore(saved, self.model, self.average.network, self.optimiser)
        self.progress = saved.progress

    def parts(self, dataset: Dataset, info: ModelInfo) -> Iterator[list[Batch]]:
        """For each step that is left, the parts of its batch that this process is given."""
        parts, processes, rank = self.recipe.accumulate, self.fabric.world_size, self.fabric.global_rank
        steps = _Steps(
            [Batches(dataset, info.input, self.recipe, rank * parts + k, processes * parts) for k in range(parts)]
        )
        on_gpu = self.fabric.device.type == "cuda"  # a GPU should not wait for images; a CPU has nothing to spare
        workers = min((os.cpu_count() or 1) // processes, LOADING_PROCESSES) if on_gpu else 0
        left = range(self.progress.step, self.recipe.steps)
        for batch in DataLoader(steps, batch_size=None, sampler=left, num_workers=workers, collate_fn=_as_it_is):
            if 0 < self.recipe.patience <= self.progress.stale:
                return
            yield batch

    def step(self, parts: Sequence[Batch], interrupt: Interrupt) -> bool:
        """One step of the optimiser; whether some process was asked to stop."""
        step = self.progress.step + 1
        share = _schedule(step, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share
        self.network.train()
        sums: dict[str, Tensor] = {}
        for k, (images, targets, samples) in enumerate(parts):
            tensor = images.tensor.to(self.fabric.device).contiguous(memory_format=torch.channels_last)
            images = dataclasses.replace(images, tensor=tensor)
            with self.fabric.no_backward_sync(self.network, enabled=k < len(parts) - 1):
                losses = self._losses(step, images, targets, samples)
                self.fabric.backward(_total(losses) / len(parts))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(parts)
        norm = self.fabric.clip_gradients(
            self.network, self.fabric_optimiser, max_norm=self.recipe.clip_norm, error_if_nonfinite=False
        )
        if norm is None or not math.isfinite(float(norm)):
            raise HalfpixelError(
                f"step {step}: the gradient is {norm} on {_names([s for *_, ss in parts for s in ss])}"
            )
        self.fabric_optimiser.step()
        self.fabric_optimiser.zero_grad()
        self.progress = dataclasses.replace(self.progress, step=step)
        stop = torch.tensor(float(interrupt.asked), device=self.fabric.device)
        means = self.fabric.all_reduce(torch.stack([*sums.values(), stop]), reduce_op="mean")
        assert isinstance(means, Tensor)
        *terms, stopped = means.tolist()
        if self.records is not None:
            self.average.update(self.model, step)
            values = dict(zip(sums, terms, strict=True)) | {"total": sum(terms)}
            values |= {"gradient_norm": float(norm), "learning_rate": self.recipe.learning_rate * share}
            self.records.step(step, values)
        return bool(stopped > 0)

    def _losses(
        self, step: int, images: ImageBatch, targets: Sequence[Targets], samples: Sequence[Sample]
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.network.losses(images, targets)
        total = float(_total(losses).detach())
        if math.isfinite(total):
            return losses
        guilty = []
        for k, sample in enumerate(samples if self.fabric.world_size == 1 else ()):
            alone = ImageBatch(images.tensor[k : k + 1], images.sizes_hw[k : k + 1])
            with torch.no_grad():
                if not math.isfinite(float(_total(self.network.losses(alone, targets[k : k + 1])))):
                    guilty.append(sample)
        where = _names(guilty or samples)
        if len(guilty) == len(samples) > 1:
            where += ", all images of the step: the weights themselves may have gone, try a lower learning_rate"
        raise HalfpixelError(f"step {step}: the loss is {total} on {where}")

    def _due(self, every: int) -> bool:
        return self.progress.step % every == 0 or self.progress.step == self.recipe.steps

    def _validation_due(self) -> bool:
        new = self.progress.step not in (0, self.progress.validated)
        return self.validates and new and self._due(self.recipe.validation_interval)

    def save_if_due(self, stopped: bool) -> None:
        """Write a checkpoint, and without validation images the model, too."""
        if stopped or self._due(self.recipe.checkpoint_every) or self._validation_due():
            if self.records is not None and not self.validates:
                self.records.save(self.average.network)
            self.save()

    def validate_if_due(self) -> None:
        """Measure the averaged weights, unless this was done before an interruption."""
        if not self._validation_due():
            return
        if self.records is not None:
            self.progress = self.records.validate(self.average.network, self.progress, self.fabric.device)
            self.records.draw()
        self.progress = self.fabric.broadcast(self.progress)
        self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        if self.fabric.is_global_zero:
            moments = self.optimiser.state_dict()["state"]
            network, average = self.model.state_dict(), self.average.network.state_dict()
            save_checkpoint(self.checkpoint, Checkpoint(self.progress, self.about, network, average, moments))

    def close(self) -> None:
        """Finish the records."""
        if self.records is not None:
            self.records.draw()
            self.records.close()
        self.fabric.barrier()


class _Steps(torch.utils.data.Dataset[list[Batch]]):
    """The parts of each step's batch."""

    def __init__(self, parts: Sequence[Batches]) -> None:
        self.parts = parts

    def __getitem__(self, step: int) -> list[Batch]:
        return [batches[step] for batches in self.parts]


def _as_it_is(parts: list[Batch]) -> list[Batch]:
    return parts


def _total(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def _fabric(recipe: Recipe) -> Fabric:
    """One process, or torchrun's."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if recipe.images_per_step % (processes * recipe.accumulate):
        raise ArgumentError(
            f"images_per_step is {recipe.images_per_step}: it must be a multiple of the {processes} processes times "
            f"accumulate, {recipe.accumulate}"
        )
    fabric = Fabric(
        accelerator="cuda" if torch.cuda.is_available() else "cpu",
        devices=local,
        num_nodes=processes // local,
        strategy="ddp" if processes > 1 else "auto",
        precision=recipe.precision,
    )
    fabric.launch()
    return fabric


def _check_start(out: Path, dataset: Dataset, resume: bool) -> Checkpoint | None:
    """Refuse what cannot be begun; the checkpoint to go on from, if there is one."""
    if not any(len(sample.objects) for sample in dataset.samples):
        raise AnnotationError(f"{dataset.path}: no annotated objects to train on")
    if resume and (out / CHECKPOINT).is_file():
        return load_checkpoint(out / CHECKPOINT)
    # a run killed before its first checkpoint left its recipe, and perhaps half a file under a temporary name
    begun = {"recipe.json", *(path.name for path in out.glob(".*.part"))} if resume else set()
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - begun):
        raise ArgumentError(f"{out} is not empty; runs are never overwritten")
    return None


def _about(info: ModelInfo, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """What makes two runs the same."""
    about = dataclasses.asdict(recipe) | {
        "variant": info.variant,
        "class_names": info.class_names,
        "settings": dict(info.settings),
        "input": dataclasses.asdict(info.input),
        "images": [sample.path.name for sample in dataset.samples],
        "objects": sum(len(sample.objects) for sample in dataset.samples),
    }
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def _check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name in now:
        if before.get(name) != now[name]:
            what = f"{name} = {before.get(name)!r:.60}, not {now[name]!r:.60}"
            raise ArgumentError(f"{out}: this run was begun with {what}; a run goes on as it was begun")


def _frozen(model: Network, stages: int) -> list[nn.Module]:
    """The first stages of the backbone."""
    return [module for stage in model.backbone.stages()[:stages] for module in stage] if stages else []


def _names(samples: Sequence[Sample]) -> str:
    return ", ".join(str(sample.path) for sample in samples)


def _parameter_groups(model: Network, recipe: Recipe) -> list[dict[str, object]]:
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
