"""Teaches a network how large objects are, on images enlarged and reduced at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from torch import Tensor, nn

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.images.prepare import exposure_gain, halved, to_float
from halfpixel.data.images.rgb8 import read_image
from halfpixel.engine.backends.folding import fold
from halfpixel.errors import AnnotationError
from halfpixel.nn.size_network import BINS_PER_OCTAVE, CELL_PX, N_BINS, SMALLEST_PX, SizeNetwork
from halfpixel.structures.diameters import equivalent_diameters
from halfpixel.structures.field_check import Count, Share, check_fields
from halfpixel.train.augment.crops import image_weights
from halfpixel.train.augment.photometric import blur, photometric

CROP_PX = 128

OCTAVES = (-3.0, 3.3)
"""By how many octaves images are enlarged, at least and at most: from where no object is as large as the network knows
any to where none is as small."""

ENLARGED_TWICE = 0.4
"""So many of the crops are made as the finest level of a `SizeFinder` is: enlarged twice from pixels of a camera."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SizeRecipe:
    """How a network that says how large objects are is trained.

    Attributes:
        steps: of the optimiser.
        crops: of 128 x 128 pixels, in a step.
        learning_rate: of AdamW, the highest; a warm-up of a tenth of the steps, then a cosine to 0.
        weight_decay: likewise.
        balance: an attribute of the images: those with rarer values of it are drawn more often, see `Recipe.balance`.
        stretch_below: an image whose 99.9th percentile (0..1 scale) is under this is brightened until it reaches it.
        seed: decides everything that is random.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    steps: Count = 1500
    crops: Count = 16
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 3e-3
    weight_decay: Annotated[float, Meta(ge=0, le=1)] = 0.01
    balance: str | None = None
    stretch_below: Share = 0.3
    seed: Annotated[int, Meta(ge=0, lt=2**31)] = 0

    def __post_init__(self) -> None:
        check_fields(self)


def train_size_network(
    dataset: Dataset, recipe: SizeRecipe, report: Callable[[int, float], None] = lambda step, loss: None
) -> SizeNetwork:
    """Train a network on all of a data set, whatever the classes.

    All images are in memory meanwhile, as bytes and four times as many for what is annotated on them.

    Args:
        dataset: annotated images; objects without masks are left out.
        recipe: how.
        report: is told of each step and its loss.

    Returns:
        A network without normalisations, in evaluation mode.

    Raises:
        AnnotationError: there are no images, or none has the attribute to balance by.
        ImageError: an image cannot be used.
    """
    if not dataset.samples:
        raise AnnotationError(f"{dataset.path}: there are no images to learn sizes from")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    scenes = [_Scene.of(sample, recipe.stretch_below) for sample in dataset.samples]
    weights = image_weights(dataset, recipe.balance)
    network = SizeNetwork(nn.BatchNorm2d).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    warm_up = max(recipe.steps // 10, 1)
    for step in range(1, recipe.steps + 1):
        progress = max(step - warm_up, 0) / max(recipe.steps - warm_up, 1)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * min(step / warm_up, 0.5 + 0.5 * math.cos(math.pi * progress))
        chosen = torch.multinomial(weights, recipe.crops, replacement=True, generator=generator)
        images, targets, known = _batch([scenes[k] for k in chosen.tolist()], generator)
        loss = size_loss(network(images.contiguous(memory_format=torch.channels_last)), targets, known)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        report(step, float(loss.detach()))
    return without_norms(network)


def size_loss(logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy between what a network says of cells and what covers them.

    Args:
        logits: `[b, 1 + bins, h, w]`.
        targets: likewise, shares that add up to 1.
        known: `[b, h, w]` how much of each cell is annotated, 0..1.
    """
    losses = -(targets * logits.log_softmax(1)).sum(1)
    return (losses * known).sum() / known.sum().clamp(min=1)


def without_norms(network: SizeNetwork) -> SizeNetwork:
    """A copy that computes the same in evaluation mode, its normalisations folded into the convolutions."""
    plain = SizeNetwork()
    state = {name: tensor for name, tensor in network.state_dict().items() if ".norm." not in name}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            of = name.removesuffix("norm") + "conv"
            state[f"{of}.weight"], state[f"{of}.bias"] = fold(state[f"{of}.weight"], None, module)
    plain.load_state_dict(state)
    return plain.eval()


