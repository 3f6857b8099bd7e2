"""What a first pass saves and what it loses: on generated fields that are nearly empty, and on annotated images.

Fields: `data/synthetic.py` draws cells into a few patches at random places, which together are at most `--tissue` of
the field and about half full. The network finds objects on all of each field, and where the first pass lets it look;
the two are the first alternately. An object is lost when it was found without the first pass, and with it nothing
was that overlaps it with a mask IoU of .5 or more (paired one to one). Recall is of the drawn cells, in the same way.

Annotated images (`--data`): mask AP, count error and time with and without, to show that it does no harm where
objects are everywhere.

    python benchmarks/first_pass.py --first-pass nuclei-unet --json numbers.json
    python benchmarks/first_pass.py --first-pass nuclei-unet --fields 0 --data val.json --images images
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from training import machine

import halfpixel
from halfpixel.data.dataset import Dataset
from halfpixel.data.images.rgb8 import read_image
from halfpixel.data.synthetic import Cells, touching_cells
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.bootstrap import bootstrap_ratios
from halfpixel.evaluation.detection.object_matching import match_image
from halfpixel.evaluation.evaluation import AP_SCORE
from halfpixel.evaluation.prefilter_savings import evaluate_prefilter, lost_objects
from halfpixel.files import write_whole
from halfpixel.structures.instances import Instances

Box = tuple[int, int, int, int]
Found = dict[str, tuple[Instances, float]]
"""Objects and seconds, `WITHOUT` and `WITH` the first pass."""
Row = dict[str, Any]

WITHOUT, WITH = "without", "with"
RADIUS_PX = (10.0, 15.0)
"""Half of 5% of 4,000 x 4,000 pixels then takes 800 cells, which the usual limit of 1,000 leaves room for."""
FILLED = 0.5
IOU = 0.5

LEAST_SAVED, MOST_LOST = 0.6, 0.002
"""The bar on generated fields: shares of the time and of the objects."""
AP_HARM, MAE_HARM = 0.001, 0.01
"""The bar on annotated images: mask AP no more than this lower, count MAE no more than this share higher."""


def patches(side_px: int, tissue: float, count: int, rng: np.random.Generator) -> list[Box]:
    """Boxes that do not overlap, at random places of a square, whose areas add up to a little less than `tissue`."""
    while True:
        boxes: list[Box] = []
        for share in rng.dirichlet(np.full(count, 3.0)):
            aspect = math.exp(rng.uniform(-0.5, 0.5))
            area_px = share * tissue * side_px**2
            width, height = int(math.sqrt(area_px * aspect)), int(math.sqrt(area_px / aspect))
            if not 0 < min(width, height) <= max(width, height) <= side_px:
                break
            x, y = int(rng.integers(side_px - width + 1)), int(rng.integers(side_px - height + 1))
            if any(x < b[2] and b[0] < x + width and y < b[3] and b[1] < y + height for b in boxes):
                break
            boxes.append((x, y, x + width, y + height))
        else:
            return boxes


def draw_field(side_px: int, tissue: float, count: int, seed: int) -> Cells:
    """A field that is empty but for patches half full of touching cells."""
    boxes = patches(side_px, tissue, count, np.random.default_rng(seed))
    area_px = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
    low, high = RADIUS_PX
    cell_px = math.pi * (low**2 + low * high + high**2) / 3  # the mean over radii that are all as likely
    n = round(FILLED * area_px / cell_px)
    return touching_cells((side_px, side_px), n, radius_px=RADIUS_PX, regions_xyxy=boxes, seed=seed)


def interleaved_runs(
    predictors: dict[str, Predictor], pixels: npt.NDArray[np.uint8], round: int, threshold: float, limit: int
) -> Found:
    """The objects that both find on one image, and how long it took; who goes first changes with `round`."""
    found: Found = {}
    for name in (WITHOUT, WITH)[:: -1 if round % 2 else 1]:
        start = time.perf_counter()
        objects = predictors[name].predict(pixels, threshold=threshold, limit=limit)
        found[name] = objects, time.perf_counter() - start
    return found


def compare(cells: Cells, found: Found) -> Row:
    """The numbers of one field."""
    (whole, seconds), (looked, seconds_with) = found[WITHOUT], found[WITH]
    (pairing,) = match_image(whole, looked, ious=(IOU,))
    hits = {name: match_image(cells.objects, one, ious=(IOU,))[0].counts.tp for name, (one, _) in found.items()}
    area_px = math.prod(cells.objects.size_hw)
    return {
        "cells": len(cells.objects),
        "area_px": area_px,
        "looked_at_px": area_px if looked.prefilter is None else looked.prefilter.area_px,
        "not_looked_at": int(lost_objects(cells.objects, looked.prefilter).sum()),
        "seconds": {WITHOUT: seconds, WITH: seconds_with},
        "found": {name: len(one) for name, (one, _) in found.items()},
        "hits": hits,
        "lost": len(pairing.false_negatives),
        "saturated": {name: one.saturated for name, (one, _) in found.items()},
    }


def with_ratios(row: Row) -> Row:
    """The same with what follows from it."""
    return row | {
        "saved": 1 - row["seconds"][WITH] / row["seconds"][WITHOUT],
        "looked_at": row["looked_at_px"] / row["area_px"],
        "lost_share": row["lost"] / row["found"][WITHOUT] if row["found"][WITHOUT] else None,
        "recall": {name: hits / row["cells"] if row["cells"] else None for name, hits in row["hits"].items()},
    }


def add_up(rows: Sequence[Row]) -> Row:
    """All fields together."""

    def total(values: Sequence[Any]) -> Any:
        if isinstance(values[0], dict):
            return {name: total([one[name] for one in values]) for name in values[0]}
        return sum(values)

    return {name: total([row[name] for row in rows]) for name in rows[0]}


def fields(predictors: dict[str, Predictor], given: argparse.Namespace) -> Iterator[Row]:
    """One generated field after the other."""
    threshold = predictors[WITHOUT].info.score_threshold
    limit = given.limit or predictors[WITHOUT].info.detection_limit
    for k in range(given.fields):
        cells = draw_field(given.side, given.tissue, given.patches, given.seed + k)
        if k == 0:  # whatever is done once only is done before the clock runs
            interleaved_runs(predictors, cells.picture[:256, :256], 0, threshold, limit)
        found = interleaved_runs(predictors, cells.picture, k, threshold, limit)
        yield compare(cells, found)


def annotated(predictors: dict[str, Predictor], dataset: Dataset) -> Row:
    """The numbers of a data set."""
    info = predictors[WITHOUT].info
    objects: dict[str, list[Instances]] = {WITHOUT: [], WITH: []}
    seconds = {WITHOUT: 0.0, WITH: 0.0}
    for k, sample in enumerate(dataset.samples):
        pixels = read_image(sample.path)
        if k == 0:
            interleaved_runs(predictors, pixels[:256, :256], 0, AP_SCORE, info.detection_limit)
        for name, (one, took) in interleaved_runs(predictors, pixels, k, AP_SCORE, info.detection_limit).items():
            objects[name].append(one.without_probabilities())
            seconds[name] += took
    results = {
        name: halfpixel.evaluate(
            dataset, found, threshold=info.score_threshold, max_detections=info.detection_limit, ious=(IOU,)
        )
        for name, found in objects.items()
    }
    errors = {name: np.array([abs(one.error) for one in result.images]) for name, result in results.items()}
    more = errors[WITH] - errors[WITHOUT]
    (interval,) = bootstrap_ratios(np.array(more)[:, None], np.ones(len(more)))
    evaluated = evaluate_prefilter(dataset, objects[WITH])
    return {
        "images": len(dataset.samples),
        "objects": results[WITH].overall.n_objects,
        "looked_at_everywhere": len(dataset.samples) if evaluated is None else evaluated.savings.n_everywhere,
        "not_looked_at": 0 if evaluated is None else evaluated.lost,
        "seconds": seconds,
        "mask_ap": {name: result.mask_ap.ap for name, result in results.items()},
        "count_mae": {name: result.overall.count.mae for name, result in results.items()},
        "count_mae_difference": float(more.mean()),
        "count_mae_difference_interval": None if interval is None else [interval.low, interval.high],
    }


def passed(report: Row) -> dict[str, bool]:
    """What was asked for, and whether it came out."""
    verdict = {}
    if "total" in report:
        total = report["total"]
        lost = total["lost_share"]
        verdict[f"saves at least {LEAST_SAVED:.0%} of the time"] = total["saved"] >= LEAST_SAVED
        verdict[f"loses at most {MOST_LOST:.1%} of the objects"] = lost is not None and lost <= MOST_LOST
    if "data" in report:
        ap, mae = report["data"]["mask_ap"], report["data"]["count_mae"]
        verdict[f"mask AP at most {AP_HARM} lower"] = None not in ap.values() and ap[WITH] >= ap[WITHOUT] - AP_HARM
        verdict[f"count MAE at most {MAE_HARM:.0%} higher"] = mae[WITH] <= mae[WITHOUT] * (1 + MAE_HARM)
    return verdict


# What is printed


HEAD = """| | looked at | seconds without | with | saved | cells | found without | with | lost | recall without | with |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def share(value: float | None, digits: int = 1) -> str:
    """In per cent, or a dash."""
    return "-" if value is None else f"{value:.{digits}%}"


