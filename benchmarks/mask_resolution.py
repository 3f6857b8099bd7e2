"""What finer masks are worth, and what a tight box cuts off.

`train`: `mask_rcnn_lite` and `point_rend_lite` from the same weights, on the same generated images of cog wheels, small
and large, for the same number of steps; then boundary AP on images of large ones (more than 96 pixels a side) and of
small ones. Cogs are details that a grid of 28 x 28 cells loses once it is stretched over a large object.

`clipped`: of a data set's objects that a model finds, how many have pixels outside of the box that the model predicts,
and how much of them; with the box as it is and with the margin that the model's mask head looks at.

    python benchmarks/mask_resolution.py train --steps 300 --seeds 0 1
    python benchmarks/mask_resolution.py clipped val.json --model nuclei
"""

import argparse
import dataclasses
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

import halfpixel
from halfpixel.data.dataset import Dataset
from halfpixel.data.synthetic import Cells
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.coco.average_precision import coco_ap
from halfpixel.evaluation.coco.boundary_ap import boundary_ap
from halfpixel.ops import boxes
from halfpixel.outputs.synthetic_cells import write_cells
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.train.loop import train_network
from halfpixel.train.recipe import Recipe
from halfpixel.train.start import Start
from halfpixel.zoo.modelfile import ModelInfo, build, load_model, settings_of
from halfpixel.zoo.names import locate

SIDE_PX = 320
LARGE_PX, SMALL_PX = (56.0, 75.0), (12.0, 40.0)
"""Mean radii: the first are wider than 96 pixels."""
VARIANTS = ("mask_rcnn_lite", "point_rend_lite")
LIMIT = 100
LOWEST_SCORE = 0.05


def cog_wheels(radii_px: tuple[float, float], most: int, seed: int) -> Cells:
    """An image of objects whose outline goes in and out, none of which touch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5
    labels, light = np.zeros((SIDE_PX, SIDE_PX), np.int32), np.full((SIDE_PX, SIDE_PX), 0.12)
    placed: list[tuple[float, float, float]] = []
    for _ in range(60):
        radius = rng.uniform(*radii_px)
        cx, cy = rng.uniform(radius, SIDE_PX - radius, 2)
        if len(placed) == most or any(math.hypot(cx - a, cy - b) < 1.3 * (radius + c) for a, b, c in placed):
            continue
        placed.append((cx, cy, radius))
        around = np.arctan2(y - cy, x - cx)
        rim = 1 + rng.uniform(0.12, 0.22) * np.cos(rng.integers(6, 12) * around + rng.uniform(0, 2 * math.pi))
        inside = np.hypot(x - cx, y - cy) < radius * rim
        labels[inside] = len(placed)
        light[inside] = rng.uniform(0.4, 0.8)
    light = gaussian_filter(light, 0.7) * (1 + 0.25 * gaussian_filter(rng.standard_normal(light.shape), 1.5))
    grey = np.clip(255 * (light + 0.03 * rng.standard_normal(light.shape)), 0, 255).astype(np.uint8)
    masks = CropMasks.from_label_image(torch.from_numpy(labels))
    ones = torch.ones(len(masks))
    objects = Instances((SIDE_PX, SIDE_PX), masks.boxes_xyxy(), ones, torch.zeros(len(masks)).long(), ("cog",), masks)
    return Cells(np.repeat(grey[..., None], 3, axis=2), objects)


def data_sets(folder: Path, training: int, held_out: int) -> dict[str, Dataset]:
    """`train`, `large` and `small`."""
    kinds = (LARGE_PX, 3), (SMALL_PX, 10)
    images = {
        "train": [cog_wheels(*kinds[k % 2], seed=k) for k in range(training)],
        "large": [cog_wheels(*kinds[0], seed=10_000 + k) for k in range(held_out)],
        "small": [cog_wheels(*kinds[1], seed=20_000 + k) for k in range(held_out)],
    }
    return {name: halfpixel.read_coco(write_cells(folder / name, given)) for name, given in images.items()}


def trained(variant: str, dataset: Dataset, seed: int, steps: int, out: Path) -> Predictor:
    """One of the two, from the weights of `nuclei`; a point head is new."""
    torch.manual_seed(seed)
    before, info = load_model(locate("nuclei"))
    network = build(variant, dataset.class_names)
    missing, unexpected = network.load_state_dict(before.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("point_head.") for name in missing)
    rules = InputRules(mean=info.input.mean, std=info.input.std, scale=1.0, longest_side=4 * SIDE_PX)
    described = ModelInfo(variant, dataset.class_names, input=rules, settings=settings_of(network))
    recipe = Recipe(
        steps=steps, images_per_step=2, crop_px=SIDE_PX, zoom=(0.9, 1.1), seed=seed, ema_decay=0.98, learning_rate=5e-4
    )
    train_network(Start(network, described), dataset, recipe, out)
    return Predictor(*load_model(out / "model.safetensors"))


def measured(predictor: Predictor, dataset: Dataset) -> dict[str, float | None]:
    """Boundary AP and mask AP, in 0..100."""
    found = [predictor.predict(s.path, threshold=LOWEST_SCORE, limit=LIMIT) for s in dataset.samples]
    boundary = boundary_ap(dataset, found, max_detections=LIMIT)
    mask = coco_ap(dataset, found, kind="mask", max_detections=LIMIT)
    return {"boundary_ap": boundary.ap, "boundary_ap75": boundary.ap75, "mask_ap": mask.ap}


def compare(variants: list[str], steps: int, seeds: list[int], training: int, held_out: int) -> list[dict[str, Any]]:
    """A row for each variant, seed and size of the objects."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        sets = data_sets(Path(folder), training, held_out)
        for seed in seeds:
            for variant in variants:
                began = time.perf_counter()
                predictor = trained(variant, sets["train"], seed, steps, Path(folder) / f"{variant}_{seed}")
                seconds = time.perf_counter() - began
                for size in ("large", "small"):
                    row = {"variant": variant, "seed": seed, "objects": size} | measured(predictor, sets[size])
                    rows.append(row | {"training_s": round(seconds)})
                    print(json.dumps(rows[-1]), flush=True)
    return rows


