"""Small scenes and networks whose untrained outputs are worth comparing."""

import dataclasses
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from halfpixel import models
from halfpixel.nn.network import Network
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.structures.targets import Targets

CLASSES = ("disc", "square")

FEW = {
    "proposals_per_level": 200,
    "proposals": 36,
    "training_proposals_per_level": 100,
    "training_proposals": 30,
    "anchor_samples": 64,
    "region_samples": 24,
}
"""Settings that keep large networks quick."""

SPREADS = {"deltas": 0.5, "maps": 4.0, "output": 0.2, "distances": 0.2, "filters": 0.5}
"""Standard deviations of what some output layers say, by the ends of their names; the others have 2."""

MEANS = {"distances": 0.6}
"""Of what they say; the others have 0."""

models.__path__.append(str(Path(__file__).parent / "toy_models"))  # a new model is a new file there, and no more


def few(module: ModuleType, **changes: object) -> object:
    """The module's `Settings`, with less of everything where it has such a field."""
    fields = {field.name for field in dataclasses.fields(module.Settings)}
    return module.Settings(**{name: value for name, value in (FEW | changes).items() if name in fields})


def weights(module: ModuleType, variant: str) -> int:
    """How many it has; they are not filled."""
    with torch.device("meta"):
        return sum(p.numel() for p in module.VARIANTS[variant](CLASSES, few(module)).parameters())


def smallest(module: ModuleType, **changes: object) -> Network:
    """The module's variant with the fewest weights."""
    variant = min(module.VARIANTS, key=lambda name: weights(module, name))
    model: Network = module.VARIANTS[variant](CLASSES, few(module, **changes))
    return model


def enliven(model: Network, images: Tensor) -> Network:
    """Rescale each output layer until what it says of some images has a useful spread: fresh ones say all the same."""
    sizes_hw = torch.tensor([images.shape[2:]] * len(images))
    for name in model.output_layers:  # in the order in which they speak: each changes what the next ones see
        layer, heard = model.get_submodule(name), list[Tensor]()
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        assert layer.bias is not None
        channel = 1 if isinstance(layer, nn.Conv2d) else -1
        hook = layer.register_forward_hook(
            lambda _, __, out, heard=heard, channel=channel: heard.append(out.movedim(channel, 0).flatten(1))
        )
        with torch.no_grad():
            model(images, sizes_hw, Limits.of(0.0, 20))
            if not heard:
                continue  # it speaks in training alone
            said = torch.cat(heard, dim=1)  # of each pyramid level
            kind = name.rstrip(".0123456789").rpartition(".")[2]  # without the number of its level
            spread = SPREADS.get(kind, 2.0)
            factors = spread / said.std(dim=1).clamp(min=1e-12)
            layer.weight.mul_(factors.reshape(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.sub_(said.mean(dim=1)).mul_(factors).add_(MEANS.get(kind, 0.0))
        hook.remove()
    return model


def scene(side: int = 128, objects: int = 4, seed: int = 0, larger: float = 1.0) -> tuple[Tensor, Targets]:
    """An image `[3, side, side]`, normalised, with red discs and blue squares that do not overlap, unless enlarged."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    image = 0.2 * torch.randn(3, side, side, generator=generator) - 1
    masks, labels = [], []
    cells = [(side / 4 + side / 2 * (k % 2), side / 4 + side / 2 * (k // 2 % 2)) for k in range(objects)]
    for k, (cx, cy) in enumerate(cells):
        jitter, radius = (torch.rand(2, generator=generator) - 0.5) * side / 8, larger * side * (0.11 + 0.02 * k)
        dx, dy = (x - cx - jitter[0]).abs(), (y - cy - jitter[1]).abs()
        mask = dx**2 + dy**2 < radius**2 if k % 2 == 0 else torch.maximum(dx, dy) < 0.8 * radius
        image[:, mask] += torch.tensor([3.0, 1.0, 0.0] if k % 2 == 0 else [0.0, 1.0, 3.0])[:, None]
        masks.append(mask)
        labels.append(k % 2)
    dense = torch.stack(masks) if masks else torch.zeros(0, side, side, dtype=torch.bool)
    return image, Targets.from_instances(annotated(dense, torch.tensor(labels, dtype=torch.int64)), seed=seed)


def dense_masks(targets: Targets) -> Tensor:
    """The full canvases `[n, h, w]` of targets whose input is the annotated image as it is."""
    canvas = torch.zeros(len(targets), *targets.size_hw, dtype=torch.bool)
    for full, mask in zip(canvas, targets.masks, strict=True):
        (x, y), (height, width) = mask.offset_xy, mask.crop.shape
        full[y : y + height, x : x + width] = mask.crop
    return canvas


def annotated(dense: Tensor, labels: Tensor) -> Instances:
    """Objects from full-canvas masks, with tight boxes."""
    masks = CropMasks.from_dense(dense)
    return Instances(masks.size_hw, masks.boxes_xyxy(), torch.ones(len(masks)), labels, CLASSES, masks)


def batch_of(*images: Tensor) -> ImageBatch:
    """Padded to one size."""
    return ImageBatch.pad(images)


def modules() -> list[ModuleType]:
    """Every file of `halfpixel.models`."""
    import importlib
    import pkgutil

    return [
        importlib.import_module(f"halfpixel.models.{found.name}") for found in pkgutil.iter_modules(models.__path__)
    ]


def widest_gap(scores: Tensor) -> float:
    """The middle of it, among the middle third: rounding takes no score from one side to the other."""
    middle = scores.sort().values[len(scores) // 3 : 2 * len(scores) // 3]
    k = int(middle.diff().argmax())
    return float(middle[k : k + 2].mean())