def line(name: str, row: Row) -> str:
    """A field, or all of them, in markdown."""
    seconds, found, recall = row["seconds"], row["found"], row["recall"]
    cells = [name, share(row["looked_at"]), f"{seconds[WITHOUT]:.1f}", f"{seconds[WITH]:.1f}", share(row["saved"])]
    cells += [f"{row['cells']:,}", f"{found[WITHOUT]:,}", f"{found[WITH]:,}"]
    cells += [f"{row['lost']:,} ({share(row['lost_share'], 2)})", share(recall[WITHOUT]), share(recall[WITH])]
    return f"| {' | '.join(cells)} |"


def show_annotated(row: Row) -> None:
    """The part about annotated images."""

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    print(f"\n{row['images']:,} annotated images, {row['objects']:,} objects")
    print(f"looked at everywhere on {row['looked_at_everywhere']:,} images; objects not looked at: ", end="")
    print(f"{row['not_looked_at']:,}\n\n| first pass | mask AP | count MAE | seconds |\n| --- | --- | --- | --- |")
    for name in (WITHOUT, WITH):
        numbers = [number(row["mask_ap"][name], 4), number(row["count_mae"][name], 3), f"{row['seconds'][name]:.1f}"]
        print(f"| {name} | {' | '.join(numbers)} |")
    interval = row["count_mae_difference_interval"]
    ends = "" if interval is None else f" ({interval[0]:+.3f} to {interval[1]:+.3f}, 95%)"
    print(f"\ncount MAE with minus without: {row['count_mae_difference']:+.3f}{ends}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nuclei", help="a name or a file")
    parser.add_argument("--first-pass", default="nuclei-unet", help="a U-Net: a name or a file")
    parser.add_argument("--fields", type=int, default=4, help="how many are generated; 0 for none")
    parser.add_argument("--side", type=int, default=4000, help="of a field, in pixels")
    parser.add_argument("--tissue", type=float, default=0.05, help="at most this share of a field is in patches")
    parser.add_argument("--patches", type=int, default=4, help="in each field")
    parser.add_argument("--limit", type=int, help="of detections on a field; default the model's own")
    parser.add_argument("--seed", type=int, default=0, help="of the first field; each has its own")
    parser.add_argument("--data", type=Path, help="annotated images, in any format that halfpixel reads")
    parser.add_argument("--images", type=Path, help="their folder, where they are not beside the annotations")
    parser.add_argument("--json", type=Path, help="write all numbers to this file as well")
    given = parser.parse_args()
    if not 0 < given.tissue <= 0.3 or given.patches < 1:
        parser.error("expected a share of tissue above 0 and at most 0.3, and at least one patch")
    return given


