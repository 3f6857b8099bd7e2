"""Semantic masks, which say of each pixel what it shows but not which object it belongs to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from skimage.measure import label

from halfpixel.data.dataset import ONE_CLASS, Dataset, Issue, Sample
from halfpixel.data.formats.format_names import Format
from halfpixel.data.formats.label_images import pair_masks
from halfpixel.data.formats.mask_files import read_size_hw
from halfpixel.data.formats.mask_values import read_mask
from halfpixel.data.formats.per_image_files import Annotated, read_each
from halfpixel.data.formats.reader import Reader
from halfpixel.structures.masks import CropMasks

TOUCHING = "each connected region became an object: objects that touch are counted as one"


def read_semantic(path: Path, images: Path | None = None) -> Dataset:
    """Read masks of which every positive number is a class, and every connected region of one an object.

    Pixels hang together also over corners. Objects that touch are one: an issue `touching_objects` says so. Where all
    masks have but one positive number the class is `object`, else the classes are called by their numbers. Files and
    other issues are those of `read_label_images`.

    Args:
        path: a folder with `images/` and `masks/` or `labels/`, or with pairs such as `a.png` and `a_mask.png`.
        images: the folder of the images, if it is elsewhere.

    Raises:
        AnnotationError: nothing in the folder can be used.
    """
    path = Path(path)
    issues = [Issue("touching_objects", path, "", TOUCHING)]
    pairs = dict(pair_masks(path, images, issues))

    def read(image: Path) -> Annotated:
        mask = read_mask(pairs[image], read_size_hw(image), image)
        issues.extend(mask.issues)
        values = mask.numbers
        regions = label(np.maximum(values, 0), connectivity=2)
        numbers, first = np.unique(regions, return_index=True)
        classes = values.ravel()[first[numbers > 0]].tolist()
        masks = CropMasks.from_label_image(torch.from_numpy(regions))
        return Annotated(image, masks, [str(one) for one in classes], mask.ignored)

    dataset = read_each(path, list(pairs), read, issues)
    if len(dataset.class_names) > 1:
        return dataset
    return replace(dataset, class_names=(ONE_CLASS,), category_ids=(1,), samples=tuple(map(_rename, dataset.samples)))


def _rename(sample: Sample) -> Sample:
    objects, ignored = (replace(one, class_names=(ONE_CLASS,)) for one in (sample.objects, sample.ignored))
    return replace(sample, objects=objects, ignored=ignored)


def _fits_folder(folder: Path, images: Path | None, found: Collection[Format]) -> bool:
    """Masks that no other format takes."""
    return not {"mask_folders", "label_images"} & set(found) and bool(pair_masks(folder, images))


READER = Reader(
    name="semantic",
    layout="masks/ or labels/ beside images/, or a_masks.png beside a.png",
    read=read_semantic,
    fits_folder=_fits_folder,
)
