"""How much of a YOLACT mask lies on other objects, with the cut and without, with the loss that penalises it or not.

`yolact_lite` is trained shortly from the same weights on the same images with `leak_weight` 0, which is the paper's
loss, and others. Then each object that it finds on images it has not seen belongs to the true object that it overlaps
most, and the rest of its mask is divided: what lies on other true objects has leaked.

    uncut    the sum of prototypes over the whole image
    box      cut with the box, as in the paper
    margin   cut with the box widened by an eighth on every side, as `yolact_lite` does it

    python benchmarks/leakage.py
    python benchmarks/leakage.py --backbone lite0.safetensors --train train.json --val val.json --steps 400

Without data, images of touching cells are generated.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from halfpixel.data.formats.detect import read_dataset
from halfpixel.data.images.prepare import normalise
from halfpixel.data.synthetic import touching_cells
from halfpixel.models.yolact import YOLACT, Settings, yolact_lite
from halfpixel.ops import boxes
from halfpixel.structures.images import ImageBatch, InputRules, Limits
from halfpixel.structures.targets import Targets
from halfpixel.train.augment.crops import Batches
from halfpixel.train.recipe import Recipe
from halfpixel.zoo.modelfile import load_backbone

Crops = Callable[[int], tuple[ImageBatch, Sequence[Targets]]]
"""The batch of each step."""

MARGIN = 0.125
CUTS = ("uncut", "box", "margin")
BATCH, MOST_STEPS = 4, 10**6


class Leak(NamedTuple):
    """What was found, summed over images.

    Attributes:
        leaked: pixels of masks on other objects, by cut.
        drawn: pixels of masks, by cut.
        ious: of each mask with its object, cut with the box and its margin.
        found: true objects that a mask covers with an IoU of .5 or more.
        true: true objects.
    """

    leaked: Tensor
    drawn: Tensor
    ious: list[float]
    found: int
    true: int


def generated(side: int, seed: int) -> Crops:
    """Pressed cells, other ones in each step."""

    def batch(step: int) -> tuple[ImageBatch, Sequence[Targets]]:
        seeds = [MOST_STEPS * BATCH * seed + BATCH * step + k for k in range(BATCH)]
        cells = [touching_cells((side, side), side * side // 700, touching=0.8, seed=one) for one in seeds]
        pictures = [torch.from_numpy(one.picture).permute(2, 0, 1) / 255 for one in cells]
        images = [normalise(picture, InputRules()) for picture in pictures]
        targets = [Targets.from_instances(one.objects, seed=k) for one, k in zip(cells, seeds, strict=True)]
        return ImageBatch.pad(images), targets

    return batch


def annotated(path: Path, side: int, seed: int, plain: bool) -> Crops:
    """Crops of annotated images; `plain` ones are not varied."""
    recipe = Recipe(images_per_step=BATCH, crop_px=side, seed=seed)
    if plain:
        recipe = Recipe(images_per_step=BATCH, crop_px=side, zoom=(1, 1), photometric=0, seed=seed)
    batches = Batches(read_dataset(path), InputRules(scale=2.0, longest_side=4200, stretch_below=0.3), recipe)
    return lambda step: batches[step][:2]


def trained(crops: Crops, steps: int, leak_weight: float, backbone: Path | None, seed: int) -> YOLACT:
    """A network after so many steps."""
    torch.manual_seed(seed)
    model = yolact_lite(("object",), Settings(mask_margin=MARGIN, leak_weight=leak_weight))
    if backbone is not None:
        load_backbone(model, backbone)
    optimiser = torch.optim.AdamW(model.train().parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps)
    for step in range(steps):
        images, targets = crops(step)
        total = torch.stack(list(model.losses(images, targets).values())).sum()
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def leakage(model: YOLACT, crops: Crops, batches: int) -> Leak:
    """Of all objects that score .5 or more."""
    leak = Leak(torch.zeros(len(CUTS)), torch.zeros(len(CUTS)), [], 0, 0)
    for step in range(batches):
        images, targets = crops(step)
        outputs = model(images.tensor, images.sizes_hw, Limits.of(0.5, 1000))
        for k, target in enumerate(targets):
            rows = outputs["image_index"] == k
            leak = _added(leak, _drawn(model, outputs, rows, target.size_hw), target)
    return leak


def _drawn(model: YOLACT, outputs: dict[str, Tensor], rows: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Masks of some objects by each cut, `[cuts, n, h, w]`."""
    maps = outputs["maps"][outputs["image_index"][rows]]
    logits = model.apply_kernels(maps, outputs["kernels"][rows], torch.zeros(len(maps), 2, dtype=torch.int64))
    whole = nn.functional.interpolate(logits[:, None], scale_factor=model.map_stride, mode="bilinear")[:, 0] > 0
    whole = whole[:, : size_hw[0], : size_hw[1]]
    y, x = (torch.arange(side) + 0.5 for side in size_hw)
    cuts = [whole]
    for margin in (0, MARGIN):
        x0, y0, x1, y1 = boxes.expand(outputs["boxes_xyxy"][rows], margin)[:, :, None, None].unbind(1)
        cuts.append(whole & (x >= x0) & (x < x1) & (y[:, None] >= y0) & (y[:, None] < y1))
    return torch.stack(cuts)


