"""What many objects on large images take in memory, against torchvision's N x H x W masks.

`results`: 300 objects on 12 megapixels, the areas of their boxes adding up to one image. What a network gives for them
(boxes and small masks; drawn, so that no network is needed) is decoded and turned into results, one kind after the
other. Memory is what each step takes at most beyond what was there before the first one, the image included. Of
torchvision, `paste_masks_in_image` is measured, which ends its network, on fewer objects: it grows with their number.

`whole`: the most that a whole `halfpixel predict` takes, all default results included, on a drawn field of 50
megapixels with 1,000 cells: with the embedded model, which cuts large images into tiles, and with the paper's network
of random but lively weights (see tests/parity/compare.py), which sees them reduced.

Each number is of a process of its own: its resident memory (VmHWM, so Linux only), in 10^6 bytes.

    python benchmarks/memory.py --json memory.json
    python benchmarks/memory.py results
"""

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.load import from_torchvision
from halfpixel.files import write_whole
from halfpixel.measure.object_table import measure_objects
from halfpixel.models import mask_rcnn
from halfpixel.outputs.coco import prediction_entries
from halfpixel.outputs.label_tiff import label_tiff_bytes
from halfpixel.report.machine import describe_machine
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.viz.overlay import draw_overlay

ROOT = Path(__file__).resolve().parents[1]
Row = dict[str, Any]
Outputs = dict[str, Tensor]

OURS = ("mask_rcnn_r50_fpn", "mask_rcnn_lite")
"""The second one also suppresses by masks and lets them correct their boxes."""
RESULTS_HW, RESULTS_OBJECTS, MOST_MB = (3000, 4000), 300, 60
PEER_OBJECTS = 30
FIELD_HW, FIELD_CELLS = (5774, 8660), 1000
FEW = 0.02
"""Share of the image in the warming-up, which loads what is loaded only once."""


