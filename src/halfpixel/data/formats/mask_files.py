"""Image files besides their pictures: what a folder holds, how large they are, and the numbers in a mask file."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from halfpixel.data.images.container import (
    TIFF_MAGIC,
    TURNED,
    check_area,
    decoder_cost,
    exif_orientation,
    open_image,
    open_with_pillow,
    orient,
)
from halfpixel.data.images.embedded import decode_picture
from halfpixel.data.images.picture import open_stacks
from halfpixel.data.images.png_chunks import check_checksums
from halfpixel.data.images.rgb8 import SUFFIXES, natural_order
from halfpixel.data.images.tiff_directories import check_directories
from halfpixel.errors import AnnotationError, ImageError


def files_in(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """The files of a folder and the folders in it by their suffixes, in natural order, without hidden ones."""
    found = [one for one in folder.rglob("*") if one.suffix.lower() in suffixes and one.is_file()]
    return sorted((one for one in found if not one.name.startswith(".")), key=natural_order)


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, in natural order, without hidden ones."""
    return sorted((one for one in folder.iterdir() if one.is_dir() and not one.name.startswith(".")), key=natural_order)


def read_size_hw(path: Path) -> tuple[int, int]:
    """Height and width in pixels of what `read_image` would read, from the file's header alone.

    Raises:
        ImageError: the file is missing, empty or not an image of a known kind.
    """
    with open_stacks(path) as stacks:
        height, width = stacks[0].size_hw
        return (width, height) if stacks[0].orientation in TURNED else (height, width)


def read_numbers(path: Path) -> npt.NDArray[Any]:
    """The numbers that a mask or label file holds, without any loss: `[h, w]` or `[h, w, channels]`.

    PNG or TIFF of 8, 16 or 32 bits (or another kind that Pillow reads); of a palette image the indices.

    Raises:
        ImageError: the file is missing, damaged or not an image.
        AnnotationError: it is a stack of several planes.
    """
    with open_image(path) as (file, magic):
        if TIFF_MAGIC.match(magic):
            check_directories(file)
            with tifffile.TiffFile(file) as tiff:
                if not tiff.series:
                    raise ImageError("the TIFF holds no image, or is cut short")
                series = tiff.series[0]
                array, axes = series.asarray(squeeze=False), series.get_axes(squeeze=False)
                tag = series.keyframe.tags.get("Orientation")
            orientation = 1 if tag is None else int(tag.value)
        else:
            image = open_with_pillow(file, magic)
            check_area(*image.size, decoder_cost(image))
            orientation = exif_orientation(image, file)
            if image.format == "PNG":
                check_checksums(file)
            if image.mode.startswith("I;16"):  # Pillow would drop the low byte of 16-bit PNG with alpha or colour only
                file.seek(0)
                array = imagecodecs.png_decode(file.read())
            else:
                array = np.asarray(image)
            axes = "YXS"[: array.ndim]
    kept = [k for k, axis in enumerate(axes) if axis in "YX" or array.shape[k] > 1]
    axes, array = "".join(axes[k] for k in kept), array.reshape([array.shape[k] for k in kept])
    if axes not in ("YX", "YXS"):
        raise AnnotationError(f"{path}: a stack with the axes {axes}, expected one plane of numbers")
    return orient(array, orientation)


def read_embedded_mask(data: str) -> npt.NDArray[np.bool_]:
    """The mask `[h, w]` in base64 text of a PNG file: its pixels that are not 0.

    Raises:
        ImageError: it is not that.
    """
    file = decode_picture(data)
    try:
        magic = file.read(16)
        file.seek(0)
        image = open_with_pillow(file, magic)
        check_area(*image.size)
        array = np.asarray(image)
    except ImageError:
        raise
    except Exception as error:  # decoders raise whatever they like on broken files
        raise ImageError(f"the picture is damaged ({error})") from None
    grey = array.max(axis=2) if array.ndim == 3 else array
    mask: npt.NDArray[np.bool_] = grey != 0
    return mask


def is_lossy(path: Path) -> bool:
    """Whether an image file's kind changes pixels: JPEG, and WebP but for its lossless form.

    Raises:
        ImageError: the file is missing or empty.
    """
    with open_image(path) as (_, magic):
        return magic.startswith(b"\xff\xd8\xff") or (magic[8:12] == b"WEBP" and magic[12:16] != b"VP8L")


def check_size(path: Path, found_hw: tuple[int, ...], size_hw: tuple[int, int]) -> None:
    """Refuse a mask that is not as large as its image.

    Raises:
        AnnotationError: names both sizes.
    """
    if tuple(found_hw) != size_hw:
        (height, width), (image_height, image_width) = found_hw, size_hw
        raise AnnotationError(f"{path}: {width} x {height} pixels, but its image has {image_width} x {image_height}")
