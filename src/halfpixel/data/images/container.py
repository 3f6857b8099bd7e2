"""Image files from the outside: opened by what they hold, not by their name, and turned upright."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from halfpixel.data.images.embedded import embedded_picture, is_json_object
from halfpixel.errors import ImageError
from halfpixel.files import open_regular

MAX_PIXELS = 500_000_000
"""Larger images are refused before they are decoded."""

TIFF_MAGIC = re.compile(rb"II[*+]\0|MM\0[*+]")

TURNED = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

# Image.open would apply Pillow's own, smaller and process-wide pixel limit; the plugins themselves do not (but for
# WebP, which it stops at about 180 million pixels).
PLUGINS: tuple[tuple[re.Pattern[bytes], Callable[[BinaryIO], ImageFile.ImageFile]], ...] = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
)

# What tifffile finds odd in a file is for those who ask for logs, not for everybody's terminal.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@contextmanager
def open_image(path: Path) -> Iterator[tuple[BinaryIO, bytes]]:
    """Open an image file and look at its first bytes; every failure inside becomes an `ImageError` naming the file.

    Of a JSON file with a picture in it, as LabelMe writes them, that is opened.
    """
    try:
        with open_regular(path) as file:
            magic = file.read(16)
            if is_json_object(magic):
                file.seek(0)
                file = embedded_picture(file)
                magic = file.read(16)
            if not magic:
                raise ImageError("the file is empty")
            file.seek(0)
            yield file, magic
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except OSError as error:
        # the system's errors have an errno; Pillow raises bare ones about the contents
        cause = error.strerror if error.errno else f"the image is damaged and cannot be decoded ({_one_line(error)})"
        raise ImageError(f"{path}: {cause}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: too large for the memory") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise ImageError(f"{path}: the image is damaged and cannot be decoded ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def open_with_pillow(file: BinaryIO, magic: bytes) -> ImageFile.ImageFile:
    """Open with the plugin that the first bytes ask for, and no other."""
    for pattern, plugin in PLUGINS:
        if pattern.match(magic):
            return plugin(file)
    raise ImageError("not an image of a kind known here (PNG, JPEG, TIFF, BMP, GIF or WebP)")


def check_area(width: int, height: int) -> None:
    """Raise an ImageError for a size that would fill the memory, and for none at all."""
    if width * height == 0:
        raise ImageError(f"an image of {width} x {height} pixels has nothing in it")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels are more than the {MAX_PIXELS} that are read at most")


def exif_orientation(image: Image.Image) -> int:
    """The orientation tag, 1 (upright) where there is none."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a broken EXIF block does not make the pixels useless
        return 1


def orient(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn an image `[h, w]` or `[h, w, channels]` upright, by the TIFF and EXIF orientation tag."""
    if orientation in (2, 3):
        array = array[:, ::-1]
    if orientation in (3, 4):
        array = array[::-1]
    if orientation in TURNED:
        array = array.swapaxes(0, 1)
    if orientation in (6, 7):
        array = array[:, ::-1]
    if orientation in (7, 8):
        array = array[::-1]
    return array
