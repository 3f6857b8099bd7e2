"""Random crops of annotated images, as a network is trained on them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.images.prepare import exposure_gain, network_size, normalise, to_float
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import AnnotationError, ArgumentError, ImageError
from halfpixel.ops import affine
from halfpixel.structures.images import ImageBatch, InputRules
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets
from halfpixel.train.augment.photometric import photometric
from halfpixel.train.augment.stain import Stain, draw_stain, is_fluorescence, stained
from halfpixel.train.augment.warp import resample, shrink
from halfpixel.train.object_sizes import KnownSizes
from halfpixel.train.recipe import Recipe

PASTED_SHARE = 0.5
"""How many of another image's objects in the crop are pasted, on average, where any are."""


def random_crop(
    sample: Sample,
    rules: InputRules,
    recipe: Recipe,
    generator: torch.Generator,
    donors: Sequence[Sample] = (),
    sizes: KnownSizes | None = None,
) -> tuple[Tensor, Targets]:
    """A random crop of one image, randomly scaled, turned, mirrored and exposed, perhaps stained and pasted into.

    All that is geometric becomes one map, through which the image is resampled once and masks are never resampled at
    all: targets are read off the annotated masks.

    Args:
        sample: the image.
        rules: of the model.
        recipe: how much of everything.
        generator: the source of all randomness.
        donors: images whose objects may be pasted.
        sizes: at which size images are shown; None for the model's own scale.

    Returns:
        Network input `[3, h, w]`, no side longer than the recipe's crop, 0 outside of the image; and its targets.

    Raises:
        ImageError: an image cannot be read or has another size than annotated.
    """
    to_source, size_hw = _random_map(sample, rules, recipe, generator, sizes)
    stain = None
    if recipe.stain and float(torch.rand(1, generator=generator)) < recipe.stain:
        stain = draw_stain(generator)
    image = _resampled(sample, to_source, size_hw, rules, recipe, generator, stain)
    targets = Targets.seen(sample.objects, sample.ignored, to_source, size_hw)
    if donors and recipe.copy_paste and float(torch.rand(1, generator=generator)) < recipe.copy_paste:
        donor = donors[int(torch.randint(len(donors), (1,), generator=generator))]
        pasted_map, _ = _random_map(donor, rules, recipe, generator, sizes)
        image, targets = _paste(image, targets, donor, pasted_map, rules, recipe, generator, stain)
    return image, replace(targets, seed=int(torch.randint(2**31, (1,), generator=generator)))


def _random_map(
    sample: Sample, rules: InputRules, recipe: Recipe, generator: torch.Generator, sizes: KnownSizes | None
) -> tuple[Tensor, tuple[int, int]]:
    """From the network's input to an image, and the input's size."""

    def draw(numbers: int) -> int:
        return int(torch.randint(numbers, (1,), generator=generator))

    source_hw = sample.size_hw
    low, high = (math.log(bound) for bound in recipe.zoom)
    zoom = math.exp(low + (high - low) * float(torch.rand(1, generator=generator)))
    known = None if sizes is None else sizes.scale(sample)
    factor = zoom * (network_size(source_hw, rules)[0] if known is None else known)
    side = max(round(recipe.crop_px / factor), 1)
    height, width = (min(side, length) for length in source_hw)
    top, left = draw(source_hw[0] - height + 1), draw(source_hw[1] - width + 1)
    turns = draw(4) if recipe.quarter_turns else 0
    mirrored = recipe.mirror and draw(2) == 1
    degrees = 0.0
    if recipe.rotation:
        degrees = recipe.rotation * (2 * float(torch.rand(1, generator=generator)) - 1)
    turned_hw = (width, height) if turns % 2 else (height, width)
    size_h, size_w = (min(max(round(length * factor), 1), recipe.crop_px) for length in turned_hw)
    to_source = affine.compose(
        affine.shift(left + width / 2, top + height / 2),
        affine.scale(-1 if mirrored else 1, 1),
        affine.rotate(90 * turns + degrees),
        affine.scale(turned_hw[1] / size_w, turned_hw[0] / size_h),
        affine.shift(-size_w / 2, -size_h / 2),
    )
    return to_source, (size_h, size_w)


