"""Label images written: one integer image a picture, in which each pixel holds the number of its object."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.outputs.dataset_writer import DatasetWriter, copy_image, lost_beside_masks, lost_class_names

MOST_IN_16_BITS = (1 << 16) - 1


def write_label_images(dataset: Dataset, out: Path, stems: Sequence[str]) -> list[Issue]:
    """Copy the images to `out/images/` and write label images to `out/masks/`: 16-bit PNG, else 32-bit TIFF.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix; it may contain folders.

    Returns:
        What is not kept: objects that overlap (`overlap`: the later one is on top), objects that are hidden altogether
        (`hidden`), names of classes, and what `lost_beside_masks` says.
    """
    lost = []
    for sample, stem in zip(dataset.samples, stems, strict=True):
        masks = sample.objects.masks
        assert masks is not None, "data sets have masks"
        labels = masks.label_image(order=range(len(masks))).numpy()
        suffix, data = label_file(labels, len(masks))
        copy_image(sample.path, out, stem)
        file = out / "masks" / f"{stem}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        areas, left = masks.areas_px().tolist(), np.bincount(labels.ravel(), minlength=len(masks) + 1)[1:].tolist()
        for number, area, shown in zip(sample.annotation_ids, areas, left, strict=True):
            if shown < area:
                kind, what = ("overlap", "the later one is on top") if shown else ("hidden", "lost under later ones")
                lost.append(Issue(kind, sample.path, f"annotation {number}", what, sample.path))
    return lost + lost_beside_masks(dataset) + lost_class_names(dataset)


def label_file(labels: npt.NDArray[np.int32], n_objects: int) -> tuple[str, bytes]:
    """A label image `[h, w]` as the suffix and bytes of a file: 16-bit PNG, or 32-bit TIFF where that is too small."""
    file = io.BytesIO()
    if n_objects <= MOST_IN_16_BITS:
        Image.fromarray(labels.astype(np.uint16)).save(file, "PNG")
        return ".png", file.getvalue()
    tifffile.imwrite(file, labels.astype(np.uint32), compression="zlib")
    return ".tif", file.getvalue()


WRITER = DatasetWriter("label_images", write_label_images)