def _added(leak: Leak, drawn: Tensor, target: Targets) -> Leak:
    labels = target.label_map()
    truth = labels == torch.arange(1, len(target) + 1)[:, None, None]
    shared = drawn.flatten(2).float() @ truth.flatten(1).float().T  # [cuts, n, truths]
    areas, true_areas = drawn.sum((2, 3)), truth.sum((1, 2))
    if len(target) == 0 or drawn.shape[1] == 0:
        return leak._replace(true=leak.true + len(target))
    ious = shared[2] / (areas[2, :, None] + true_areas - shared[2])
    best, own = ious.max(1)
    hits = best > 0
    own_pixels = shared[:, torch.arange(len(own)), own]
    return Leak(
        leak.leaked + (shared.sum(2) - own_pixels)[:, hits].sum(1),
        leak.drawn + areas[:, hits].sum(1),
        leak.ious + best[hits].tolist(),
        leak.found + int((ious >= 0.5).any(0).sum()),
        leak.true + len(target),
    )


def runs(given: argparse.Namespace) -> Iterator[tuple[float, int, Leak]]:
    """Each weight and seed, and what came of it."""
    for seed in range(given.seeds):
        for weight in given.weights:
            learnt = annotated(given.train, given.side, seed, False) if given.train else generated(given.side, 1 + seed)
            model = trained(learnt, given.steps, weight, given.backbone, seed)
            unseen = annotated(given.val, given.side, 0, True) if given.val else generated(given.side, 0)
            yield weight, seed, leakage(model, unseen, given.batches)


def main() -> None:
    """Print a line for each run as it comes, then the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="annotations; default generated cells")
    parser.add_argument("--val", type=Path, help="annotations of other images")
    parser.add_argument("--backbone", type=Path, help="ImageNet weights of EfficientNet-Lite0 under timm's names")
    parser.add_argument("--weights", type=float, nargs="+", default=[0.0, 4.0], help="leak_weight")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--side", type=int, default=128, help="of a crop, px; 4 in a step")
    parser.add_argument("--batches", type=int, default=20, help="of unseen crops")
    given = parser.parse_args()
    print("share of mask pixels on other objects; median IoU with the own one; true objects found at an IoU of .5")
    print(
        f"{'leak_weight':>11} {'seed':>5} " + "".join(f"{cut:>9}" for cut in CUTS) + f"{'IoU':>8}{'found':>8}{'n':>6}"
    )
    rows: dict[float, list[list[float]]] = {weight: [] for weight in given.weights}
    for weight, seed, leak in runs(given):
        shares = (leak.leaked / leak.drawn.clamp(min=1)).tolist()
        row = [*shares, statistics.median(leak.ious or [0.0]), leak.found / max(leak.true, 1)]
        rows[weight].append(row)
        print(_line(f"{weight:>11g} {seed:>5}", row) + f"{len(leak.ious):>6}", flush=True)
    for weight, found in rows.items():
        print(_line(f"{weight:>11g} {'mean':>5}", [statistics.mean(column) for column in zip(*found, strict=True)]))


def _line(start: str, row: Sequence[float]) -> str:
    *shares, iou, found = row
    return f"{start} " + "".join(f"{100 * share:>8.2f}%" for share in shares) + f"{iou:>8.3f}{found:>8.3f}"


if __name__ == "__main__":
    main()
