"""Training against what a user would pick instead: torchvision's tutorial on fine-tuning Mask R-CNN.

`speed`: the paper's network on ResNet-50 in both, from one set of random weights, with the same layers frozen, on the
same square tiles of the training images, each enlarged to the same side. A step is everything from the file to the new
weights: for halfpixel with its augmentation, AdamW and clipping, for torchvision with the tutorial's flips and SGD. The
learning rate is 0, so that both keep proposing from the same weights all the time. Short runs of all are interleaved.

`accuracy`: AP after equal time. Both start from the same ImageNet weights of EfficientNet-Lite0 and see crops of the
same size, enlarged and brightened in the same way. halfpixel is `mask_rcnn_lite` and its standard recipe, with as many
steps as the time allows, once for all of it and once for half. torchvision is its `MaskRCNN` with its own heads, or
with heads as light as ours, on crops (one whole image's N x H x W masks may take 10 GB), with anchors and limits that
suit many small objects. It gets the time that halfpixel took.

    python benchmarks/training.py speed --train train.json
    python benchmarks/training.py accuracy --train train.json --val val.json --backbone lite0.safetensors --minutes 60
"""

import argparse
import dataclasses
import itertools
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
import torchvision_tutorial as tutorial
from PIL import Image
from torch import nn

import halfpixel
from halfpixel.data.dataset import Dataset, Sample, annotated_sample
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.bootstrap import Interval
from halfpixel.files import write_whole
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.train.augment.crops import Batches
from halfpixel.train.recipe import Recipe
from halfpixel.train.weight_gradients import WeightGradients
from halfpixel.zoo.convert.torchvision import convert, rename
from halfpixel.zoo.modelfile import ModelInfo, build, load_backbone, settings_of

Step = Callable[[], None]
Row = dict[str, Any]

PRECISIONS = ("32-true", "bf16-mixed")
SCORE = 0.5
"""The threshold of accuracy and counts; AP takes everything from `tutorial.LOWEST_SCORE` up."""
PLANNING_STEPS = 8
LONGEST_SIDE = 4200
PEERS = ("default", "light")