@dataclass(frozen=True, eq=False)
class _Scene:
    """An annotated image.

    Attributes:
        levels: `[h, w, 3]` bytes, each half as large as the one before.
        gain: what it is to be multiplied by.
        octaves: `[h, w]` log2 of the diameter, in pixels, of the object at each pixel; minus infinity where there is
            none, NaN where that is not known.
    """

    levels: tuple[npt.NDArray[np.uint8], ...]
    gain: float
    octaves: Floats

    @classmethod
    def of(cls, sample: Sample, stretch_below: float) -> _Scene:
        levels = [read_image(sample.path)]
        while len(levels) <= -OCTAVES[0] and min(levels[-1].shape[:2]) > 1:
            levels.append(halved(levels[-1]))
        octaves = np.full(levels[0].shape[:2], -np.inf, dtype=np.float32)
        for objects, is_known in ((sample.ignored, False), (sample.objects, True)):
            if objects.masks is None:
                continue
            diameters = equivalent_diameters(objects.masks.areas_px().numpy())
            for crop, (x, y), diameter in zip(
                objects.masks.crops, objects.masks.offsets_xy.tolist(), diameters, strict=True
            ):
                if crop.numel():
                    window = octaves[y : y + crop.shape[0], x : x + crop.shape[1]]
                    window[crop.numpy()] = math.log2(diameter) if is_known else np.nan
        return cls(tuple(levels), exposure_gain(levels[0], stretch_below), octaves)


def _batch(scenes: Sequence[_Scene], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Random crops `[b, 3, 128, 128]` of scenes, and what covers their cells, see `size_loss`."""
    crops = [_random_crop(scene, generator) for scene in scenes]
    targets, known = cell_shares(torch.stack([octaves for _, octaves in crops]))
    return torch.stack([image for image, _ in crops]), targets, known


def cell_shares(octaves: Tensor) -> tuple[Tensor, Tensor]:
    """What covers each cell.

    Args:
        octaves: `[b, h, w]` log2 of the diameter at each pixel of the network's input, as for `_Scene.octaves`.

    Returns:
        `[b, 1 + bins, h / 8, w / 8]` the shares of nothing (or what is smaller or larger than the network knows) and
        of each diameter, a diameter between two counting as the nearer one in part; and `[b, h / 8, w / 8]` how much
        of each cell is known.
    """
    places = (octaves - math.log2(SMALLEST_PX)) * BINS_PER_OCTAVE
    inside = (places >= -0.5) & (places <= N_BINS - 0.5)
    places = torch.where(inside, places.clamp(0, N_BINS - 1), -1.0)
    low = places.floor().clamp(max=N_BINS - 2)
    upper = places - low
    b, height, width = octaves.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    cells = (torch.arange(height) // CELL_PX)[:, None] * columns + torch.arange(width) // CELL_PX
    slots = (torch.arange(b)[:, None, None] * rows * columns + cells) * (N_BINS + 1) + 1 + low.long()
    is_known = (~octaves.isnan()).double() / CELL_PX**2
    n = b * rows * columns * (N_BINS + 1)
    shares = torch.bincount(slots.ravel(), (is_known * (1 - upper)).ravel(), n)
    shares = shares + torch.bincount(slots.ravel() + (upper > 0).ravel(), (is_known * upper).ravel(), n)
    shares = shares.reshape(b, rows, columns, N_BINS + 1).permute(0, 3, 1, 2).float()
    known = shares.sum(1)
    return shares / known.clamp(min=1e-6)[:, None], known


def _random_crop(scene: _Scene, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`[3, 128, 128]` of a scene enlarged or reduced at random, and `[128, 128]` log2 of the diameters in it."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    twice = uniform(0, 1) < ENLARGED_TWICE
    camera_px = CROP_PX // 2 if twice else CROP_PX
    octaves = uniform(*OCTAVES) - twice
    k = min(max(math.floor(-octaves), 0), len(scene.levels) - 1)
    level = scene.levels[k]
    side = max(round(camera_px / 2 ** (octaves + k)), 1)
    top, left = (
        int(torch.randint(length - side + 1 if side <= length else length, (1,), generator=generator))
        for length in level.shape[:2]
    )
    rows, columns = (
        _mirrored(start + np.arange(side), length) for start, length in zip((top, left), level.shape[:2], strict=True)
    )
    image = _resized(to_float(level[np.ix_(rows, columns)], scene.gain), camera_px)
    if camera_px > side and not (twice and camera_px < 2 * side):
        # no camera sees more detail through a stronger objective
        image = blur(image, max(uniform(0, 0.5) * camera_px / side, 0.1))
    image = photometric(image, generator)
    if twice:
        image = nn.functional.interpolate(image[None], scale_factor=2.0, mode="bilinear")[0]
    seen = (np.arange(CROP_PX) + 0.5) * (side / CROP_PX)
    y, x = (
        _mirrored(np.floor((start + seen) * 2**k).astype(np.int64), length)
        for start, length in zip((top, left), scene.octaves.shape, strict=True)
    )
    factor = CROP_PX / side / 2**k  # of the crop to the image
    return image, torch.from_numpy(scene.octaves[np.ix_(y, x)]) + math.log2(factor)


def _resized(image: Tensor, side: int) -> Tensor:
    """Square images of another size: antialiased where they become smaller."""
    if image.shape[1] == side:
        return image
    smaller = side < image.shape[1]
    mode = "bilinear" if smaller else "bicubic"
    resized = nn.functional.interpolate(image[None], (side, side), mode=mode, antialias=smaller)[0]
    return resized.clamp(0, 1)


def _mirrored(places: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Places beyond the border of an image as in a mirror."""
    places = np.mod(places, 2 * length)
    return np.minimum(places, 2 * length - 1 - places)
