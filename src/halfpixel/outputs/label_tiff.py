"""Objects as an image of their numbers."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from halfpixel.errors import ArgumentError
from halfpixel.files import write_with_folder
from halfpixel.outputs.image_result import ImageResult

if TYPE_CHECKING:
    from halfpixel.structures.masks import CropMasks

UM_PER_CM = 1e4

STRIP_ROWS = 256
"""Of the file, and of what is painted at once: the label image of a large image is never in memory as a whole."""


def label_tiff_bytes(masks: CropMasks, pixel_size_um: float | None = None) -> bytes:
    """A TIFF file in which each pixel holds its object's number, from 1; 0 is background.

    Where masks overlap, the first one (of predictions the one that scores best) is on top.

    Args:
        masks: of the objects.
        pixel_size_um: side of a pixel in micrometres, noted in the file as its resolution.

    Returns:
        One page `[h, w]` of uint32, compressed without loss.
    """
    resolution = None if pixel_size_um is None else (UM_PER_CM / pixel_size_um,) * 2
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        _strips(masks),
        shape=masks.size_hw,
        dtype=np.uint32,
        rowsperstrip=STRIP_ROWS,
        photometric="minisblack",
        compression="zlib",
        resolution=resolution,
        resolutionunit=None if resolution is None else "CENTIMETER",
        software="halfpixel",
        metadata=None,
    )
    return file.getvalue()


def _strips(masks: CropMasks) -> Iterator[bytes]:
    """The image piece by piece, compressed: tifffile would take all of it at once."""
    height, width = masks.size_hw
    for top in range(0, height, STRIP_ROWS):
        strip = masks.translate(0, -top, (min(STRIP_ROWS, height - top), width)).label_image()
        yield zlib.compress(strip.numpy().astype(np.uint32).tobytes())


def write_labels(out: Path, stem: str, result: ImageResult) -> None:
    """Write a label image of one image's objects.

    Raises:
        ArgumentError: the objects have no masks.
    """
    if result.objects.masks is None:
        raise ArgumentError("`save` labels needs a model that draws masks; this one finds boxes only")
    write_with_folder(out / f"{stem}.tif", label_tiff_bytes(result.objects.masks, result.pixel_size_um))
