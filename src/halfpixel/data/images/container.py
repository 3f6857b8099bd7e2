"""Image files from the outside: opened by what they hold, not by their name, and turned upright."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
from halfpixel.data.images.png_chunks import read_exif
from halfpixel.errors import ArgumentError, ImageError, MissingDependencyError
from halfpixel.files import open_regular

MAX_PIXELS = 500_000_000
"""Larger images are refused before they are decoded, unless the variable of the environment allows more."""

MAX_PIXELS_VARIABLE = "HALFPIXEL_MAX_PIXELS"

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


Opener = Callable[[], BinaryIO]
"""What opens a file that is not on a drive, each time anew: `functools.partial(file_system.open, "bucket/a.svs")`."""


@contextmanager
def open_image(where: Path | Opener) -> Iterator[tuple[BinaryIO, bytes]]:
    """Open an image file and look at its first bytes; every failure inside becomes an `ImageError` naming the file.

    Of a JSON file with a picture in it, as LabelMe writes them, that is opened.
    """
    with errors_naming(name_of(where)), open_regular(where) if isinstance(where, Path) else where() as file:
        magic = file.read(16)
        if is_json_object(magic):
            file.seek(0)
            file = embedded_picture(file)
            magic = file.read(16)
        if not magic:
            raise ImageError("the file is empty")
        file.seek(0)
        yield file, magic


def name_of(where: Path | Opener) -> str:
    """What errors call a file: its path, or what is given to what opens it."""
    arguments = where.args if isinstance(where, partial) else ()
    return ", ".join(str(one) for one in arguments) or str(where)


@contextmanager
def errors_naming(name: str) -> Iterator[None]:
    """Every failure inside becomes an `ImageError` that begins with a name; what is no fault of the file stays."""
    try:
        yield
    except (ArgumentError, MissingDependencyError):
        raise
    except ImageError as error:
        raise type(error)(f"{name}: {error}") from None
    except OSError as error:
        # the system's errors have an errno; Pillow raises bare ones about the contents
        cause = error.strerror if error.errno else f"the image is damaged and cannot be decoded ({_one_line(error)})"
        raise ImageError(f"{name}: {cause}") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for the memory") from error
    except Exception as error:  # decoders raise whatever they like on broken files
        raise ImageError(f"{name}: the image is damaged and cannot be decoded ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def open_with_pillow(file: BinaryIO, magic: bytes) -> ImageFile.ImageFile:
    """Open with the plugin that the first bytes ask for, and no other."""
    for pattern, plugin in PLUGINS:
        if pattern.match(magic):
            return plugin(file)
    raise ImageError("not an image of a kind known here (PNG, JPEG, TIFF, BMP, GIF or WebP)")


def max_pixels() -> int:
    """How many pixels an image may have.

    Raises:
        ArgumentError: the variable of the environment holds something else.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "")
    if not text:
        return MAX_PIXELS
    if not (text.isascii() and text.isdigit() and int(text[:20]) > 0):
        raise ArgumentError(f"{MAX_PIXELS_VARIABLE}={text}: expected how many pixels an image may have")
    return int(text[:20])


def check_area(width: int, height: int, decoder_cost: int = 1) -> None:
    """Refuse a size that would fill the memory, and none at all.

    Args:
        width: in pixels.
        height: likewise.
        decoder_cost: how many times as much memory as usual the decoder takes.

    Raises:
        ImageError: says how large it is, what the limit is and how to raise it.
    """
    if width * height == 0:
        raise ImageError(f"an image of {width} x {height} pixels has nothing in it")
    limit = max_pixels()
    if width * height * decoder_cost > limit:
        of_this_kind = f" of this kind, which take {decoder_cost} times the memory," if decoder_cost > 1 else ""
        raise ImageError(
            f"{width} x {height} pixels{of_this_kind} are more than the {limit // decoder_cost:,} that are read at "
            f"most; where there is memory for it, set {MAX_PIXELS_VARIABLE}={width * height * decoder_cost}"
        )


def decoder_cost(image: ImageFile.ImageFile) -> int:
    """How many times as much memory as usual decoding takes: all coefficients of a JPEG, or a GIF's frame twice."""
    if image.format == "GIF":
        return 3
    return 2 if image.format == "JPEG" and image.info.get("progressive") else 1


def exif_orientation(image: Image.Image, file: BinaryIO | None = None) -> int:
    """The orientation tag, 1 (upright) where there is none; of a PNG file, if that is given, without its pixels."""
    try:
        if file is not None and image.format == "PNG" and "exif" not in image.info and (exif := read_exif(file)):
            image.info["exif"] = exif
        # the PNG plugin's own would decode the image first
        read = Image.Image.getexif if file is not None else type(image).getexif
        return int(read(image).get(0x0112, 1))
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
