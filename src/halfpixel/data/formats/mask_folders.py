"""Folders of one mask file an object, as the 2018 Data Science Bowl has them.

`ID/images/*.png` is the image, every file in `ID/masks/` one object: its pixels are those above 0.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from halfpixel.data.dataset import ONE_CLASS, Dataset, Issue
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.mask_files import check_size, files_in, folders_in, is_lossy, read_numbers, read_size_hw
from halfpixel.data.formats.mask_values import read_mask
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.reader import Reader
from halfpixel.errors import AnnotationError, ArgumentError, InputError
from halfpixel.structures.masks import CropMasks


def read_mask_folders(path: Path, images: Path | None = None) -> Dataset:
    """Read a folder of folders, each with one file in `images/` and any number of mask files in `masks/`.

    There is one class, `object`. A mask that is broken, of another size than the image, or without pixels is left out
    with an issue `unusable_mask` or `empty_mask`; a folder without `masks/`, or not with exactly one image, with
    `unusable_file`.

    Raises:
        AnnotationError: none of the folders can be used.
        ArgumentError: `images` was given, which are inside here.
    """
    path = Path(path)
    if images is not None:
        raise ArgumentError(f"{path}: mask folders have their images inside, not in {images}")
    issues: list[Issue] = []
    sources = [one for one in folders_in(path) if (one / "images").is_dir() or (one / "masks").is_dir()]
    return read_each(path, sources, lambda folder: _read_folder(folder, issues), issues, [ONE_CLASS])


def _read_folder(folder: Path, issues: list[Issue]) -> Annotated:
    images = files_in(folder / "images") if (folder / "images").is_dir() else []
    if len(images) != 1:
        raise AnnotationError(f"{folder}: expected one image in its folder images, found {len(images)}")
    if not (folder / "masks").is_dir():
        raise AnnotationError(f"{folder}: it has no folder masks")
    size_hw = read_size_hw(images[0])
    parts = []
    for file in files_in(folder / "masks"):
        try:
            one = _read_mask(file, size_hw, images[0], issues)
        except InputError as error:
            cause = str(error).removeprefix(f"{file}: ")
            issues.append(Issue("unusable_mask", file, "", f"left out, {cause}", images[0]))
            continue
        if len(one) == 0:
            issues.append(Issue("empty_mask", file, "", "left out, its mask has no pixels", images[0]))
        parts.append(one)
    crops = tuple(crop for part in parts for crop in part.crops)
    offsets_xy = torch.cat([torch.zeros(0, 2, dtype=torch.int64), *(part.offsets_xy for part in parts)])
    return Annotated(images[0], CropMasks(crops, offsets_xy, size_hw), [ONE_CLASS] * len(crops))


def _read_mask(file: Path, size_hw: tuple[int, int], image: Path, issues: list[Issue]) -> CropMasks:
    """One mask, or none where no pixel is set."""
    array = read_numbers(file)
    check_size(file, array.shape[:2], size_hw)
    if array.ndim == 3 and not is_lossy(file):  # what is opaque says nothing: look at grey or colours
        numbers = array[..., : 1 if array.shape[2] < 3 else 3].max(axis=2)
    else:
        values = read_mask(file, size_hw, image)
        issues.extend(values.issues)
        numbers = values.numbers
    return CropMasks.from_label_image(torch.from_numpy((numbers > 0).astype(np.int32)))


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    children = [one for one in folders_in(folder) if (one / "images").is_dir() and (one / "masks").is_dir()]
    return bool(children) and all(len(files_in(one / "images")) == 1 for one in children[:20])


READER = Reader(
    name="mask_folders",
    layout="ID/images/ with one image and ID/masks/",
    read=read_mask_folders,
    fits_folder=_fits_folder,
)
