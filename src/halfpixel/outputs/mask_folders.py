"""Folders of one mask file an object, as the 2018 Data Science Bowl has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.outputs.dataset_writer import DatasetWriter, copy_image, lost_beside_masks, lost_class_names


def write_mask_folders(dataset: Dataset, out: Path, stems: Sequence[str]) -> list[Issue]:
    """Copy the images to `out/ID/images/` and write each object to `out/ID/masks/`, white on black.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix. `/` in it becomes `_`.

    Returns:
        What is not kept: names of classes, and what `lost_beside_masks` says.
    """
    for sample, stem in zip(dataset.samples, _flat_names(stems), strict=True):
        folder = out / stem
        copy_image(sample.path, folder, stem)
        (folder / "masks").mkdir()
        assert sample.objects.masks is not None, "data sets have masks"
        for k, (crop, (x, y)) in enumerate(sample.objects.masks.placed(), start=1):
            canvas = np.zeros(sample.size_hw, dtype=np.uint8)
            canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop.numpy() * np.uint8(255)
            Image.fromarray(canvas).save(folder / "masks" / f"{k:05d}.png")
    return lost_beside_masks(dataset) + lost_class_names(dataset)


def _flat_names(stems: Sequence[str]) -> list[str]:
    """Names without folders, still unique."""
    flat = [stem.replace("/", "_") for stem in stems]
    if len({one.casefold() for one in flat}) == len(flat):
        return flat
    return [f"{k}_{one}" for k, one in enumerate(flat, start=1)]


WRITER = DatasetWriter("mask_folders", write_mask_folders)
