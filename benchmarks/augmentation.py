"""What a turned training crop with its targets costs on a large, crowded image.

A 4,000 x 4,000 image with 2,000 drawn ellipses; a crop of 1,024 x 1,024 turned by 20 degrees, and 28 x 28 mask targets
for 128 RoIs. `crops` is halfpixel's method: one map, the image resampled once, masks sampled from their crops.
`canvases` is the usual one: N x H x W masks through `torchvision.transforms.v2`, then RoIAlign; it is given as many
objects as fit into the memory allowed (the masks, their copies and the grid), and its time and memory are also stated
for each object. Both run in a process of their own, whose peak memory is measured above that of its imports.

    python benchmarks/augmentation.py
    python benchmarks/augmentation.py --side 2000 --objects 500
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
import torchvision
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from halfpixel.ops import affine
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.structures.targets import Targets
from halfpixel.train.augment.warp import resample, shrink

FRAME = 1024
ROIS = 128
GRID = 28
DEGREES = 20.0
COPIES = 6
"""Of the masks, as canvases, that turning them takes at its peak (they become floats)."""


def drawn(side: int, count: int) -> tuple[Tensor, Instances]:
    """An image `[3, side, side]` of bytes and its ellipses, 20 to 60 pixels across."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(60, (3, side, side), dtype=torch.uint8, generator=generator)
    crops, offsets = [], []
    for k in range(count):
        width, height = torch.randint(20, 60, (2,), generator=generator).tolist()
        if k == 0:
            x, y = side // 2 - width // 2, side // 2 - height // 2  # one is in sight, however few there are
        else:
            x, y = torch.randint(side - 60, (2,), generator=generator).tolist()
        rows, columns = (torch.linspace(-1, 1, length) for length in (height, width))
        crops.append(rows[:, None] ** 2 + columns[None, :] ** 2 <= 1)
        image[:, y : y + height, x : x + width][:, crops[-1]] += 150
        offsets.append((x, y))
    masks = CropMasks(tuple(crops), torch.tensor(offsets), (side, side))
    labels = torch.zeros(count, dtype=torch.int64)
    return image, Instances((side, side), masks.boxes_xyxy(), torch.ones(count), labels, ("ellipse",), masks)


def by_crops(image: Tensor, objects: Instances) -> int:
    """Returns how many objects are in the crop."""
    middle = objects.size_hw[0] / 2
    frame_hw = (FRAME, FRAME)
    to_source = affine.compose(
        affine.shift(middle, middle), affine.rotate(DEGREES), affine.shift(-FRAME / 2, -FRAME / 2)
    )
    rows, columns = affine.source_window(to_source, frame_hw, objects.size_hw)
    window = image[:, rows, columns].float() / 255
    resample(*shrink(window, affine.compose(affine.shift(-columns.start, -rows.start), to_source)), frame_hw)
    targets = Targets.seen(objects, objects[:0], to_source, frame_hw)
    matches = torch.arange(ROIS) % len(targets)
    targets.mask_grids(matches, targets.boxes_xyxy[matches], GRID)
    return len(targets)


def by_canvases(image: Tensor, objects: Instances) -> int:
    """The usual way; returns how many objects are in the crop."""
    assert objects.masks is not None
    canvases = tv_tensors.Mask(objects.masks.dense().to(torch.uint8))
    turn, cut = v2.RandomRotation((DEGREES, DEGREES), v2.InterpolationMode.BILINEAR), v2.CenterCrop(FRAME)
    _, masks = cut(*turn(tv_tensors.Image(image), canvases))
    masks = masks[masks.flatten(1).any(1)]
    boxes = torchvision.ops.masks_to_boxes(masks)
    matches = torch.arange(ROIS) % len(masks)
    rois = torch.cat([matches[:, None].float(), boxes[matches]], dim=1)
    torchvision.ops.roi_align(masks[:, None].float(), rois, GRID, aligned=True)
    return len(masks)


METHODS = {"crops": by_crops, "canvases": by_canvases}


def peak_mib() -> float:
    """The most memory this process has had so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def measure(method: str, side: int, count: int) -> dict[str, float]:
    """In this process: seconds of one processor, and MiB above what drawing took."""
    torch.set_num_threads(1)
    METHODS[method](*drawn(200, 3))  # what only the first call costs
    image, objects = drawn(side, count)
    before, start = peak_mib(), time.process_time()
    seen = METHODS[method](image, objects)
    return {"objects": count, "seen": seen, "seconds": time.process_time() - start, "mib": peak_mib() - before}


def measured(method: str, side: int, count: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--worker", method, "--side", str(side), "--objects", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4000, help="of the image, px")
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--memory-gib", type=float, default=4.0, help="that the canvases may take")
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(measure(given.worker, given.side, given.objects)))
        return
    fitting = min(int(given.memory_gib * 2**30 / (COPIES * given.side**2)), given.objects)
    rows = {
        "crops": measured("crops", given.side, given.objects),
        "crops, as few": measured("crops", given.side, fitting),
        "canvases": measured("canvases", given.side, fitting),
    }
    print(f"A turned crop and {ROIS} targets from {given.side} x {given.side} pixels, one processor")
    print(f"{'':14}  {'objects':>7}  {'in crop':>7}  {'ms':>8}  {'MiB':>8}  {'ms/object':>9}  {'MiB/object':>10}")
    for name, row in rows.items():
        ms, mib, count = 1000 * row["seconds"], row["mib"], row["objects"]
        each = f"{ms / count:9.2f}  {mib / count:10.2f}"
        print(f"{name:14}  {count:7.0f}  {row['seen']:7.0f}  {ms:8.0f}  {mib:8.0f}  {each}")
    ours, theirs = rows["crops"], rows["canvases"]
    factor = given.objects / fitting
    print(
        f"Canvases of all {given.objects} objects would take {theirs['seconds'] * factor / ours['seconds']:,.0f} times "
        f"the time and {theirs['mib'] * factor / ours['mib']:,.0f} times the memory (scaled from {fitting} objects)."
    )


if __name__ == "__main__":
    main()
