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
from torch import Tensor

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.size_finder import SizeFinder, choose_scale
from halfpixel.errors import ArgumentError, HalfpixelError
from halfpixel.files import write_whole
from halfpixel.nn.network import Network
from halfpixel.structures.images import ImageBatch, InputRules
from halfpixel.structures.targets import Targets
from halfpixel.train.augment.crops import Batch, Batches
from halfpixel.train.ema import WeightAverage
from halfpixel.train.interrupt import Interrupt
from halfpixel.train.loading import batches_of
from halfpixel.train.novelty_fit import measure_novelty
from halfpixel.train.object_sizes import KnownSizes, measure_diameters
from halfpixel.train.optimiser import freeze_stages, parameter_groups, schedule
from halfpixel.train.recipe import Recipe
from halfpixel.train.resume import begun_with, check_same, check_start
from halfpixel.train.run_log import MODEL, Report, RunLog, tensorboard_writer
from halfpixel.train.start import Start, start_from, suited
from halfpixel.train.state import CHECKPOINT, Checkpoint, Progress, load_checkpoint, restore, save_checkpoint
from halfpixel.train.weight_gradients import WeightGradients
from halfpixel.zoo.modelfile import ModelInfo, load_model, load_size_network

LOADING_PROCESSES = 8
"""At most, for each GPU."""


