"""Every model side by side: one small backbone, the same data, the same time to train, the same evaluation.

Each variant starts from the same ImageNet weights of EfficientNet-Lite0, trains for the same time by its own recipe
(halfpixel's usual one, where it states none) on the same crops, and is measured on the same images. As many steps are
planned as the time allows, so that the learning rate comes down in all of them. Nothing else should run meanwhile.

Rows are kept in a JSON file and written as they come: what is there is not done again, and a run that was interrupted
goes on. The table is printed from the file.

    python benchmarks/models.py --train train.json --val val.json --backbone lite0.safetensors --rows models.json \
        mask_rcnn_lite rtmdet_lite unet_lite
    python benchmarks/models.py --rows models.json
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from training import LONGEST_SIDE, machine, seconds_per_step

import halfpixel
from halfpixel.data.dataset import Dataset
from halfpixel.engine.export.exporter import export
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.coco.average_precision import match_coco
from halfpixel.evaluation.evaluation import AP_SCORE
from halfpixel.files import write_whole
from halfpixel.nn.network import Network
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.train.augment.crops import Batches
from halfpixel.train.loop import train_network
from halfpixel.train.optimiser import parameter_groups
from halfpixel.train.recipe import Recipe
from halfpixel.train.start import start_from, suited
from halfpixel.zoo.modelfile import MODEL_MODULES

Row = dict[str, Any]

LIMIT = 1000
SCORE = 0.5
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


def plan(network: Network, dataset: Dataset, rules: InputRules, recipe: Recipe, minutes: float) -> Recipe:
    """The recipe with as many steps as the time allows."""
    stream = map(Batches(dataset, rules, recipe).__getitem__, itertools.count())
    network.train()
    optimiser = torch.optim.AdamW(parameter_groups(network, dataclasses.replace(recipe, learning_rate=1e-9)))

    def step() -> None:
        images, targets, _ = next(stream)
        torch.stack(list(network.losses(images, targets).values())).sum().backward()
        optimiser.step()
        optimiser.zero_grad()

    seconds = seconds_per_step(step, PLANNING_STEPS, torch.device("cpu"))
    return dataclasses.replace(recipe, steps=max(round(SPARE * 60 * minutes / seconds), 1))


def trained(variant: str, seed: int, dataset: Dataset, given: argparse.Namespace) -> tuple[Predictor, float]:
    """The model after its time, and how many seconds it took, of all sessions together."""
    out = given.runs / f"{variant}-{seed}"
    rules = InputRules(scale=given.scale, longest_side=LONGEST_SIDE, stretch_below=given.stretch_below)
    start = start_from(variant, dataset, backbone=given.backbone, seed=seed)
    start = dataclasses.replace(start, info=dataclasses.replace(start.info, input=rules))
    planned = out / "recipe.json"
    begun = time.perf_counter()
    if planned.is_file():
        recipe = Recipe(**{k: tuple(v) if k == "zoom" else v for k, v in json.loads(planned.read_text()).items()})
    else:
        given_too = {"seed": seed, "crop_px": given.crop_px, "balance": given.balance}
        recipe = plan(start.network, dataset, rules, suited(start.network, given_too), given.minutes)
        start = start_from(variant, dataset, backbone=given.backbone, seed=seed)
        start = dataclasses.replace(start, info=dataclasses.replace(start.info, input=rules))
        begun = time.perf_counter()
    train_network(start, dataset, recipe, out, resume=True)
    return halfpixel.load(out / "model.safetensors"), time.perf_counter() - begun


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
    except halfpixel.HalfpixelError as error:
        print(f"  no int8: {error}")
        return None
    return halfpixel.load(path)


def measured(dataset: Dataset, found: Sequence[Instances]) -> Row:
    """What the evaluation says, by the names of the columns."""
    result = halfpixel.evaluate(dataset, found, threshold=SCORE, max_detections=LIMIT, ious=(0.5, 0.85))
    matches = match_coco(dataset, found, kind="mask", max_detections=LIMIT, ranges_px=((0.0, SMALL_PX),))
    half, strict = result.overall.detection
    wrong = {one.count.name: one.count.events for one in result.overall.error_types}
    return {
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


def row_of(variant: str, seed: int, train: Dataset, val: Dataset, given: argparse.Namespace) -> Row:
    """One line of the table."""
    predictor, seconds = trained(variant, seed, train, given)
    paths = [sample.path for sample in val.samples]
    found = predictor.predict(paths, threshold=AP_SCORE, limit=LIMIT)
    timed = paths[:: max(len(paths) // TIMED_IMAGES, 1)][:TIMED_IMAGES]
    folder = given.runs / f"{variant}-{seed}"
    recipe = json.loads((folder / "recipe.json").read_text())
    int8 = int8_of(predictor, [sample.path for sample in train.samples], folder / "int8.xml") if given.int8 else None
    return {
        "variant": variant,
        "seed": seed,
        "minutes": given.minutes,
        "seconds": seconds,
        "steps": recipe["steps"],
        "crops": recipe["steps"] * recipe["images_per_step"],
        **measured(val, found),
        "precision": predictor.backend.precision,
        "seconds_per_image": seconds_per_image(predictor, timed),
        "seconds_per_image_int8": None if int8 is None else seconds_per_image(int8, timed),
        "megabytes": sum(p.numel() for p in predictor.model.parameters()) * 2 / 1e6,
        "lines": len(source_of(variant).read_text().splitlines()),
        "machine": machine(torch.device("cpu")),
        "train": train.path.name,
        "val": val.path.name,
    }


COLUMNS = (
    ("model", "variant", "{}"),
    ("seed", "seed", "{}"),
    ("mask AP", "mask_ap", "{:.3f}"),
    (f"AP < {SMALL_PX:.0f} px", "mask_ap_small", "{:.3f}"),
    ("accuracy .50", "accuracy_50", "{:.3f}"),
    (".85", "accuracy_85", "{:.3f}"),
    ("count MAE", "count_mae", "{:.2f}"),
    ("merges", "merges", "{}"),
    ("splits", "splits", "{}"),
    ("s/image", "seconds_per_image", "{:.3f}"),
    ("int8", "seconds_per_image_int8", "{:.3f}"),
    ("MB", "megabytes", "{:.1f}"),
    ("lines", "lines", "{}"),
)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in markdown, the best AP first."""
    lines = [f"| {' | '.join(title for title, _, _ in COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    for row in sorted(rows, key=lambda one: -(one["mask_ap"] or 0)):
        cells = ["-" if row[name] is None else how.format(row[name]) for _, name, how in COLUMNS]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help="to train and measure; none prints what is there")
    parser.add_argument("--rows", type=Path, required=True, help="JSON file of what was measured")
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
    parser.add_argument("--int8", action="store_true", help="also quantise and time that")
    given = parser.parse_args()
    known = [name for module in MODEL_MODULES for name in module.VARIANTS]
    if unknown := [name for name in given.variants if name not in known]:
        parser.error(f"no such model: {', '.join(unknown)}; known are {', '.join(known)}")
    if given.variants and None in (given.train, given.val, given.backbone):
        parser.error("training needs --train, --val and --backbone")
    return given


def main() -> None:
    """Train and measure what is not there yet, and print the table."""
    given = arguments()
    rows: list[Row] = json.loads(given.rows.read_text()) if given.rows.is_file() else []
    if given.variants:
        train, val = halfpixel.read_coco(given.train), halfpixel.read_coco(given.val)
        done = {(row["variant"], row["seed"]) for row in rows}
        for seed, variant in itertools.product(given.seeds, given.variants):
            if (variant, seed) not in done:
                rows.append(row_of(variant, seed, train, val, given))
                write_whole(given.rows, (json.dumps(rows, indent=1) + "\n").encode())
                print(table(rows[-1:]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
