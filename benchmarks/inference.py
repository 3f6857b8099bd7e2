"""Finding objects, against what a user would run instead: torchvision's Mask R-CNN R50-FPN.

Same weights (seeded, lively: about 100 objects an image, see tests/parity/compare.py), same photographs, resized to
800 / 1333 pixels, at most 100 objects. A run begins with an image's uint8 pixels and ends with its masks: torchvision's
N x H x W probabilities above one half, our Instances. Runs are interleaved on each image; who went last goes first the
next time; the first run is not counted. Ratios are of the same image in the same round.

`end-to-end`: every backend and precision that is installed, and torchvision as fast as one more line of code makes it.
`stages`: where the time goes. `memory`: the most memory a process takes that opens the model and looks at the largest
image twice. `nuclei`: the embedded model on fields of 520 x 696 pixels. `gpu`: images a second, one or eight at once.

    python benchmarks/inference.py --json inference.json
    python benchmarks/inference.py end-to-end --only "torchvision fp32" "halfpixel torch" --images 2 --rounds 1
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu import on_gpu
from peak_memory import peak_memory_mb
from peers import BASE, CLASSES, PEERS, Pixels, Torchvision, as_instances
from PIL import Image
from stages import stage_seconds

from halfpixel.data.images.prepare import prepare
from halfpixel.data.images.rgb8 import find_images, read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.load import from_torchvision, load
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.detection.object_matching import DetectionCounts, match_image, pool
from halfpixel.files import write_whole
from halfpixel.report.machine import describe_machine
from halfpixel.report.speed import (
    EXACT,
    SAME_IOU,
    Configuration,
    LeftOut,
    Quartiles,
    all_configurations,
    interleaved_runs,
    measure,
    open_configurations,
)
from halfpixel.structures.images import ImageBatch, Limits

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from parity.compare import Comparison, Decisions, compare, lively_torchvision  # noqa: E402

Row = dict[str, Any]

CALIBRATED_ON = 20
"""Photographs; more take long and change no time."""

PARTS = ("end-to-end", "stages", "memory", "nuclei", "gpu")
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "coco-ccby" / "images"
NUCLEI = ROOT.parent / "shared" / "data" / "nuclei"
FIELD_HW = (520, 696)


@dataclass
class Agreement:
    """How the objects of one configuration fit those of torchvision in fp32.

    Attributes:
        counts: of each image, at a mask IoU of SAME_IOU.
        comparisons: of each image by the parity rule, for those that are to be equal.
    """

    counts: list[DetectionCounts] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def to_json(self) -> Row:
        """All images together."""
        pooled = pool(SAME_IOU, self.counts)
        row: Row = {"objects": pooled.tp + pooled.fp, "same_objects": pooled.f1, "same_iou": SAME_IOU}
        if self.comparisons:
            row["parity"] = {
                "theirs": sum(one.theirs for one in self.comparisons),
                "ours": sum(one.ours for one in self.comparisons),
                "paired": sum(one.paired for one in self.comparisons),
                "worst_box_px": max(one.box_px for one in self.comparisons),
                "worst_score": max(one.score for one in self.comparisons),
                "explained": [line for one in self.comparisons for line in one.explained],
                "faults": [line for one in self.comparisons for line in one.faults],
            }
        return row


def end_to_end(
    peers: Mapping[str, Torchvision],
    predictors: Mapping[Configuration, Predictor],
    images: Sequence[Pixels],
    rounds: int,
) -> list[Row]:
    """Every configuration's seconds, ratio and agreement."""
    ours = {f"halfpixel {config}": predictor for config, predictor in predictors.items()}
    configs: dict[str, Callable[[Pixels], Any]] = {name: peer.find for name, peer in peers.items()}
    configs |= {name: predictor.predict for name, predictor in ours.items()}
    seconds = {name: np.zeros((len(images), rounds)) for name in configs}
    agreements = {name: Agreement() for name in configs}
    reference = predictors[EXACT]  # its weights decide as torchvision's do
    for timed in interleaved_runs(configs, images, rounds):
        if timed.round:
            seconds[timed.name][timed.image, timed.round - 1] = timed.seconds
            continue
        pixels, found = images[timed.image], timed.result
        size_hw = (pixels.shape[0], pixels.shape[1])
        agreement = agreements[timed.name]
        if timed.name == BASE:  # the first of every first round
            theirs, base = found, as_instances(found, size_hw, reference.class_names)
        elif timed.name not in ours:
            found = as_instances(found, size_hw, reference.class_names)
        elif timed.name.endswith("fp32"):
            agreement.comparisons.append(compare(theirs, found, lambda pixels=pixels: decisions(reference, pixels)))
        other = base if timed.name == BASE else found
        agreement.counts.append(match_image(base, other, ious=(SAME_IOU,))[0].counts)
    return [
        {
            "name": name,
            "seconds": seconds[name].tolist(),
            "seconds_median": float(np.median(seconds[name])),
            "times_as_fast": Quartiles.of(seconds[BASE] / seconds[name])._asdict(),
            **agreements[name].to_json(),
        }
        for name in configs
    ]


