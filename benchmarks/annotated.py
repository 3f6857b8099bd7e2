"""How long it takes to read, check and evaluate many annotated objects, also against another version of halfpixel.

Predictions are made from the annotations, without a network: objects moved by up to two pixels, some of them lost, some
merged with the next one, some where there is nothing, all with random scores. Every round is a fresh process for each
version, who went last goes first the next time, and starting up does not count. Seconds are of processor time, on one
thread: they move less than wall-clock time on a machine that does other things as well. Results are compared, too,
numbers to twelve digits: they must be the same.

    python benchmarks/annotated.py train.json --json annotated.json
    python benchmarks/annotated.py train.json --against ../other/src
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import halfpixel
from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.formats.coco import read_coco
from halfpixel.data.formats.mask_sizes import PlacedCrop, united
from halfpixel.evaluation.evaluation import AP_RESAMPLES, Evaluation, evaluate
from halfpixel.files import write_whole
from halfpixel.jobs.check import check
from halfpixel.report.machine import describe_machine
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Row = dict[str, Any]

READ, CHECK, EVALUATE, WITH_AP = "read", "data check", "evaluate", "evaluate, AP with intervals"
LOST, MERGED, INVENTED = 0.08, 0.03, 0.06
"""Parts of the objects."""
FURTHEST_PX = 2
MOST_S = {CHECK: 3.0, WITH_AP: 1.5}
"""The bars for some 20,000 objects on the machine that docs/performance.md names."""


def predicted(sample: Sample, rng: np.random.Generator) -> Instances:
    """The annotated objects of an image as a model might have found them, the best scores first."""
    objects = sample.objects
    assert objects.masks is not None
    height, width = objects.size_hw
    parts = [(crop.numpy(), offset_xy) for crop, offset_xy in objects.masks.placed()]
    found: list[tuple[PlacedCrop, int]] = []
    for k, label in enumerate(objects.labels.tolist()):
        if rng.random() < LOST:
            continue
        dx, dy = rng.integers(-FURTHEST_PX, FURTHEST_PX + 1, 2).tolist()
        merged = parts[k : k + 2] if rng.random() < MERGED else parts[k : k + 1]
        found.append((united([(crop, (x + dx, y + dy)) for crop, (x, y) in merged], (height, width)), label))
        if rng.random() < INVENTED:
            anywhere = int(rng.integers(0, width)), int(rng.integers(0, height))
            found.append((united([(parts[k][0], anywhere)], (height, width)), label))
    found = [one for one in found if one[0][0].size]
    masks = CropMasks.from_crops([mask for mask, _ in found], (height, width))
    return Instances(
        size_hw=(height, width),
        boxes_xyxy=masks.boxes_xyxy(),
        scores=torch.from_numpy(-np.sort(-rng.uniform(0.05, 1, len(found)))).float(),
        labels=torch.tensor([label for _, label in found], dtype=torch.int64),
        class_names=objects.class_names,
        masks=masks,
    )


def alike(one: Any, other: Any) -> bool:
    """Whether two plain values are the same, of numbers twelve digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
    return bool(one == other)


def _described(dataset: Dataset) -> list[object]:
    """Everything of the objects, masks as run lengths."""
    return [
        [one.path.name, one.objects.boxes_xyxy.tolist(), one.areas_px.tolist(), one.objects.labels.tolist(),
         one.objects.masks.rles() if one.objects.masks else None]
        for one in dataset.samples
    ]  # fmt: skip