def clipped(dataset: Dataset, predictor: Predictor, margin: float) -> dict[str, float]:
    """How predicted boxes cut the true masks of the objects that they find (IoU of the boxes at least .5).

    Returns:
        The share of objects with any pixel outside, of those with more than 1% and more than 5% of their area outside,
        and the mean share of area outside; for the box as it is and widened by `margin`.
    """
    told = dataclasses.replace(predictor.model.settings, mask_margin=0.0)  # boxes stay what the box head says
    predictor.model.settings = told
    outside: dict[str, list[float]] = {"tight": [], "margin": []}
    for sample in dataset.samples:
        found = predictor.predict(sample.path)
        assert sample.objects.masks is not None
        overlap = boxes.iou(sample.objects.boxes_xyxy, found.boxes_xyxy)
        if not overlap.numel():
            continue
        best, which = overlap.max(1)
        for k in torch.nonzero(best >= 0.5).ravel().tolist():
            (crop, (x, y)) = next(iter(sample.objects.masks[torch.tensor([k])].placed()))
            rows, columns = torch.nonzero(crop, as_tuple=True)
            points = torch.stack([columns + x, rows + y], 1) + 0.5
            for name, by in (("tight", 0.0), ("margin", margin)):
                left, top, right, bottom = boxes.expand(found.boxes_xyxy[which[k]], by).tolist()
                within = (
                    (points[:, 0] >= left) & (points[:, 0] < right) & (points[:, 1] >= top) & (points[:, 1] < bottom)
                )
                outside[name].append(1 - float(within.float().mean()))
    result: dict[str, float] = {"objects": len(outside["tight"])}
    for name, shares in outside.items():
        values = np.array(shares)
        result[f"{name}_any"], result[f"{name}_mean_area"] = float((values > 0).mean()), float(values.mean())
        result[f"{name}_over_1%"], result[f"{name}_over_5%"] = (float((values > t).mean()) for t in (0.01, 0.05))
    return result


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    train = parts.add_parser("train")
    train.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    train.add_argument("--steps", type=int, default=300)
    train.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    train.add_argument("--training-images", type=int, default=60)
    train.add_argument("--held-out-images", type=int, default=20)
    clip = parts.add_parser("clipped")
    clip.add_argument("data", type=Path)
    clip.add_argument("--model", default="nuclei")
    clip.add_argument("--margin", type=float, default=0.125)
    given = parser.parse_args()
    if given.part == "train":
        compare(given.variants, given.steps, given.seeds, given.training_images, given.held_out_images)
    else:
        model = halfpixel.load(given.model).without_size_finder()
        print(json.dumps(clipped(halfpixel.read_coco(given.data), model, given.margin), indent=1))


if __name__ == "__main__":
    main()
