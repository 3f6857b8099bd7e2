"""Every model side by side: one small backbone, the same data, the same time to train, the same evaluation.

Each variant starts from the same ImageNet weights of EfficientNet-Lite0, trains for the same time by its own recipe
(halfpixel's usual one, where it states none) on the same crops, and is measured on the same images. What a score means
is each network's own affair: the threshold of accuracy and counts is the one with the best F1 on some training images.
Seconds are measured beside those of the embedded model on the same images, since rows may come from several machines.

First it is found out how many steps the time allows for each in 32 bits: nothing else should run meanwhile, and it
should be done for all of them on one machine. Then they take these steps, so that the learning rate comes down in all
of them, and neither another machine nor its other work decides who sees more images. With `--precision bf16-mixed` they
take them faster where the processor can.

Plans and rows are kept in a JSON file and written as they come: what is there is not done again, and a run that was
interrupted goes on. The table is printed from the file.

    python benchmarks/models.py --train train.json --val val.json --backbone lite0.safetensors --rows models.json \
        mask_rcnn_lite rtmdet_lite unet_lite [--only-plan]
    python benchmarks/models.py --rows models.json [--draw photograph.png side-by-side.png]
"""

import argparse
import dataclasses
import io
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from training import LONGEST_SIDE, PRECISIONS, machine, seconds_per_step

import halfpixel
from halfpixel.data.dataset import Dataset
from halfpixel.engine.export.exporter import export
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import HalfpixelError
from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.coco.average_precision import match_coco
from halfpixel.evaluation.evaluation import AP_SCORE
from halfpixel.evaluation.thresholds.goals import Goal, thresholds_between
from halfpixel.evaluation.thresholds.threshold_sweep import sweep
from halfpixel.files import write_whole
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.train.augment.crops import Batches
from halfpixel.train.loop import train_network
from halfpixel.train.optimiser import parameter_groups
from halfpixel.train.recipe import Recipe
from halfpixel.train.start import Start, start_from, suited
from halfpixel.train.weight_gradients import WeightGradients
from halfpixel.viz.contact_sheet import PALE, Tile, draw_contact_sheet
from halfpixel.viz.overlay import draw_overlay
from halfpixel.zoo.modelfile import MODEL_MODULES

Row = dict[str, Any]

LIMIT = 1000
THRESHOLDS, THRESHOLD_IMAGES = thresholds_between(0.1, 0.9, 0.05), 40
SMALL_PX = 150.0
"""Objects of fewer pixels are small here: a quarter of the nuclei, and what coarse masks lose."""
PLANNING_STEPS = 8
SPARE = 0.97
"""Of the time is planned with: checkpoints take some."""
TIMED_IMAGES, TIMED_PASSES = 10, 3
CALIBRATION_IMAGES = 32


def source_of(variant: str) -> Path:
    """The file of `halfpixel.models` that a variant is in."""
    module = next(one for one in MODEL_MODULES if variant in one.VARIANTS)
    assert module.__file__ is not None
    return Path(module.__file__)


@dataclasses.dataclass(frozen=True)
class Bench:
    """The data, and how everything is trained on it."""

    train: Dataset
    val: Dataset
    backbone: Path
    rules: InputRules
    runs: Path
    recipe: Row
    """What all recipes have in common."""
    int8: bool

    def start(self, variant: str, seed: int) -> Start:
        """A network that has seen ImageNet alone."""
        start = start_from(variant, self.train, backbone=self.backbone, seed=seed)
        return dataclasses.replace(start, info=dataclasses.replace(start.info, input=self.rules))

    def plan(self, variant: str, minutes: float) -> Row:
        """As many steps as the time allows."""
        network = self.start(variant, seed=0).network
        recipe = suited(network, self.recipe)
        stream = map(Batches(self.train, self.rules, recipe).__getitem__, itertools.count())
        network.train()
        optimiser = torch.optim.AdamW(parameter_groups(network, dataclasses.replace(recipe, learning_rate=1e-9)))

        def step() -> None:
            images, targets, _ = next(stream)
            pixels = images.tensor.contiguous(memory_format=torch.channels_last)
            with WeightGradients():
                losses = network.losses(dataclasses.replace(images, tensor=pixels), targets)
            torch.stack(list(losses.values())).sum().backward()
            optimiser.step()
            optimiser.zero_grad()

        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        seconds = seconds_per_step(step, PLANNING_STEPS, torch.device("cpu"))
        steps = max(round(SPARE * 60 * minutes / seconds), 1)
        return {
            "minutes": minutes,
            "steps": steps,
            "seconds_per_step": seconds,
            "machine": machine(torch.device("cpu")),
        }

    def trained(self, variant: str, seed: int, steps: int) -> tuple[Predictor, Recipe]:
        """The model after its steps."""
        start, out = self.start(variant, seed), self.folder(variant, seed)
        recipe = suited(start.network, {**self.recipe, "seed": seed, "steps": steps})
        train_network(start, self.train, recipe, out, resume=True)
        return halfpixel.load(out / "model.safetensors"), recipe

    def folder(self, variant: str, seed: int) -> Path:
        """Of a run."""
        return self.runs / f"{variant}-{seed}"