def fit(
    model: Predictor | str | Path,
    dataset: Dataset,
    recipe: Recipe | None,
    out: Path,
    *,
    val: Dataset | None = None,
    report: Report | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Predictor:
    """Train a model on annotated images, and keep a record of it in a folder.

    Where the classes of the data are not those of the model, in the same order, its last layers start anew. What the
    folder holds, and what happens under torchrun, is told at `train_network`.

    Args:
        model: where to start: a predictor, which stays as it is, a named model, a model file, or the name of a
            network to train from scratch.
        dataset: annotated images; those without objects teach the background.
        recipe: how; None for what suits the network (its `RECIPE`).
        out: a folder that does not exist yet, or is empty.
        val: annotated images to measure the averaged weights on as training goes.
        report: is told of each step and each validation.
        resume: see `train_network`.
        tensorboard: also write events for TensorBoard, which has to be installed.
        settings: fields of the network's `Settings` that are to be others than the start's, see `start_from`.

    Returns:
        A new predictor, with the weights in `model.safetensors`.

    Raises:
        ModelFileError: the model to start from cannot be used.
        DownloadError: it cannot be fetched.
        HalfpixelError: what `train_network` raises.
        KeyboardInterrupt: likewise.
    """
    start = start_from(model, dataset, settings=settings, seed=0 if recipe is None else recipe.seed)
    recipe = recipe or suited(start.network)
    train_network(start, dataset, recipe, out, val=val, report=report, resume=resume, tensorboard=tensorboard)
    network, info = load_model(out / MODEL)
    return Predictor(network, info, start.device, size_network=load_size_network(out / MODEL, info))


def train_network(
    start: Start,
    dataset: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    val: Dataset | None = None,
    report: Report | None = None,
    resume: bool = False,
    tensorboard: bool = False,
) -> bool:
    """Train a network in place, and leave the best of it in a folder.

    The folder holds `recipe.json`; `log.csv`, the loss terms of each step; `last.safetensors`, the checkpoint to go on
    from; `model.safetensors`, the averaged weights: with `val` those of the validation with the best mask AP, else the
    last; and `curves.png`. With `val` also `validation.csv` and in `pictures/` what each validation found.

    Under torchrun every process takes its share of each step's images, and the first one writes. The losses are those
    of a single process, up to rounding.

    Args:
        start: of `start_from`; recipe, sizes of the objects and what was measured are added to its description.
        dataset: as for `fit`.
        recipe: likewise.
        out: likewise.
        val: likewise.
        report: likewise.
        tensorboard: likewise.
        resume: go on from the folder's checkpoint if there is one; everything else must be as it was. On a CPU in 32
            bits the run then ends as if it had not been interrupted, to the last bit.

    Returns:
        Whether this is the process that writes.

    Raises:
        ArgumentError: `out` holds something already, or resuming would not be the same run.
        AnnotationError: there is nothing to train on.
        MissingDependencyError: TensorBoard is asked for and not installed.
        HalfpixelError: a loss or gradient stopped being finite (names the images), or a file could not be written.
        KeyboardInterrupt: Ctrl-C; the step under way was finished and saved.
    """
    writer = tensorboard_writer() if tensorboard else None
    fabric = _fabric(recipe)
    saved = check_start(out, dataset, resume) if fabric.is_global_zero else None
    resumed = fabric.broadcast(saved is not None)
    if resumed and saved is None:
        saved = load_checkpoint(out / CHECKPOINT)
    run = _Run(fabric, start.network, recipe, out, begun_with(start.info, dataset, recipe), validates=val is not None)
    if saved is not None:
        run.go_on(saved)
    elif fabric.is_global_zero:
        run.begin()
    info, sizes = _described(start, dataset, recipe)
    if fabric.is_global_zero:
        described = _with_looks(info, start, dataset)
        run.log = RunLog(out, described, val, run.progress.step, report, writer, start.size_network)
    with Interrupt() as interrupt:
        run.train(dataset, info.input, sizes, interrupt)
    run.close()
    return bool(fabric.is_global_zero)


def _described(start: Start, dataset: Dataset, recipe: Recipe) -> tuple[ModelInfo, KnownSizes | None]:
    """What the trained model says of itself, but for what takes time or other images to measure.

    Also at which sizes it will look at images; None where it does not find how large objects are.
    """
    rules, finder = start.info.input, SizeFinder.of_model(start.size_network, start.info)
    diameters = measure_diameters(dataset, rules)
    info = dataclasses.replace(start.info, recipe=dataclasses.asdict(recipe), diameters=diameters)
    if finder is None or diameters is None:
        return info, None
    return info, KnownSizes(dataset, rules, diameters, finder.info.tolerance)


def _with_looks(info: ModelInfo, start: Start, dataset: Dataset) -> ModelInfo:
    """With what the training images look like at the sizes at which the model will look at them."""
    finder = SizeFinder.of_model(start.size_network, info)
    novelty = measure_novelty(
        [sample.path for sample in dataset.samples],
        info.input,
        lambda _, pixels: choose_scale(info, finder, pixels),
        "training",
    )
    return dataclasses.replace(info, novelty=novelty)


class _Run:
    """What changes in the course of a run."""

    def __init__(
        self, fabric: Fabric, model: Network, recipe: Recipe, out: Path, about: Mapping[str, Any], validates: bool
    ) -> None:
        self.fabric = fabric
        self.validates = validates
        self.recipe = recipe
        self.checkpoint = out / CHECKPOINT
        self.about = about
        self.progress = Progress()
        self.log: RunLog | None = None  # the first process's
        freeze_stages(model, recipe.frozen_stages)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(parameter_groups(model, recipe), lr=recipe.learning_rate, fused=True)
        self.network, self.fabric_optimiser = fabric.setup(self.model, self.optimiser)
        self.network.mark_forward_method("losses")
        self.average = WeightAverage(self.model, recipe.ema_decay)

    def begin(self) -> None:
        """Write the folder's first files, before all else, so that a run killed at any moment can be taken up."""
        out = self.checkpoint.parent
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / "recipe.json", (json.dumps(dataclasses.asdict(self.recipe), indent=2) + "\n").encode())
        self.save()

    def go_on(self, saved: Checkpoint) -> None:
        """Take up a run where its checkpoint is.

        Raises:
            ArgumentError: it was begun with something else.
        """
        check_same(self.checkpoint.parent, saved.about, self.about)
        restore(saved, self.model, self.average.network, self.optimiser)
        self.progress = saved.progress

    def train(self, dataset: Dataset, rules: InputRules, sizes: KnownSizes | None, interrupt: Interrupt) -> None:
        """Take all steps that are left.

        Raises:
            KeyboardInterrupt: some process was asked to stop; the step is saved.
        """
        self.validate_if_due()
        for micro_batches in self._micro_batches(dataset, rules, sizes):
            stopped = self.step(micro_batches, interrupt)
            self.save_if_due(stopped)
            if stopped:
                raise KeyboardInterrupt(f"after step {self.progress.step}, which is saved")
            self.validate_if_due()

    def _micro_batches(self, dataset: Dataset, rules: InputRules, sizes: KnownSizes | None) -> Iterator[list[Batch]]:
        """For each step that is left, the micro-batches that this process is given."""
        several, processes, rank = self.recipe.accumulate, self.fabric.world_size, self.fabric.global_rank
        shares = processes * several
        mine = [Batches(dataset, rules, self.recipe, rank * several + k, shares, sizes) for k in range(several)]
        on_gpu = self.fabric.device.type == "cuda"  # a GPU should not wait for images; a CPU has nothing to spare
        workers = min((os.cpu_count() or 1) // processes, LOADING_PROCESSES) if on_gpu else 0
        left = range(self.progress.step, self.recipe.steps)
        for batch in batches_of(mine, left, workers):
            if 0 < self.recipe.patience <= self.progress.stale:
                return
            yield batch

    def step(self, micro_batches: Sequence[Batch], interrupt: Interrupt) -> bool:
        """One step of the optimiser; whether some process was asked to stop."""
        step = self.progress.step + 1
        share = schedule(step, self.recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * share
        sums = self._accumulate(step, micro_batches)
        norm = self.fabric.clip_gradients(
            self.network, self.fabric_optimiser, max_norm=self.recipe.clip_norm, error_if_nonfinite=False
        )
        if norm is None or not math.isfinite(float(norm)):
            samples = [sample for *_, of_one in micro_batches for sample in of_one]
            raise HalfpixelError(f"step {step}: the gradient is {norm} on {_names(samples)}")
        self.fabric_optimiser.step()
        self.fabric_optimiser.zero_grad()
        self.progress = dataclasses.replace(self.progress, step=step)
        stop = torch.tensor(float(interrupt.asked), device=self.fabric.device)
        means = self.fabric.all_reduce(torch.stack([*sums.values(), stop]), reduce_op="mean")
        assert isinstance(means, Tensor)
        *terms, stopped = means.tolist()
        if self.log is not None:
            self.average.update(self.model, step)
            values = dict(zip(sums, terms, strict=True)) | {"total": sum(terms)}
            values |= {"gradient_norm": float(norm), "learning_rate": self.recipe.learning_rate * share}
            self.log.step(step, values)
        return bool(stopped > 0)

    def _accumulate(self, step: int, micro_batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Add up the gradients of a step, and return its loss terms."""
        self.network.train()
        sums: dict[str, Tensor] = {}
        for k, (images, targets, samples) in enumerate(micro_batches):
            tensor = images.tensor.to(self.fabric.device).contiguous(memory_format=torch.channels_last)
            images = dataclasses.replace(images, tensor=tensor)
            with self.fabric.no_backward_sync(self.network, enabled=k < len(micro_batches) - 1):
                losses = self._losses(step, images, targets, samples)
                self.fabric.backward(_total(losses) / len(micro_batches))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach() / len(micro_batches)
        return sums

    def _losses(
        self, step: int, images: ImageBatch, targets: Sequence[Targets], samples: Sequence[Sample]
    ) -> dict[str, Tensor]:
        # the wrapper of a single process has no autocast around other methods than `forward`
        with WeightGradients(), self.fabric.autocast():
            return self._checked_losses(step, images, targets, samples)

    def _checked_losses(
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
            if self.log is not None and not self.validates:
                self.log.save(self.average.network)
            self.save()

    def validate_if_due(self) -> None:
        """Measure the averaged weights, unless this was done before an interruption."""
        if not self._validation_due():
            return
        if self.log is not None:
            self.progress = self.log.validate(self.average.network, self.progress, self.fabric.device)
            self.log.draw()
        self.progress = self.fabric.broadcast(self.progress)
        self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        if self.fabric.is_global_zero:
            moments = self.optimiser.state_dict()["state"]
            network, average = self.model.state_dict(), self.average.network.state_dict()
            save_checkpoint(self.checkpoint, Checkpoint(self.progress, self.about, network, average, moments))

    def close(self) -> None:
        """Finish the log."""
        if self.log is not None:
            self.log.draw()
            self.log.close()
        self.fabric.barrier()


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


def _names(samples: Sequence[Sample]) -> str:
    return ", ".join(str(sample.path) for sample in samples)
