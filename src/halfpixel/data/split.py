"""Images to train on and images to measure on."""

from __future__ import annotations

import dataclasses

import torch

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError


def hold_out(dataset: Dataset, images: int, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Take a random choice of images out of a data set.

    Args:
        dataset: at least one image more than that.
        images: how many to take out.
        seed: the same seed takes the same images.

    Returns:
        The rest, to train on, and the images taken out, to measure on; both in the order they had.

    Raises:
        ArgumentError: `images` is not between 1 and the number of images less one, or there is only one image.
    """
    n = len(dataset.samples)
    if n < 2:
        raise ArgumentError(f"{dataset.path}: it takes two images to hold one out, there is {n}")
    if not 1 <= images < n:
        raise ArgumentError(f"{dataset.path}: expected to hold out 1 to {n - 1} of {n} images, got {images}")
    chosen = set(torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:images].tolist())
    rest, taken = ([s for k, s in enumerate(dataset.samples) if (k in chosen) == held] for held in (False, True))
    return dataclasses.replace(dataset, samples=tuple(rest)), dataclasses.replace(dataset, samples=tuple(taken))