def seconds_per_image(predictor: Predictor, paths: Sequence[Path]) -> float:
    """Median over the images of the best of some passes, from pixels to objects, one image at a time."""
    predictor.predict(paths[0])
    best = []
    for path in paths:
        pixels = halfpixel.read_image(path)
        passes = []
        for _ in range(TIMED_PASSES):
            start = time.perf_counter()
            predictor.predict(pixels)
            passes.append(time.perf_counter() - start)
        best.append(min(passes))
    return statistics.median(best)


def int8_of(predictor: Predictor, paths: Sequence[Path], path: Path) -> Predictor | None:
    """The same in int8 through OpenVINO, calibrated on images of the training set; None where that does not work."""
    try:
        export(predictor, path, "openvino", int8_images=paths[:CALIBRATION_IMAGES], least_agreement=0.0)
    except HalfpixelError as error:
        print(f"  no int8: {error}")
        return None
    return halfpixel.load(path)


def best_threshold(predictor: Predictor, dataset: Dataset) -> float:
    """The score threshold with the best F1 at IoU .5."""
    found = predictor.predict([sample.path for sample in dataset.samples], threshold=THRESHOLDS[0], limit=LIMIT)
    best = sweep(dataset, found, THRESHOLDS).recommend(Goal("f1"))
    assert best is not None
    return best.threshold