def _resampled(
    sample: Sample,
    to_source: Tensor,
    size_hw: tuple[int, int],
    rules: InputRules,
    recipe: Recipe,
    generator: torch.Generator,
    stain: Stain | None,
    cover: Tensor | None = None,
) -> Tensor:
    """The image (and a fourth channel `cover [h, w]`, where given) through a map, of random exposure, normalised.

    Fluorescence is stained, where there is a stain, before all else that a slide or a camera may do to a picture.
    """
    pixels = read_image(sample.path)
    if pixels.shape[:2] != sample.size_hw:
        raise ImageError(f"{sample.path}: {pixels.shape[:2]} pixels high and wide, annotated as {sample.size_hw}")
    rows, columns = affine.source_window(to_source, size_hw, sample.size_hw)
    window = to_float(pixels[rows, columns], exposure_gain(pixels, rules.stretch_below))
    if cover is not None:
        window = torch.cat([window, cover[None, rows, columns].float()])
    window, to_window = shrink(window, affine.compose(affine.shift(-columns.start, -rows.start), to_source))
    colours = window[:3]
    if stain is not None and is_fluorescence(colours, float(pixels.mean()) / 255):
        labels = _labels(sample.objects, rows, columns, (colours.shape[1], colours.shape[2]))
        colours = stained(colours, labels, stain, generator)
    if recipe.photometric > 0:
        colours = photometric(colours, generator, recipe.photometric)
    return resample(torch.cat([normalise(colours, rules), window[3:]]), to_window, size_hw)


def _labels(objects: Instances, rows: slice, columns: slice, size_hw: tuple[int, int]) -> Tensor:
    """Which object each pixel of a window shows, from 1 (0 for none), after the window was resized."""
    assert objects.masks is not None, "training needs masks"
    window_hw = (rows.stop - rows.start, columns.stop - columns.start)
    labels = objects.masks.translate(-columns.start, -rows.start, window_hw).label_image()
    if window_hw == size_hw:
        return labels
    resized = torch.nn.functional.interpolate(labels[None, None].double(), size=size_hw, mode="nearest-exact")
    return resized[0, 0].to(labels.dtype)


def _paste(
    image: Tensor,
    targets: Targets,
    donor: Sample,
    to_source: Tensor,
    rules: InputRules,
    recipe: Recipe,
    generator: torch.Generator,
    stain: Stain | None,
) -> tuple[Tensor, Targets]:
    """Some objects of another image on top of this one (Ghiasi et al. 2021, arXiv:2012.07177)."""
    pasted = Targets.seen(donor.objects, donor.ignored, to_source, targets.size_hw)
    pasted = pasted[torch.rand(len(pasted), generator=generator) < PASTED_SHARE]
    if len(pasted) == 0:
        return image, targets
    cover = torch.zeros(donor.size_hw, dtype=torch.bool)
    for mask in pasted.masks:
        (x, y), (height, width) = mask.offset_xy, mask.crop.shape
        cover[y : y + height, x : x + width] |= mask.crop
    # interpolating the cover together with the pixels gives the soft edge
    seen = _resampled(donor, to_source, targets.size_hw, rules, recipe, generator, stain, cover)
    return torch.lerp(image, seen[:3], seen[3:]), targets.pasted_over(pasted)


SOURCE = "source"
"""The attribute that all images of combined data sets have: which of them they are of."""

Batch = tuple[ImageBatch, Sequence[Targets], Sequence[Sample]]