def once(data: Path) -> dict[str, Row]:
    """Of each task in this process the seconds, and what came of it as plain values."""
    rows: dict[str, Row] = {}

    def timed(task: str, run: Callable[[], Any], plain: Callable[[Any], object]) -> Any:
        start = time.process_time()
        result = run()
        rows[task] = {"seconds": time.process_time() - start, "result": plain(result)}
        return result

    def evaluated(resamples: int) -> Evaluation:
        return evaluate(dataset, predictions, threshold=0.5, max_detections=1000, ap_resamples=resamples)

    dataset = timed(READ, lambda: read_coco(data), _described)
    timed(
        CHECK, lambda: check(data), lambda found: [found.to_json(), *([str(k) for k in g.issues] for g in found.groups)]
    )
    rng = np.random.default_rng(0)
    predictions = [predicted(sample, rng) for sample in dataset.samples]
    timed(EVALUATE, lambda: evaluated(0), Evaluation.to_json)
    timed(WITH_AP, lambda: evaluated(AP_RESAMPLES), Evaluation.to_json)
    return rows


def in_a_process(data: Path, source: Path) -> dict[str, Row]:
    """`once` with the package of a folder.

    Raises:
        CalledProcessError: it failed.
    """
    environment = os.environ | {"PYTHONPATH": str(source)}
    command = [sys.executable, __file__, str(data), "--once"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found: dict[str, Row] = json.loads(done.stdout)
    return found


def interleaved_runs(run: Callable[[Path], dict[str, Row]], versions: Sequence[Path], rounds: int) -> list[Row]:
    """For each task the seconds of each version, those of the first over its own, and whether results are the same."""
    runs: dict[Path, list[dict[str, Row]]] = {version: [] for version in versions}
    for round in range(rounds):
        for version in versions if round % 2 == 0 else reversed(versions):
            runs[version].append(run(version))
    rows = []
    for task in (READ, CHECK, EVALUATE, WITH_AP):
        seconds = [[one[task]["seconds"] for one in runs[version]] for version in versions]
        first, *others = [one[task]["result"] for version in versions for one in runs[version]]
        row: Row = {"task": task, "seconds": seconds[0], "same": all(alike(first, one) for one in others)}
        if len(versions) > 1:
            row |= {"against_s": seconds[1], "ratio": [b / a for a, b in zip(*seconds, strict=True)]}
        rows.append(row)
    return rows


def misses(rows: Sequence[Row]) -> list[str]:
    """What is slower than it should be, or has another result."""
    found = [f"{row['task']}: results differ" for row in rows if not row["same"]]
    for row in rows:
        seconds, most = statistics.median(row["seconds"]), MOST_S.get(row["task"])
        if most is not None and seconds > most:
            found.append(f"{row['task']}: {seconds:.2f} s, and should take at most {most}")
    return found


def table(rows: Sequence[Row]) -> Table:
    """Medians."""
    shown = Table("task")
    for name in ("s", "s against", "ratio", "from", "to"):
        shown.add_column(name, justify="right")
    for row in rows:
        ratios = row.get("ratio")
        compared = [f"{statistics.median(row['against_s']):.2f}"] if ratios else ["-"]
        compared += [f"{one:.2f}" for one in (statistics.median(ratios), min(ratios), max(ratios))] if ratios else []
        shown.add_row(row["task"], f"{statistics.median(row['seconds']):.2f}", *compared)
    return shown


def main() -> None:
    """See the file's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="annotated images: a COCO file")
    parser.add_argument("--against", type=Path, help="the folder src of another version")
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.add_argument("--json", type=Path, help="write all numbers to this file")
    parser.add_argument("--once", action="store_true", help="one round in this process, as JSON")
    options = parser.parse_args()
    if options.once:
        torch.set_num_threads(1)
        print(json.dumps(once(options.data)))
        return
    own = Path(halfpixel.__file__).parents[1]
    versions = [own, *([options.against] if options.against else [])]
    rows = interleaved_runs(lambda version: in_a_process(options.data, version), versions, options.rounds)
    facts = describe_machine()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    Console(width=120).print(table(rows))
    for missed in misses(rows):
        print(f"MISSED {missed}")
    if options.json is not None:
        write_whole(options.json, json.dumps({"machine": facts, "rows": rows}, indent=1).encode())


if __name__ == "__main__":
    main()