def open_wanted(
    predictor: Predictor,
    configs: Sequence[Configuration],
    only: Sequence[str],
    calibration: Sequence[Path],
    folder: Path,
) -> tuple[dict[Configuration, Predictor], list[LeftOut]]:
    """A predictor in every one of some configurations that is installed and asked for, and always in the exact one."""
    folder.mkdir(exist_ok=True)
    chosen = [config for config in configs if config == EXACT or wanted(f"halfpixel {config}", only)]
    return open_configurations(
        predictor, chosen, calibration, folder, lambda config: print(f"opening {config}", file=sys.stderr)
    )


def wanted(name: str, only: Sequence[str]) -> bool:
    """Whether a configuration is to take part."""
    return not only or any(part in name for part in only)


def decisions(predictor: Predictor, pixels: Pixels) -> Decisions:
    """What our network decided on an image, to explain an object without a partner."""
    prepared, size = prepare(pixels, predictor.info.input)
    batch = ImageBatch.pad([prepared], predictor.info.input.divisor)
    limits = Limits.of(predictor.info.score_threshold, predictor.info.detection_limit)
    return Decisions(predictor, batch, 0, size, limits)


# The embedded model


def nuclei(given: argparse.Namespace, folder: Path) -> tuple[list[Row], list[LeftOut], str]:
    """The embedded model on fields of one size."""
    images, calibration, whose = fields(given.images, folder)
    predictor = load().without_size_finder()
    usual = [config for config in all_configurations(predictor) if not config.fast]
    configs = [*usual, *(config._replace(fast=True) for config in usual)]
    opened, left_out = open_wanted(predictor, configs, given.only, calibration, folder / "nuclei")
    rows = [
        {"name": f"halfpixel {one.configuration}", **one.to_json()} for one in measure(opened, images, given.rounds)
    ]
    return rows, left_out, whose