def some(dataset: Dataset, count: int) -> Dataset:
    """So many of the images at most, evenly spread."""
    chosen = dataset.samples[:: max(len(dataset.samples) // count, 1)][:count]
    return dataclasses.replace(dataset, samples=chosen)


def measured(dataset: Dataset, found: Sequence[Instances], threshold: float) -> Row:
    """What the evaluation says, by the names of the columns."""
    result = halfpixel.evaluate(dataset, found, threshold=threshold, max_detections=LIMIT, ious=(0.5, 0.85))
    matches = match_coco(dataset, found, kind="mask", max_detections=LIMIT, ranges_px=((0.0, SMALL_PX),))
    half, strict = result.overall.detection
    wrong = {one.count.name: one.count.events for one in result.overall.error_types}
    return {
        "threshold": threshold,
        "mask_ap": result.ap.ap,
        "mask_ap_interval": _ends(result.overall.mask_ap_interval),
        "mask_ap_small": matches.part(LIMIT, area_range=4)[0],
        "accuracy_50": half.counts.accuracy,
        "accuracy_85": strict.counts.accuracy,
        "count_mae": result.overall.count.mae,
        "merges": wrong.get("merge"),
        "splits": wrong.get("split"),
        "saturated_images": result.n_saturated,
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def row_of(bench: Bench, variant: str, seed: int, steps: int) -> Row:
    """One line of the table."""
    predictor, recipe = bench.trained(variant, seed, steps)
    paths = [sample.path for sample in bench.val.samples]
    found = predictor.predict(paths, threshold=AP_SCORE, limit=LIMIT)
    threshold = best_threshold(predictor, some(bench.train, THRESHOLD_IMAGES))
    timed = [sample.path for sample in some(bench.val, TIMED_IMAGES).samples]
    int8 = None
    if bench.int8:
        of_training = [sample.path for sample in bench.train.samples]
        int8 = int8_of(predictor, of_training, bench.folder(variant, seed) / "int8.xml")
    return {
        "variant": variant,
        "seed": seed,
        "steps": steps,
        "crops": steps * recipe.images_per_step,
        "learning_rate": recipe.learning_rate,
        "trained_in": recipe.precision,
        **measured(bench.val, found, threshold),
        "precision": predictor.backend.precision,
        "seconds_per_image": seconds_per_image(predictor, timed),
        "seconds_per_image_int8": None if int8 is None else seconds_per_image(int8, timed),
        "seconds_per_image_of_nuclei": seconds_per_image(halfpixel.load("nuclei").without_size_finder(), timed),
        "megabytes": sum(p.numel() for p in predictor.model.parameters()) * 2 / 1e6,
        "lines": len(source_of(variant).read_text().splitlines()),
        "machine": machine(torch.device("cpu")),
        "train": bench.train.path.name,
        "val": bench.val.path.name,
    }


COLUMNS = (
    ("model", "variant", "{}"),
    ("seed", "seed", "{}"),
    ("mask AP", "mask_ap", "{:.3f}"),
    (f"AP < {SMALL_PX:.0f} px", "mask_ap_small", "{:.3f}"),
    ("score", "threshold", "{:.2f}"),
    ("accuracy .50", "accuracy_50", "{:.3f}"),
    (".85", "accuracy_85", "{:.3f}"),
    ("count MAE", "count_mae", "{:.2f}"),
    ("merges", "merges", "{}"),
    ("splits", "splits", "{}"),
    ("s/image", "seconds_per_image", "{:.3f}"),
    ("/ nuclei", "time", "{:.2f}"),
    ("in int8", "time_int8", "{:.2f}"),
    ("MB", "megabytes", "{:.1f}"),
    ("lines", "lines", "{}"),
)


def relative(row: Mapping[str, Any], seconds: str) -> float | None:
    """By how much it takes longer than the embedded model took at that time."""
    return None if row[seconds] is None else row[seconds] / row["seconds_per_image_of_nuclei"]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in markdown, the best AP first."""
    rows = [
        {**row, "time": relative(row, "seconds_per_image"), "time_int8": relative(row, "seconds_per_image_int8")}
        for row in rows
    ]
    lines = [f"| {' | '.join(title for title, _, _ in COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    for row in sorted(rows, key=lambda one: -(one["mask_ap"] or 0)):
        cells = ["-" if row[name] is None else how.format(row[name]) for _, name, how in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Sequence[Row], runs: Path, image: Path, out: Path) -> None:
    """What each model that was trained here finds on an image, the best AP first, on one sheet."""
    pixels, tiles = halfpixel.read_image(image), []
    for row in sorted(rows, key=lambda one: -(one["mask_ap"] or 0)):
        path = runs / f"{row['variant']}-{row['seed']}" / "model.safetensors"
        if path.is_file():
            found = halfpixel.load(path).predict(pixels, threshold=row["threshold"], limit=LIMIT)
            lines = [(f"{len(found)} objects that score at least {row['threshold']:.2f}", PALE)]
            tiles.append(Tile(row["variant"], lines, draw_overlay(pixels, found, labels=False)))
    sheet = io.BytesIO()
    Image.fromarray(draw_contact_sheet(tiles, image.name)).save(sheet, "PNG")
    write_whole(out, sheet.getvalue())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help="to train and measure; none prints what is there")
    parser.add_argument("--rows", type=Path, required=True, help="JSON file of plans and of what was measured")
    parser.add_argument("--train", type=Path, help="COCO file to train on")
    parser.add_argument("--val", type=Path, help="COCO file to measure on")
    parser.add_argument("--backbone", type=Path, help="safetensors file of timm's tf_efficientnet_lite0")
    parser.add_argument("--runs", type=Path, default=Path("runs/models"), help="folder for the runs")
    parser.add_argument("--minutes", type=float, default=40.0, help="training time of each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--crop-px", type=int, default=512, help="side of a crop, network pixels")
    parser.add_argument("--scale", type=float, default=3.0, help="network pixels for each image pixel")
    parser.add_argument("--stretch-below", type=float, default=0.3, help="brighten images darker than this")
    parser.add_argument("--balance", help="attribute of the images whose rare values are drawn more often")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="of the training")
    parser.add_argument("--only-plan", action="store_true", help="find out how many steps each takes, and end")
    parser.add_argument("--int8", action="store_true", help="also quantise and time that")
    parser.add_argument("--draw", type=Path, nargs=2, metavar=("IMAGE", "PNG"), help="what the runs find, side by side")
    given = parser.parse_args()
    known = [name for module in MODEL_MODULES for name in module.VARIANTS]
    if unknown := [name for name in given.variants if name not in known]:
        parser.error(f"no such model: {', '.join(unknown)}; known are {', '.join(known)}")
    if given.variants and None in (given.train, given.val, given.backbone):
        parser.error("training needs --train, --val and --backbone")
    return given


def bench_of(given: argparse.Namespace) -> Bench:
    """What the command line asks for."""
    train, val = halfpixel.read_coco(given.train), halfpixel.read_coco(given.val)
    rules = InputRules(scale=given.scale, longest_side=LONGEST_SIDE, stretch_below=given.stretch_below)
    recipe = {"crop_px": given.crop_px, "balance": given.balance, "precision": given.precision}
    return Bench(train, val, given.backbone, rules, given.runs, recipe, given.int8)


def main() -> None:
    """Plan, train and measure what is not there yet, and print the table."""
    given = arguments()
    kept: Row = json.loads(given.rows.read_text()) if given.rows.is_file() else {"plans": {}, "rows": []}
    plans, rows = kept["plans"], kept["rows"]
    if given.variants:
        bench = bench_of(given)
        for variant in (one for one in given.variants if one not in plans):
            plans[variant] = bench.plan(variant, given.minutes)
            write_whole(given.rows, (json.dumps(kept, indent=1) + "\n").encode())
            print(f"{variant}: {plans[variant]['steps']} steps", flush=True)
        done = {(row["variant"], row["seed"]) for row in rows}
        for seed, variant in itertools.product(given.seeds, () if given.only_plan else given.variants):
            if (variant, seed) not in done:
                rows.append(row_of(bench, variant, seed, plans[variant]["steps"]))
                write_whole(given.rows, (json.dumps(kept, indent=1) + "\n").encode())
                print(table(rows[-1:]), flush=True)
    print(table(rows))
    if given.draw:
        draw(rows, given.runs, *given.draw)


if __name__ == "__main__":
    main()
