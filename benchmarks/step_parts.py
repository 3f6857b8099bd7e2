"""Where the time of a training step goes, part by part, on the CPU.

Each variant starts from ImageNet's weights of EfficientNet-Lite0 and takes steps as `halfpixel train` does, with a
learning rate so small that the weights hardly change. Data, forward, backward and optimiser are timed apart; parts of
the network while they compute, what is left of the forward being assignment, targets, crops of regions and losses. What
backward consists of is told by torch's profiler in a step of its own. Seconds are those of one processor, which other
work on the machine hardly changes.

    python benchmarks/step_parts.py --train train.json --backbone lite0.safetensors rtmdet_lite mask_rcnn_lite
"""

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from models import LONGEST_SIDE
from torch import nn
from torch.profiler import ProfilerActivity, profile

import halfpixel
from halfpixel.data.dataset import Dataset
from halfpixel.structures.images import InputRules
from halfpixel.train.augment.crops import Batches
from halfpixel.train.ema import WeightAverage
from halfpixel.train.optimiser import parameter_groups
from halfpixel.train.start import start_from, suited
from halfpixel.train.weight_gradients import WeightGradients

Parts = Mapping[str, float]

REST = "the rest of forward"
COPIES = ("copy_", "cat", "constant_pad_nd", "fill_", "zero_")
ACTIVATIONS = ("hardtanh_backward", "silu_backward", "threshold_backward", "sigmoid_backward")


class Clock:
    """Seconds of each part of the present step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.process_time()
        yield
        self.seconds[part] += time.process_time() - start

    def watch(self, network: nn.Module) -> None:
        """Time the network's parts whenever they compute."""
        for name, part in network.named_children():
            began: list[float] = []
            part.register_forward_pre_hook(lambda *_, began=began: began.append(time.process_time()))
            part.register_forward_hook(lambda *_, began=began, name=name: self._add(name, began.pop()))

    def _add(self, name: str, began: float) -> None:
        self.seconds[f"forward: {name}"] += time.process_time() - began


class Steps:
    """Training steps of a network that hardly changes."""

    def __init__(self, variant: str, dataset: Dataset, given: argparse.Namespace) -> None:
        rules = InputRules(scale=given.scale, longest_side=LONGEST_SIDE, stretch_below=given.stretch_below)
        network = start_from(variant, dataset, backbone=given.backbone, seed=0).network
        recipe = dataclasses.replace(suited(network, {"crop_px": given.crop_px}), learning_rate=1e-9)
        self.network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.batches = map(Batches(dataset, rules, recipe).__getitem__, itertools.count())
        self.optimiser = torch.optim.AdamW(parameter_groups(network, recipe), lr=1e-9, fused=True)
        self.average, self.clip_norm = WeightAverage(network, recipe.ema_decay), recipe.clip_norm
        self.clock = Clock()
        self.clock.watch(network)

    def forward(self) -> torch.Tensor:
        """The loss of a new batch."""
        with self.clock("data"):
            images, targets, _ = next(self.batches)
            pixels = images.tensor.contiguous(memory_format=torch.channels_last)
        with self.clock("forward"), WeightGradients():
            losses = self.network.losses(dataclasses.replace(images, tensor=pixels), targets)
            return torch.stack(list(losses.values())).sum()

    def step(self) -> Parts:
        """One step; seconds of each part."""
        self.clock.seconds.clear()
        with self.clock("whole step"):
            loss = self.forward()
            with self.clock("backward"):
                loss.backward()
            with self.clock("optimiser, average"):
                nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
                self.optimiser.step()
                self.optimiser.zero_grad()
                self.average.update(self.network, 1)
        found = dict(self.clock.seconds)
        found[REST] = found.pop("forward") - sum(found[name] for name in found if name.startswith("forward: "))
        return found

    def backward_by_kind(self) -> Parts:
        """Share of backward's time that each kind of operation takes."""
        loss = self.forward()
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as told:
            loss.backward()
        self.optimiser.zero_grad()
        kinds: dict[str, float] = defaultdict(float)
        for event in told.key_averages(group_by_input_shape=True):
            kinds[_kind(event.key, event.input_shapes)] += event.self_cpu_time_total
        return {f"backward: {kind}": took / sum(kinds.values()) for kind, took in kinds.items()}


def _kind(name: str, shapes: Sequence[Sequence[int]]) -> str:
    operation = name.removeprefix("aten::")
    if operation in ("convolution_backward", "_slow_conv2d_backward"):
        inputs, side = shapes[2][1:3]
        # of a transposed convolution the second number counts outputs; its kernel of 2 x 2 tells it
        channels = shapes[1][1]
        return f"convolutions {side} x {side}" + (", depthwise" if inputs == 1 and channels > 1 else "")
    if "embedding" in operation:
        return "crops of regions"
    if operation in COPIES:
        return "copies"
    return "activations" if operation in ACTIVATIONS else "all else"


def parts_of(steps: Steps, count: int) -> Parts:
    """Median seconds of each part; one more step goes before, unmeasured."""
    taken = [steps.step() for _ in range(count + 1)][1:]
    return {part: statistics.median(one.get(part, 0.0) for one in taken) for part in taken[0]}


def main() -> None:
    """Print a table for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--train", type=Path, required=True, help="COCO file")
    parser.add_argument("--backbone", type=Path, required=True, help="safetensors file of timm's tf_efficientnet_lite0")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--crop-px", type=int, default=512, help="side of a crop, network pixels")
    parser.add_argument("--scale", type=float, default=3.0, help="network pixels for each image pixel")
    parser.add_argument("--stretch-below", type=float, default=0.3, help="brighten images darker than this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = halfpixel.read_coco(given.train)
    for variant in given.variants:
        steps = Steps(variant, dataset, given)
        parts, shares = parts_of(steps, given.steps), steps.backward_by_kind()
        print(f"\n| {variant} | seconds | share |\n| --- | --- | --- |")
        whole = parts["whole step"]
        of_backward = {name: share * parts["backward"] for name, share in shares.items()}
        for part, seconds in {**parts, **of_backward}.items():
            print(f"| {part} | {seconds:.3f} | {100 * seconds / whole:.1f}% |")


if __name__ == "__main__":
    main()
