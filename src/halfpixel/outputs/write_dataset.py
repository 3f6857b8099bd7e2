"""Annotated images in any format that can hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from halfpixel.data.dataset import Dataset, Issue
from halfpixel.data.formats.format_names import WritableFormat
from halfpixel.errors import ArgumentError
from halfpixel.outputs import coco, label_images, mask_folders, yolo
from halfpixel.outputs.dataset_writer import DatasetWriter

DATASET_WRITERS: tuple[DatasetWriter, ...] = (coco.WRITER, yolo.WRITER, label_images.WRITER, mask_folders.WRITER)
"""Every format of annotated images that can be written."""


def write_dataset(dataset: Dataset, out: Path, stems: Sequence[str], format: WritableFormat) -> list[Issue]:
    """Write annotated images and copy their pictures, so that `out` is a whole data set.

    Args:
        dataset: what to write; its images must exist.
        out: an existing folder.
        stems: for each sample its new name, unique and without a suffix; it may contain folders (`a/b`).
        format: how.

    Returns:
        What the format could not hold, one issue for each object or image: `holes`, `parts`, `overlap`, `hidden`,
        `classes`, `crowd`, `attributes`, `areas`.

    Raises:
        ArgumentError: there is no such format.
    """
    for writer in DATASET_WRITERS:
        if writer.name == format:
            return writer.write(dataset, out, stems)
    raise ArgumentError(f"there is no format {format!r}; choose from {', '.join(one.name for one in DATASET_WRITERS)}")
