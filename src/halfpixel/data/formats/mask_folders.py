"""Folders of one mask file an object, as the 2018 Data Science Bowl has them.

`ID/images/*.png` is the image, every file in `ID/masks/` one object: its pixels are those above 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from halfpixel.data.dataset import Dataset, Fault
from halfpixel.data.formats.mask_files import check_size, copy_image, files_in, folders_in, read_numbers, read_size_hw
from halfpixel.data.formats.per_image_files import ONE_CLASS, Annotated, gather
from halfpixel.errors import AnnotationError, InputError
from halfpixel.structures.masks import CropMasks


def read_mask_folders(path: Path) -> Dataset:
    """Read a folder of folders, each with one file in `images/` and any number of mask files in `masks/`.

    There is one class, `object`. A mask that is broken, of another size than the image, or without pixels is left out
    with a fault `unusable_mask` or `empty_mask`; a folder without `masks/`, or not with exactly one image, with
    `unusable_file`.

    Raises:
        AnnotationError: none of the folders can be used.
    """
    path = Path(path)
    faults: list[Fault] = []
    sources = [one for one in folders_in(path) if (one / "images").is_dir() or (one / "masks").is_dir()]
    return gather(path, sources, lambda folder: _read_folder(folder, faults), faults, [ONE_CLASS])


def _read_folder(folder: Path, faults: list[Fault]) -> Annotated:
    images = files_in(folder / "images") if (folder / "images").is_dir() else []
    if len(images) != 1:
        raise AnnotationError(f"{folder}: expected one image in its folder images, found {len(images)}")
    if not (folder / "masks").is_dir():
        raise AnnotationError(f"{folder}: it has no folder masks")
    size_hw = read_size_hw(images[0])
    parts = []
    for file in files_in(folder / "masks"):
        try:
            one = _read_mask(file, size_hw)
        except InputError as error:
            cause = str(error).removeprefix(f"{file}: ")
            faults.append(Fault("unusable_mask", file, "", f"left out, {cause}", images[0]))
            continue
        if len(one) == 0:
            faults.append(Fault("empty_mask", file, "", "left out, its mask has no pixels", images[0]))
        parts.append(one)
    crops = tuple(crop for part in parts for crop in part.crops)
    offsets_xy = torch.cat([torch.zeros(0, 2, dtype=torch.int64), *(part.offsets_xy for part in parts)])
    return Annotated(images[0], CropMasks(crops, offsets_xy, size_hw), [ONE_CLASS] * len(crops))


def _read_mask(file: Path, size_hw: tuple[int, int]) -> CropMasks:
    """One mask, or none where no pixel is set."""
    array = read_numbers(file)
    check_size(file, array.shape[:2], size_hw)
    if array.ndim == 3:  # what is opaque says nothing: look at grey or colours
        array = array[..., : 1 if array.shape[2] < 3 else 3].max(axis=2)
    return CropMasks.from_label_image(torch.from_numpy((array > 0).astype(np.int32)))


def write_mask_folders(dataset: Dataset, out: Path, stems: Sequence[str]) -> None:
    """Copy the images to `out/ID/images/` and write each object to `out/ID/masks/`, white on black.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix. `/` in it becomes `_`.
    """
    for sample, stem in zip(dataset.samples, flat_names(stems), strict=True):
        folder = out / stem
        copy_image(sample.path, folder, stem)
        (folder / "masks").mkdir()
        assert sample.objects.masks is not None, "data sets have masks"
        for k, (crop, (x, y)) in enumerate(sample.objects.masks.placed(), start=1):
            canvas = np.zeros(sample.size_hw, dtype=np.uint8)
            canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop.numpy() * np.uint8(255)
            Image.fromarray(canvas).save(folder / "masks" / f"{k:05d}.png")


def flat_names(stems: Sequence[str]) -> list[str]:
    """Names without folders, still unique."""
    flat = [stem.replace("/", "_") for stem in stems]
    if len({one.casefold() for one in flat}) == len(flat):
        return flat
    return [f"{k}_{one}" for k, one in enumerate(flat, start=1)]