def seconds_per_step(step: Step, steps: int, device: torch.device) -> float:
    """Mean time of a training step; one more goes before, unmeasured."""
    step()
    _wait_for(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    _wait_for(device)
    return (time.perf_counter() - start) / steps


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


def tiles(dataset: Dataset, side_px: int, count: int, folder: Path, seed: int) -> Dataset:
    """Square windows with objects in them, at random places of random images, written as images of their own."""
    large = [sample for sample in dataset.samples if min(sample.size_hw) >= side_px and len(sample.objects)]
    if not large:
        raise SystemExit(f"{dataset.path}: no image with objects is {side_px} pixels high and wide")
    generator, found = torch.Generator().manual_seed(seed), list[Sample]()
    while len(found) < count:
        sample = large[int(torch.randint(len(large), (1,), generator=generator))]
        image, masks, labels = tutorial.random_window(sample, side_px, 0.0, generator)
        if len(masks):
            path = folder / f"{len(found)}.png"
            Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(path)
            found.append(annotated_sample(len(found), path, masks, labels.tolist(), dataset.class_names))
    return Dataset(folder, dataset.class_names, dataset.category_ids, tuple(found))


def our_step(model: nn.Module, optimiser: Any, stream: Iterator[Any], precision: str, device: torch.device) -> None:
    """One step as `halfpixel.fit` makes it."""
    images, targets, _ = next(stream)
    pixels = images.tensor.to(device).contiguous(memory_format=torch.channels_last)
    with WeightGradients(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
        losses = model.losses(dataclasses.replace(images, tensor=pixels), targets)  # type: ignore[operator]
    torch.stack(list(losses.values())).sum().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    optimiser.zero_grad()


def our_trainer(model: nn.Module, learning_rate: float) -> torch.optim.Optimizer:
    """AdamW on whatever is not frozen."""
    trained = [p for p in model.train().parameters() if p.requires_grad]
    return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.05, fused=True)


def lite(dataset: Dataset, rules: InputRules, backbone: Path, seed: int) -> tuple[Any, ModelInfo]:
    """The network for small objects, its backbone trained on ImageNet."""
    torch.manual_seed(seed)
    model = build("mask_rcnn_lite", dataset.class_names)
    load_backbone(model, backbone)
    return model, ModelInfo("mask_rcnn_lite", dataset.class_names, rules, settings_of(model))


def speed(dataset: Dataset, given: argparse.Namespace, device: torch.device) -> list[Row]:
    """Images a second of all four, short runs interleaved, and how much faster each was than torchvision in float32."""
    tile_px, batch = round(given.crop_px / given.scale), given.images_per_step
    rules = InputRules(scale=given.crop_px / tile_px, longest_side=given.crop_px, stretch_below=given.stretch_below)
    recipe = Recipe(images_per_step=batch, crop_px=given.crop_px, zoom=(1.0, 1.0), seed=given.seed)
    ours, theirs = same_networks(dataset.class_names, given.crop_px, given.seed, device)
    our_optimiser, their_optimiser = our_trainer(ours, 0.0), tutorial.trainer(theirs, 0.0)

    with tempfile.TemporaryDirectory() as folder:
        data = tiles(dataset, tile_px, batch * given.steps, Path(folder), given.seed)
        their_data = tutorial.TutorialData(data.samples, rules, tile_px)

        def rate(name: str, precision: str, workers: int) -> float:
            if name == "halfpixel":
                stream = map(Batches(data, rules, recipe).__getitem__, itertools.count())
                step = lambda: our_step(ours, our_optimiser, stream, precision, device)  # noqa: E731
            else:
                stream = tutorial.endless(tutorial.loader(their_data, batch, workers))
                step = lambda: tutorial.step(theirs, their_optimiser, stream, precision, device)  # noqa: E731
            return float(batch / seconds_per_step(step, given.steps, device))

        torch.manual_seed(given.seed)
        choices = sorted(set(given.workers))
        workers = choices[0] if len(choices) == 1 else max(choices, key=lambda n: rate("torchvision", "32-true", n))
        configs = [(name, precision) for name in ("torchvision", "halfpixel") for precision in PRECISIONS]
        rates: dict[tuple[str, str], list[float]] = {one: [] for one in configs}
        for repetition in range(given.repetitions):
            for one in configs[:: -1 if repetition % 2 else 1]:  # whoever went last goes first the next time
                rates[one].append(rate(*one, workers))

    base = rates["torchvision", "32-true"]
    return [
        {
            "network": name,
            "precision": precision,
            "workers": workers if name == "torchvision" else 0,
            "images_per_second": values,
            "ratio": [a / b for a, b in zip(values, base, strict=True)],
        }
        for (name, precision), values in rates.items()
    ]


def same_networks(
    class_names: tuple[str, ...], side_px: int, seed: int, device: torch.device
) -> tuple[nn.Module, nn.Module]:
    """Both networks, ours first, with the same weights and the same of them frozen."""
    theirs = tutorial.resnet50(len(class_names), side_px, seed)
    ours, _ = convert(theirs, class_names)
    trained = {rename(name) for name, parameter in theirs.named_parameters() if parameter.requires_grad}
    for name, parameter in ours.named_parameters():
        parameter.requires_grad = name in trained
    return ours.to(device).to(memory_format=torch.channels_last), theirs.to(device)  # type: ignore[call-overload]


def accuracy(train: Dataset, val: Dataset, given: argparse.Namespace, device: torch.device) -> Iterator[Row]:
    """AP after equal time: halfpixel with all and half of it, torchvision with as much as halfpixel's first took."""
    rules = InputRules(scale=given.scale, longest_side=LONGEST_SIDE, stretch_below=given.stretch_below)
    recipe = Recipe(
        images_per_step=given.images_per_step, crop_px=given.crop_px, seed=given.seed, precision=given.precision
    )
    model, _ = lite(train, rules, given.backbone, given.seed)
    model, stream = model.to(device), map(Batches(train, rules, recipe).__getitem__, itertools.count())
    optimiser = our_trainer(model, 1e-4)
    planned = seconds_per_step(
        lambda: our_step(model, optimiser, stream, given.precision, device), PLANNING_STEPS, device
    )
    budget = 60.0 * given.minutes
    seconds = []
    for share in (1.0, 0.5):
        steps = max(round(share * budget / planned), 1)
        model, info = lite(train, rules, given.backbone, given.seed)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            fresh = Predictor(model, info, device)
            predictor = halfpixel.fit(fresh, train, dataclasses.replace(recipe, steps=steps), Path(folder) / "run")
            seconds.append(time.perf_counter() - start)
        found = predictor.predict(
            [sample.path for sample in val.samples], threshold=tutorial.LOWEST_SCORE, limit=tutorial.DETECTIONS
        )
        yield measured(f"halfpixel, {given.precision}", seconds[-1], steps * given.images_per_step, val, found)

    window_px = round(given.crop_px / given.scale)
    data = tutorial.TutorialData(train.samples, rules, window_px)
    for peer in given.peers:
        heads = "its own heads" if peer == "default" else "light heads"
        theirs = tutorial.lite(len(train.class_names), given.backbone, given.crop_px, peer == "light", given.seed)
        start = time.perf_counter()
        steps = tutorial.train(theirs.to(device), data, given.images_per_step, given.workers[0], seconds[0])
        passed = time.perf_counter() - start
        theirs.eval()
        found = [tutorial.predict(theirs, sample, rules, val.class_names) for sample in val.samples]
        yield measured(f"torchvision, {heads}, 32-true", passed, steps * given.images_per_step, val, found)


def measured(name: str, seconds: float, images: int, val: Dataset, found: Sequence[Instances]) -> Row:
    """One line of the table."""
    result = halfpixel.evaluate(val, found, threshold=SCORE, max_detections=tutorial.DETECTIONS, ious=(0.5, 0.75))
    half, three_quarters = result.overall.detection
    return {
        "network": name,
        "seconds": seconds,
        "images_seen": images,
        "mask_ap": result.mask_ap.ap,
        "box_ap": result.box_ap.ap,
        "accuracy_50": half.counts.accuracy,
        "accuracy_50_interval": _ends(half.interval),
        "accuracy_75": three_quarters.counts.accuracy,
        "count_mae": result.overall.count.mae,
        "count_mae_interval": _ends(result.overall.count_mae_interval),
        "saturated_images": result.n_saturated,
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


# What is printed


def machine(device: torch.device) -> dict[str, str]:
    """What all this ran on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "accelerator": "none" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "halfpixel": halfpixel.__version__,
    }


def speed_line(row: Row) -> str:
    """A row of `speed` in markdown."""

    def cell(values: Sequence[float]) -> str:
        return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"

    cells = [row["network"], row["precision"], str(row["workers"]), cell(row["images_per_second"]), cell(row["ratio"])]
    return f"| {' | '.join(cells)} |"


def accuracy_line(row: Row) -> str:
    """A row of `accuracy` in markdown."""

    def number(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    def with_interval(name: str, digits: int) -> str:
        ends = row[f"{name}_interval"]
        return number(row[name], digits) + (f" ({' to '.join(number(end, digits) for end in ends)})" if ends else "")

    cells = [row["network"], f"{row['seconds'] / 60:.1f}", str(row["images_seen"]), number(row["mask_ap"])]
    cells += [number(row["box_ap"]), with_interval("accuracy_50", 3), number(row["accuracy_75"])]
    return f"| {' | '.join([*cells, with_interval('count_mae', 1)])} |"


SPEED_HEAD = """| | precision | loading workers | images/s (min to max) | times torchvision in float32 (min to max) |
| --- | --- | --- | --- | --- |"""
ACCURACY_HEAD = """| | minutes | crops seen | mask AP | box AP | TP / (TP + FP + FN) at IoU .50 | at .75 | count MAE |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["speed", "accuracy"])
    parser.add_argument("--train", type=Path, required=True, help="COCO file to train on")
    parser.add_argument("--val", type=Path, help="accuracy: COCO file to measure on")
    parser.add_argument("--backbone", type=Path, help="accuracy: safetensors file of timm's tf_efficientnet_lite0")
    parser.add_argument("--minutes", type=float, default=60.0, help="accuracy: training time of each")
    parser.add_argument("--val-images", type=int, default=40, help="accuracy: random images of --val, always the same")
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16-mixed", help="accuracy: of halfpixel")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=PEERS, help="accuracy: torchvision's heads")
    parser.add_argument("--repetitions", type=int, default=7, help="speed: of each short run")
    parser.add_argument("--steps", type=int, default=3, help="speed: in a short run, after one that is not timed")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="torchvision's; speed takes the fastest")
    parser.add_argument("--crop-px", type=int, default=512, help="side of a crop, network pixels")
    parser.add_argument("--scale", type=float, default=3.0, help="network pixels for each image pixel")
    parser.add_argument("--stretch-below", type=float, default=0.3, help="brighten images darker than this")
    parser.add_argument("--images-per-step", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all numbers to this file as well")
    given = parser.parse_args()
    if "accuracy" in given.parts and (given.val is None or given.backbone is None):
        parser.error("accuracy needs --val and --backbone")
    return given


def main() -> None:
    """Measure and print."""
    given = arguments()
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    train = halfpixel.read_coco(given.train)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}
    report: dict[str, Any] = {"machine": machine(device), "settings": settings}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))

    def add(part: str, row: Row, line: str) -> None:
        report.setdefault(part, []).append(row)
        print(line, flush=True)
        if given.json is not None:
            write_whole(given.json, (json.dumps(report, indent=2) + "\n").encode())

    if "speed" in given.parts:
        print(f"\n{SPEED_HEAD}", flush=True)
        for row in speed(train, given, device):
            add("speed", row, speed_line(row))
    if "accuracy" in given.parts:
        val = halfpixel.read_coco(given.val)
        order = torch.randperm(len(val.samples), generator=torch.Generator().manual_seed(0)).tolist()
        val = dataclasses.replace(val, samples=tuple(val.samples[k] for k in sorted(order[: given.val_images])))
        print(f"\n{len(val.samples)} images to measure on\n\n{ACCURACY_HEAD}", flush=True)
        for row in accuracy(train, val, given, device):
            add("accuracy", row, accuracy_line(row))


if __name__ == "__main__":
    main()
