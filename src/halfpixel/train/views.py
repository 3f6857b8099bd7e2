"""Random views of annotated images, as a network is trained on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from halfpixel.data import transforms
from halfpixel.data.images import read_image
from halfpixel.data.sample import Dataset, Sample
from halfpixel.engine.preprocess import network_size, normalise, stretch, to_float
from halfpixel.errors import AnnotationError, ImageError
from halfpixel.structures.images import ImageBatch, InputRules
from halfpixel.structures.targets import Targets
from halfpixel.train.recipe import Recipe


def random_view(
    sample: Sample, rules: InputRules, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """A random crop of one image, randomly scaled, turned, mirrored and lit, as network input `[3, h, w]`."""
    pixels = read_image(sample.path)
    if pixels.shape[:2] != sample.size_hw:
        raise ImageError(f"{sample.path}: {pixels.shape[:2]} pixels high and wide, annotated as {sample.size_hw}")
    image = stretch(to_float(pixels), rules.stretch_below)
    view = transforms.View(image, sample.objects, sample.ignored)

    low, high = (math.log(bound) for bound in recipe.zoom)
    zoom = math.exp(low + (high - low) * float(torch.rand(1, generator=generator)))
    factor = network_size(sample.size_hw, rules)[0] * zoom
    window = max(round(recipe.crop_px / factor), 1)
    height, width = (min(window, side) for side in sample.size_hw)
    top = int(torch.randint(sample.size_hw[0] - height + 1, (1,), generator=generator))
    left = int(torch.randint(sample.size_hw[1] - width + 1, (1,), generator=generator))
    view = transforms.crop(view, left, top, height, width)

    turns, mirrored = torch.randint(4, (1,), generator=generator), torch.randint(2, (1,), generator=generator)
    view = transforms.dihedral(view, int(turns), bool(mirrored))
    if recipe.photometric > 0:
        lit = transforms.photometric(view.image, generator, recipe.photometric)
        view = transforms.View(lit, view.objects, view.ignored)
    size_h, size_w = (min(max(round(side * factor), 1), recipe.crop_px) for side in view.image.shape[1:])
    view = transforms.resize(view, (size_h, size_w))
    return normalise(view.image, rules), Targets(view.objects, view.ignored.boxes_xyxy)


def batches(
    dataset: Dataset, rules: InputRules, recipe: Recipe, first_step: int = 0
) -> Iterator[tuple[ImageBatch, Sequence[Targets], Sequence[Sample]]]:
    """An endless sequence of batches, the same for the same seed.

    Each pass over the data is a new random order, or a new draw where the recipe balances.
    What happens to an image depends on the seed, the step and the
    image's place in the batch alone, so a run can be taken up at any step.
    """
    step = first_step
    n = len(dataset.samples)
    weights = _balance(dataset, recipe.balance)
    while True:
        samples, views = [], []
        for place in range(recipe.images_per_step):
            epoch, position = divmod(step * recipe.images_per_step + place, n)
            order = torch.multinomial(
                weights, n, replacement=bool(recipe.balance), generator=_generator(recipe.seed, epoch, 0, "order")
            )
            sample = dataset.samples[int(order[position])]
            samples.append(sample)
            views.append(random_view(sample, rules, recipe, _generator(recipe.seed, step, place, "view")))
        yield ImageBatch.pad([image for image, _ in views], rules.divisor), [t for _, t in views], samples
        step += 1


def _balance(dataset: Dataset, attribute: str) -> Tensor:
    """How often to draw each image, relatively.

    Raises:
        AnnotationError: no image has the attribute.
    """
    if not attribute:
        return torch.ones(len(dataset.samples))
    values = [str(sample.attributes.get(attribute)) for sample in dataset.samples]
    if not any(attribute in sample.attributes for sample in dataset.samples):
        raise AnnotationError(f"{dataset.path}: no image has the attribute {attribute!r} to balance by")
    numbers = Counter(values)
    return torch.tensor([numbers[value] ** -0.5 for value in values])


def _generator(seed: int, step: int, place: int, purpose: str) -> torch.Generator:
    mixed = (seed * 1_000_003 + step) * 1_009 + place * 2 + (purpose == "order")
    return torch.Generator().manual_seed(mixed)