def fields(n: int, folder: Path) -> tuple[list[Pixels], list[Path], str]:
    """Fluorescence fields of 520 x 696 pixels, files for int8 that are not among them, and whose they are."""
    if not (NUCLEI / "val.json").is_file():
        drawn = [touching_cells(FIELD_HW, 120, seed=seed).picture for seed in range(n + 20)]
        calibration = save_all(drawn[n:], folder / "fields")
        return drawn[:n], calibration, "generated fields of touching cells"

    def named(split: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((NUCLEI / f"{split}.json").read_text())["images"]
        return found

    suited = [one for one in named("val") if (one["height"], one["width"]) == FIELD_HW]
    images = [read_image(NUCLEI / "images" / one["file_name"]) for one in spread(suited, n)]
    calibration = [NUCLEI / "images" / one["file_name"] for one in spread(named("train"), 100)]
    return images, calibration, "fields of the 2018 Data Science Bowl"


# Images


def spread(things: Sequence[Any], n: int) -> list[Any]:
    """So many of them, evenly spaced; all where there are fewer."""
    n = min(n, len(things))
    return [things[k * len(things) // n] for k in range(n)]


def save_all(pictures: Iterable[Pixels], folder: Path) -> list[Path]:
    """Pictures as PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k, picture in enumerate(pictures):
        paths.append(folder / f"{k:03d}.png")
        Image.fromarray(picture).save(paths[-1])
    return paths


def photographs(source: Path, n: int, folder: Path) -> tuple[list[Path], list[Path], str]:
    """Image files to time, others to calibrate int8 on, and what they are; drawn where there are none."""
    if source.exists():
        paths = find_images(source)
        timed = spread(paths, n)
        return timed, spread([path for path in paths if path not in timed], 50), "/".join(source.parts[-2:])
    drawn = (touching_cells((480, 640), 60, radius_px=(15, 40), seed=seed).picture for seed in range(n + 10))
    paths = save_all(drawn, folder / "photographs")
    return paths[:n], paths[n:], "drawn cells, no photographs"


# What is printed


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of markdown."""
    for cells in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cells)} |"


def times(spread_of: Mapping[str, float]) -> str:
    """A ratio with its quartiles."""
    return f"{spread_of['median']:.2f} ({spread_of['low']:.2f} to {spread_of['high']:.2f})"


def agreement(row: Row) -> str:
    """In words."""
    same = "nothing found" if row["same_objects"] is None else f"{row['same_objects']:.1%} the same"
    if (parity := row.get("parity")) is None:
        return same
    unclear = f"{len(parity['explained'])} close calls, {len(parity['faults'])} faults"
    return f"{parity['paired']} of {parity['theirs']} paired, boxes within {parity['worst_box_px']:.4f} px; {unclear}"


def show_end_to_end(rows: Sequence[Row]) -> None:
    """The main table."""
    head = ("", "s an image", "times torchvision fp32 (quartiles)", "objects", "against torchvision fp32", "peak MB")
    cells = [
        (
            row["name"], f"{row['seconds_median']:.2f}", times(row["times_as_fast"]), str(row["objects"]),
            agreement(row), "-" if row.get("peak_mb") is None else f"{row['peak_mb']:,.0f}",
        )
        for row in rows
    ]  # fmt: skip
    print(*table(head, cells), sep="\n")
    print(
        f"\nthe same: of all objects of both, the share with a partner of its class at a mask IoU of {SAME_IOU} or more"
    )


def show_stages(rows: Sequence[Row]) -> None:
    """Seconds of each stage, and what they add up to."""
    names = [name for name in rows[0] if name != "stage"]
    total = {"stage": "all", **{name: sum(row[name] for row in rows) for name in names}}
    cells = [[row["stage"], *(f"{row[name]:.3f}" for name in names)] for row in (*rows, total)]
    print(*table(["seconds", *names], cells), sep="\n")


def show_nuclei(rows: Sequence[Row]) -> None:
    """The embedded model's table."""
    head = ("", "s an image", "times torch fp32 (quartiles)", "objects", "the same", "counts off by")
    cells = [
        (
            row["name"], f"{row['seconds_an_image']:.2f}", times(row["times_as_fast"]), str(row["objects"]),
            agreement(row), str(sum(abs(off) for off in row["count_differences"])),
        )
        for row in rows
    ]  # fmt: skip
    print(*table(head, cells), sep="\n")


def show_gpu(rows: Sequence[Row]) -> None:
    """Images a second."""
    head = ("", "images at once", "images a second", "times torchvision fp32 (quartiles)")
    cells = [
        (row["name"], str(row["batch"]), f"{row['images_per_second']:.1f}", times(row["times_as_fast"])) for row in rows
    ]
    print(*table(head, cells), sep="\n")


def show_left_out(left_out: Iterable[LeftOut]) -> None:
    """What is not in a table, and why."""
    for one in left_out:
        print(f"left out: {one.configuration}: {one.reason}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"default all: {', '.join(PARTS)}")
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="a folder; drawn where it is not there")
    parser.add_argument("--images", type=int, default=6, help="how many of them are timed")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed")
    parser.add_argument("--only", nargs="+", default=[], help='rows that contain this, e.g. "openvino" "torch fp32"')
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--json", type=Path, help="write all numbers to this file as well")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    if given.images < 1 or given.rounds < 1:
        parser.error("expected at least one image and one round")
    given.parts = given.parts or list(PARTS)
    return given


def main() -> None:
    """Measure and print."""
    given = arguments()
    report: dict[str, Any] = {"machine": describe_machine(), "rounds": given.rounds}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()), flush=True)

    def add(part: str, value: Any) -> None:
        report[part] = value
        if given.json is not None:
            write_whole(given.json, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HALFPIXEL_HOME"] = str(folder / "cache")  # of exported files; they are large
        if {"end-to-end", "stages", "memory", "gpu"} & set(given.parts):
            against_torchvision(given, folder, add)
        if "nuclei" in given.parts:
            rows, left_out, whose = nuclei(given, folder)
            add("nuclei", {"images": whose, "rows": rows})
            print(f"\nThe embedded model, {whose}, {FIELD_HW[1]} x {FIELD_HW[0]} pixels\n")
            show_nuclei(rows)
            show_left_out(left_out)


def against_torchvision(given: argparse.Namespace, folder: Path, add: Callable[[str, Any], None]) -> None:
    """All parts with torchvision's network."""
    timed, calibration, whose = photographs(given.photographs, given.images, folder)
    calibration = calibration[:CALIBRATED_ON]
    images = [read_image(path) for path in timed]
    sizes = ", ".join(sorted({f"{one.shape[1]} x {one.shape[0]}" for one in images}))
    print(f"{len(images)} images ({whose}): {sizes} pixels; rounds: {given.rounds}", flush=True)
    add("images", [path.name for path in timed])
    first = torch.tensor(images[0]).permute(2, 0, 1).float() / 255
    module = lively_torchvision("v1", CLASSES, first, given.seed)
    peers = {n: Torchvision(module, *how) for n, how in PEERS.items() if n == BASE or wanted(n, given.only)}
    predictor = from_torchvision(module)
    cpu = Predictor(predictor.model, predictor.info, torch.device("cpu"))
    configs = [config for config in all_configurations(cpu) if not config.fast]
    predictors, left_out = open_wanted(cpu, configs, given.only, calibration, folder / "r50")
    if "end-to-end" in given.parts:
        rows = end_to_end(peers, predictors, images, given.rounds)
    else:
        rows = [{"name": name} for name in (*peers, *(f"halfpixel {config}" for config in predictors))]
    if "memory" in given.parts:
        torch.save(module.state_dict(), folder / "r50" / "torchvision.pth")
        cpu.save(folder / "r50" / "ours.safetensors")
        largest = max(timed, key=lambda path: read_image(path).size)
        for row in rows:
            row["peak_mb"] = peak_memory_mb(row["name"], folder / "r50", largest, calibration)
    if {"end-to-end", "memory"} & set(given.parts):
        add("end-to-end", rows)
        print()
        show_end_to_end(rows)
        show_left_out(left_out)
    if "stages" in given.parts:
        by_stage = stage_seconds(peers[BASE], predictors, images, given.rounds)
        add("stages", by_stage)
        print("\nWhere the time goes\n")
        show_stages(by_stage)
    if "gpu" in given.parts:
        if torch.cuda.is_available():
            rates = on_gpu(module, images, given.rounds)
            add("gpu", rates)
            print(f"\n{torch.cuda.get_device_name()}\n")
            show_gpu(rates)
        else:
            print("\nno GPU here: nothing measured on one")


if __name__ == "__main__":
    main()