def main() -> None:
    """Measure and print."""
    given = arguments()
    plain = halfpixel.load(given.model).without_size_finder()
    predictors = {WITHOUT: plain, WITH: plain.with_prefilter(halfpixel.load(given.first_pass))}
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(given).items()}
    report: Row = {"machine": machine(plain.device), "settings": settings}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()), flush=True)

    def add(part: str, value: Any) -> None:
        report[part] = value
        report["passed"] = passed(report)
        if given.json is not None:
            write_whole(given.json, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())

    if given.fields:
        print(f"\n{given.fields} fields of {given.side:,} x {given.side:,} pixels, at most {given.tissue:.0%} tissue\n")
        print(HEAD, flush=True)
        rows: list[Row] = []
        for row in fields(predictors, given):
            rows.append(row)
            add("fields", [with_ratios(one) for one in rows])
            print(line(str(len(rows)), report["fields"][-1]), flush=True)
        add("total", with_ratios(add_up(rows)))
        print(line("all", report["total"]), flush=True)
        reached = report["total"]["saturated"]
        if any(reached.values()):
            print(f"\nTHE DETECTION LIMIT was reached on {reached} fields: raise --limit")
    if given.data is not None:
        add("data", annotated(predictors, halfpixel.read_dataset(given.data, given.images)))
        show_annotated(report["data"])
    print()
    for what, came_out in report["passed"].items():
        print(f"{'yes' if came_out else 'NO':4} {what}")


if __name__ == "__main__":
    main()