def drawn_outputs(n: int, size_hw: tuple[int, int], seed: int = 0) -> Outputs:
    """What a network gives for round things whose boxes together have the image's area; sides vary by a factor of 4."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.rand(n, 2, generator=generator) * 1.5 + 0.5
    sides *= (size_hw[0] * size_hw[1] / (sides[:, 0] * sides[:, 1]).sum()).sqrt()
    low = torch.rand(n, 2, generator=generator) * (torch.tensor([size_hw[1], size_hw[0]]) - sides)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 28), torch.linspace(-1, 1, 28), indexing="ij")
    maps = torch.sigmoid(10 * (0.95 - (x.square() + y.square()).sqrt()) + torch.randn(n, 28, 28, generator=generator))
    return {
        "boxes_xyxy": torch.cat([low, low + sides], dim=1),
        "scores": torch.rand(n, generator=generator).sort(descending=True).values,
        "labels": torch.zeros(n, dtype=torch.int64),
        "image_index": torch.zeros(n, dtype=torch.int64),
        "masks": maps,
        "candidates": torch.tensor([[n, n]]),
        "saturated": torch.tensor([False]),
    }


def steps_of(variant: str, objects: int, size_hw: tuple[int, int]) -> dict[str, Callable[[Instances], Any]]:
    """What is done to objects, by name; the first step makes them out of nothing."""
    with torch.device("meta"):
        network = mask_rcnn.VARIANTS[variant](("object",), None)
    outputs, limits = drawn_outputs(objects, size_hw), Limits.of(0.0, objects)
    picture = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    return {
        "objects and their masks": lambda _: network.decode(outputs, [Resized(size_hw, size_hw)], limits)[0],
        "COCO annotations (run lengths)": prediction_entries,
        "table of measurements": lambda found: measure_objects(found, channels=picture, channel_names=("r", "g", "b")),
        "label image": lambda found: found.masks and found.masks.label_image(),
        "label image as a TIFF file": lambda found: found.masks and label_tiff_bytes(found.masks),
        "overlay": lambda found: draw_overlay(picture, found),
    }


def measure_results(variant: str) -> Row:
    """Of our results: the most memory of each step, in 10^6 bytes, beyond what there was before the first."""
    height, width = RESULTS_HW
    few_hw = (round(height * FEW**0.5), round(width * FEW**0.5))
    found: Any = None
    for step in steps_of(variant, RESULTS_OBJECTS // 10, few_hw).values():
        found = step(found) if found is None else (step(found), found)[1]
    steps = steps_of(variant, RESULTS_OBJECTS, RESULTS_HW)
    found = None
    forget_peak()
    before = resident_mb("VmRSS")
    rows = {}
    for name, step in steps.items():
        forget_peak()
        made = step(found)
        found = made if found is None else found
        rows[name] = resident_mb("VmHWM") - before
        del made
    return {"name": f"halfpixel {variant}", "objects": len(found), "steps": rows}


def measure_torchvision() -> Row:
    """Of its pasting."""
    outputs = drawn_outputs(RESULTS_OBJECTS, RESULTS_HW)
    chosen = slice(None, None, RESULTS_OBJECTS // PEER_OBJECTS)
    masks, boxes = outputs["masks"][chosen, None], outputs["boxes_xyxy"][chosen]
    paste_masks_in_image(masks[:1], boxes[:1] / 10, (300, 400))
    forget_peak()
    before = resident_mb("VmRSS")
    pasted = paste_masks_in_image(masks, boxes, RESULTS_HW)
    peak = resident_mb("VmHWM") - before
    kept = pasted.numel() * pasted.element_size() / 1e6
    times = RESULTS_OBJECTS / len(boxes)
    steps = {f"masks (of {len(boxes)} objects, times {times:g})": peak * times, "of these kept": kept * times}
    return {"name": "torchvision", "objects": RESULTS_OBJECTS, "steps": steps}


def forget_peak() -> None:
    """VmHWM starts anew from what is resident now, without what the C library has kept though it is free."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def resident_mb(what: str, process: int | str = "self") -> float:
    """A line of the kernel's report on a process, in 10^6 bytes."""
    found = re.search(rf"{what}:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def results() -> list[Row]:
    """Each in a process of its own."""
    rows = []
    for name in (*OURS, "torchvision"):
        words = [sys.executable, __file__, "--alone", name]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return rows


def whole(folder: Path, seed: int) -> list[Row]:
    """A command on a field of cells, with each model."""
    draw_field(folder / "field.tif", seed)
    rows = []
    for name, model, options in (
        ("embedded model", "nuclei", []),
        ("mask_rcnn_r50_fpn", lively_model(folder, seed), ["--threshold", "0.02"]),
    ):
        command = ["predict", folder / "field.tif", "--model", model, "--out", folder / name, "--limit", FIELD_CELLS]
        start = time.perf_counter()
        peak, said = peak_of_command([str(word) for word in [*command, *options]])
        rows.append({"name": name, "said": said, "peak_mb": peak, "seconds": time.perf_counter() - start})
    return rows


def peak_of_command(arguments: Sequence[str]) -> tuple[float, str]:
    """The most memory of a whole command, and what it said of the objects."""
    words = [sys.executable, "-m", "halfpixel", *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, resident_mb("VmHWM", process.pid))
            time.sleep(0.2)
        said = process.stdout.read() if process.stdout else ""
    if process.returncode:
        raise SystemExit(f"halfpixel {' '.join(arguments)}: ended with {process.returncode}")
    return peak, next(line for line in said.splitlines() if " on 1 image" in line)


def draw_field(path: Path, seed: int) -> None:
    """A field with cells of a size that suits the embedded model; to the lively one every place is something."""
    cells = touching_cells(FIELD_HW, FIELD_CELLS, radius_px=(12.0, 20.0), seed=seed)
    Image.fromarray(cells.picture).save(path, compression="tiff_lzw")


def lively_model(folder: Path, seed: int) -> Path:
    """The file of a network that finds many different things."""
    sys.path.insert(0, str(ROOT / "tests"))
    from parity.compare import lively_torchvision

    with Image.open(folder / "field.tif") as picture:
        image = np.array(picture.resize((1333, 888)))
    module = lively_torchvision("v1", 2, torch.tensor(image).permute(2, 0, 1) / 255, seed)
    from_torchvision(module).save(folder / "lively.safetensors")
    return folder / "lively.safetensors"


def show_results(rows: Sequence[Row]) -> None:
    """A table."""
    width, height = RESULTS_HW[::-1]
    print(f"\n{RESULTS_OBJECTS} objects on {width} x {height} pixels: most memory beyond that of the image, MB\n")
    print("| | objects | step | MB |\n| --- | --- | --- | --- |")
    for row in rows:
        for name, peak in row["steps"].items():
            print(f"| {row['name']} | {row['objects']} | {name} | {peak:,.0f} |")


def show_whole(rows: Sequence[Row]) -> None:
    """A table."""
    print(f"\n`halfpixel predict`, all default results, on {FIELD_HW[1]} x {FIELD_HW[0]} pixels: most memory\n")
    print("| model | | MB | s |\n| --- | --- | --- | --- |")
    for row in rows:
        print(f"| {row['name']} | {row['said']} | {row['peak_mb']:,.0f} | {row['seconds']:.0f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="results, whole; default both")
    parser.add_argument("--seed", type=int, default=0, help="of the field and the weights")
    parser.add_argument("--json", type=Path, help="write all numbers to this file as well")
    parser.add_argument("--alone", choices=[*OURS, "torchvision"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(measure_torchvision() if given.alone == "torchvision" else measure_results(given.alone)))
        return
    if unknown := set(given.parts) - {"results", "whole"}:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}")
    parts = given.parts or ["results", "whole"]
    report: Row = {"machine": describe_machine()}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()), flush=True)
    if "results" in parts:
        report["results"] = results()
        show_results(report["results"])
    if "whole" in parts:
        with tempfile.TemporaryDirectory() as folder:
            report["whole"] = whole(Path(folder), given.seed)
        show_whole(report["whole"])
    if given.json is not None:
        write_whole(given.json, (json.dumps(report, indent=2, allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