class Batches:
    """The batch of every step of a run, by its number from 0: the same for the same seed.

    Each pass over the data is a new random order, or a new draw where the recipe balances. What happens to an image
    depends on the seed, the step and the image's place in the batch alone, so a run can be taken up at any step.
    All batches are padded to the recipe's crop, so that parts of a batch look the same in any number of processes.

    Args:
        dataset: annotated images.
        rules: of the model.
        recipe: how much of everything.
        rank: this process, from 0: it gets the places `rank * k` to `(rank + 1) * k - 1` of every batch of
            `images_per_step`, where `k` is that number divided by `processes`.
        processes: how many share a batch.
        sizes: at which size images are shown; None for the model's own scale.

    Raises:
        ArgumentError: a batch cannot be divided evenly among the processes.
        AnnotationError: no image has the attribute to balance by.
    """

    def __init__(
        self,
        dataset: Dataset,
        rules: InputRules,
        recipe: Recipe,
        rank: int = 0,
        processes: int = 1,
        sizes: KnownSizes | None = None,
    ) -> None:
        share, rest = divmod(recipe.images_per_step, processes)
        if rest:
            raise ArgumentError(f"images_per_step {recipe.images_per_step} is not a multiple of {processes} processes")
        self.dataset, self.rules, self.recipe, self.sizes = dataset, rules, recipe, sizes
        self.places = range(rank * share, (rank + 1) * share)
        self.weights = image_weights(dataset, recipe.balance)

    def __getitem__(self, step: int) -> Batch:
        samples, crops = [], []
        for place in self.places:
            sample = self._sample(step * self.recipe.images_per_step + place)
            samples.append(sample)
            generator = _generator(self.recipe.seed, step, place, "crop")
            donors = _donors(self.dataset, sample, self.recipe)
            crops.append(random_crop(sample, self.rules, self.recipe, generator, donors, self.sizes))
        side = -(-self.recipe.crop_px // self.rules.divisor) * self.rules.divisor
        return ImageBatch.pad([image for image, _ in crops], side), [targets for _, targets in crops], samples

    def _sample(self, number: int) -> Sample:
        """The image that is the run's `number`-th."""
        epoch, position = divmod(number, len(self.weights))
        generator = _generator(self.recipe.seed, epoch, 0, "order")
        draws = torch.multinomial(
            self.weights, len(self.weights), replacement=self.recipe.balance is not None, generator=generator
        )
        return self.dataset.samples[int(draws[position])]


def _donors(dataset: Dataset, sample: Sample, recipe: Recipe) -> Sequence[Sample]:
    """Images to paste from: any other, or where the recipe balances, others of the same kind."""
    if not recipe.copy_paste:
        return ()
    others = [one for one in dataset.samples if one is not sample]
    if recipe.balance is None:
        return others
    kind = _kind(sample, recipe.balance)
    return [one for one in others if _kind(one, recipe.balance) == kind]


def image_weights(dataset: Dataset, attribute: str | None) -> Tensor:
    """How often to draw each image, relatively.

    Raises:
        AnnotationError: no image has the attribute.
    """
    if attribute is None:
        return torch.ones(len(dataset.samples))
    by_source = attribute == SOURCE and dataset.sources
    if not by_source and not any(attribute in sample.attributes for sample in dataset.samples):
        raise AnnotationError(f"{dataset.path}: no image has the attribute {attribute!r} to balance by")
    kinds = [_kind(sample, attribute) for sample in dataset.samples]
    numbers = Counter(kinds)
    return torch.tensor([numbers[kind] ** -0.5 for kind in kinds])


def _kind(sample: Sample, attribute: str) -> str:
    """An image's value of an attribute; its data set's name where it states none."""
    return str(sample.attributes.get(attribute, sample.source))


def _generator(seed: int, step: int, place: int, purpose: str) -> torch.Generator:
    mixed = (seed * 1_000_003 + step) * 1_009 + place * 2 + (purpose == "order")
    return torch.Generator().manual_seed(mixed)
