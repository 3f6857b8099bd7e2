"""A folder of small images, against looking at one after the other.

`throughput`: everything from the files to the results: read, find objects, write an overlay, the measurements and the
annotations. One by one is a plain loop around `Predictor.predict`, which has all processors for every image. Runs
over the folder are interleaved; who went last goes first the next time, and the first round is not counted. Objects are
compared, too: another number of threads may round differently.

`memory`: resident memory (Linux only) while thousands of images go through, a thousand at a time.

    python benchmarks/folders.py throughput --images ../shared/data/nuclei/images --names val.json --json folders.json
    python benchmarks/folders.py memory
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from memory import resident_mb
from PIL import Image

import halfpixel
from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.rgb8 import find_images, png_bytes, read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.predictor import Predictor
from halfpixel.files import write_whole
from halfpixel.measure.object_table import measure_objects
from halfpixel.outputs.coco import prediction_entries
from halfpixel.report.machine import describe_machine
from halfpixel.structures.instances import Instances
from halfpixel.viz.overlay import draw_overlay

Row = dict[str, Any]
Found = tuple[Path, Rgb8, Instances]

LONGEST_PX = 400
"""Images with longer sides are not small."""
DRAWN_HW, TINY_HW = (256, 256), (48, 48)
DIFFERENT = 40
EVERY = 1000


def one_by_one(predictor: Predictor, files: Iterable[Path]) -> Iterator[Found]:
    """The loop that everybody writes."""
    for path in files:
        pixels = read_image(path)
        yield path, pixels, predictor.predict(pixels)


def together(predictor: Predictor, files: Iterable[Path]) -> Iterator[Found]:
    """As the command line does it."""
    read = ((path, read_image(path)) for path in files)
    for (path, pixels), found in predictor.predict_in_order(read, lambda one: one[1]):
        yield path, pixels, found.result()


CONFIGURATIONS: dict[str, Callable[[Predictor, Iterable[Path]], Iterator[Found]]] = {
    "one by one": one_by_one,
    "together": together,
}


def write(path: Path, pixels: Rgb8, objects: Instances, out: Path) -> None:
    """What `halfpixel predict` writes for an image."""
    write_whole(out / f"{path.stem}.png", png_bytes(draw_overlay(pixels, objects)))
    table = measure_objects(objects, channels=pixels, channel_names=("red", "green", "blue"))
    write_whole(out / f"{path.stem}.csv", table.csv_bytes())
    write_whole(out / f"{path.stem}.json", json.dumps(prediction_entries(objects)).encode())


def throughput(predictor: Predictor, files: Sequence[Path], rounds: int) -> Row:
    """Seconds of each round and configuration, and how well the objects agree."""
    seconds: dict[str, list[float]] = {name: [] for name in CONFIGURATIONS}
    kept: dict[str, list[Instances]] = {}
    with tempfile.TemporaryDirectory() as out:
        for round in range(rounds + 1):
            for name in list(CONFIGURATIONS)[:: 1 if round % 2 else -1]:
                start = time.perf_counter()
                kept[name] = []
                for path, pixels, objects in CONFIGURATIONS[name](predictor, files):
                    write(path, pixels, objects, Path(out))
                    kept[name].append(objects)
                if round:
                    seconds[name].append(time.perf_counter() - start)
                    print(f"round {round}, {name}: {seconds[name][-1]:.2f} s", file=sys.stderr)
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    return {
        "images": len(files),
        "seconds": seconds,
        "images_per_second": {name: len(files) / statistics.median(took) for name, took in seconds.items()},
        "times_as_fast": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "agreement": agreement(*kept.values()),
    }


def agreement(some: Sequence[Instances], others: Sequence[Instances]) -> Row:
    """How many images have the very same objects, and how far those of the others are apart at most."""
    same, score, box_px, counts = 0, 0.0, 0.0, 0
    for a, b in zip(some, others, strict=True):
        if len(a) != len(b):
            counts += 1
            continue
        score = max([score, *(a.scores - b.scores).abs().tolist()])
        box_px = max([box_px, *(a.boxes_xyxy - b.boxes_xyxy).abs().flatten().tolist()])
        same += is_same(a, b)
    return {"identical": same, "other_counts": counts, "worst_score": score, "worst_box_px": box_px}


def is_same(a: Instances, b: Instances) -> bool:
    """Whether two results are equal to the last bit."""
    assert a.masks is not None
    assert b.masks is not None
    masks = all(torch.equal(one, other) for one, other in zip(a.masks.crops, b.masks.crops, strict=True))
    return masks and torch.equal(a.scores, b.scores) and torch.equal(a.boxes_xyxy, b.boxes_xyxy)


def memory(predictor: Predictor, files: Sequence[Path], n: int) -> list[Row]:
    """What the process has in memory after every thousand images."""
    rows, start = [], time.perf_counter()
    for k, _ in enumerate(together(predictor, itertools.islice(itertools.cycle(files), n)), start=1):
        if k % EVERY == 0 or k == n:
            rows.append({"images": k, "mb": resident_mb("VmRSS"), "seconds": time.perf_counter() - start})
            print(f"{k:,} images: {rows[-1]['mb']:.0f} MB, {rows[-1]['seconds']:.0f} s", file=sys.stderr, flush=True)
    return rows


def drawn(folder: Path, n: int, size_hw: tuple[int, int], cells: int) -> list[Path]:
    """Generated images."""
    paths = [folder / f"{k:03d}.png" for k in range(n)]
    for k, path in enumerate(paths):
        Image.fromarray(touching_cells(size_hw, cells, seed=k).picture).save(path)
    return paths


def small(images: Path, names: Path | None, n: int) -> list[Path]:
    """Small images of a folder, of those that a COCO file names, spread evenly."""
    wanted = names and {Path(one["file_name"]).name for one in json.loads(names.read_text())["images"]}
    found = [path for path in find_images(str(images)) if not wanted or path.name in wanted]
    fitting = []
    for path in found:
        with Image.open(path) as image:
            if max(image.size) <= LONGEST_PX:
                fitting.append(path)
    return [fitting[k * len(fitting) // n] for k in range(n)] if len(fitting) > n else fitting


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["throughput", "memory"])
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--images", type=Path, help="a folder; default: drawn ones")
    parser.add_argument("--names", type=Path, help="a COCO file that names those of the folder to use")
    parser.add_argument("--number", type=int, help="of images; default 40, for memory 10,000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all numbers to this file as well")
    given = parser.parse_args()
    predictor = halfpixel.load(given.model).without_size_finder()
    report: Row = {"machine": describe_machine(), "model": given.model, "backend": repr(predictor.backend)}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()), predictor.backend, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        if given.part == "memory":
            tiny = drawn(Path(temporary), DIFFERENT, TINY_HW, 4)
            report["memory"] = rows = memory(predictor, tiny, given.number or 10_000)
            print("\n| images | MB | s |\n| --- | --- | --- |")
            for row in rows:
                print(f"| {row['images']:,} | {row['mb']:.0f} | {row['seconds']:.0f} |")
        else:
            n = given.number or DIFFERENT
            files = small(given.images, given.names, n) if given.images else drawn(Path(temporary), n, DRAWN_HW, 30)
            report["throughput"] = row = throughput(predictor, files, given.rounds)
            ratio, agreement = row["times_as_fast"], row["agreement"]
            print(f"\n{row['images']} images, read, looked at and written; medians of {given.rounds} rounds\n")
            print("| | images a second |\n| --- | --- |")
            for name, rate in row["images_per_second"].items():
                print(f"| {name} | {rate:.2f} |")
            print(f"\n{ratio['median']:.2f} times as fast ({ratio['low']:.2f} to {ratio['high']:.2f}).")
            print(
                f"The very same objects on {agreement['identical']} images, another number of them on "
                f"{agreement['other_counts']}; else scores within {agreement['worst_score']:.2g}, boxes within "
                f"{agreement['worst_box_px']:.2g} px."
            )
    if given.json is not None:
        write_whole(given.json, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    main()
