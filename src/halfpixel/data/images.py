"""Image files and arrays as 8-bit RGB pictures, the one form that the networks take.

TIFF goes through tifffile, 16-bit PNG through imagecodecs (Pillow would drop the low byte of colour ones), everything
else through Pillow. What a file is called does not matter, only what it holds.
"""

from __future__ import annotations

import glob
import io
import itertools
import logging
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from halfpixel.errors import ImageError

Rgb8 = npt.NDArray[np.uint8]

MAX_PIXELS = 500_000_000
"""Larger images are refused before they are decoded."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""The files of a folder that count as images."""

TIFF_MAGIC = re.compile(rb"II[*+]\0|MM\0[*+]")

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


def read_image(path: Path) -> Rgb8:
    """Read an image file as `[h, w, 3]` RGB in 0..255, turned as its EXIF orientation says.

    Transparent pixels are laid on white, grey and palette images become RGB, CMYK is converted. Of an animation or a
    stack the first frame is read (see `count_frames`). Deeper images are brought to 8 bits as `as_rgb8` does it. In a
    TIFF with a channel axis, one channel is grey, and of more the first three are red, green and blue; a missing third
    is black.

    Raises:
        ImageError: the file is missing, empty, cut short, not an image of a known kind, larger than `MAX_PIXELS`, or
            holds NaN or infinite pixels.
    """
    path = Path(path)
    with open_image(path) as (file, magic):
        if TIFF_MAGIC.match(magic):
            array, orientation = _read_tiff(file)
        else:
            array, orientation = _read_with_pillow(file, magic)
        return np.ascontiguousarray(orient(as_rgb8(array), orientation))


def from_pillow(image: Image.Image) -> Rgb8:
    """A Pillow picture as `[h, w, 3]` RGB in 0..255, by the rules of `read_image`.

    Raises:
        ImageError: see `as_rgb8`.
    """
    return np.ascontiguousarray(orient(as_rgb8(_pillow_pixels(image)), exif_orientation(image)))


def png_bytes(pixels: Rgb8) -> bytes:
    """A picture `[h, w, channels]` of uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def count_frames(path: Path) -> int:
    """How many frames or planes a file holds, of which `read_image` reads the first; 1 for an ordinary image.

    Raises:
        ImageError: the file is missing, empty, cut short or not an image of a known kind.
    """
    path = Path(path)
    with open_image(path) as (file, magic):
        if TIFF_MAGIC.match(magic):
            with tifffile.TiffFile(file) as tiff:
                return sum(
                    math.prod(n for axis, n in zip(one.axes, one.shape, strict=True) if axis not in "YXCS")
                    for one in tiff.series
                )
        return int(getattr(open_with_pillow(file, magic), "n_frames", 1))


def as_rgb8(array: npt.ArrayLike) -> Rgb8:
    """Bring an array to `[h, w, 3]` RGB in 0..255.

    Args:
        array: `[h, w]` or `[h, w, 1]` grey, `[h, w, 3]` RGB or `[h, w, 4]` RGBA (laid on white), of bool, integers or
            floats. uint8 is taken as it is; floats that all lie in 0..1 are multiplied by 255; anything else is
            stretched linearly, one stretch for the whole image, from its 0.1st to its 99.9th percentile (from its
            minimum to its maximum where the two are equal), and a constant image becomes black.

    Raises:
        ImageError: another shape or dtype, no pixels, or NaN or infinite pixels.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        shape = list(array.shape[:-1] if array.ndim == 3 and array.shape[2] == 1 else array.shape)
        raise ImageError(f"expected an array [h, w] or [h, w, 1, 3 or 4 channels], got the shape {shape}")
    if array.size == 0:
        raise ImageError(f"an image of {array.shape[1]} x {array.shape[0]} pixels has nothing in it")
    if array.dtype.kind not in "buif":
        raise ImageError(f"expected bool, integer or float pixels, got {array.dtype}")
    if array.dtype.kind == "f" and not (finite := np.isfinite(array).all(axis=2)).all():
        raise ImageError(f"{finite.size - np.count_nonzero(finite)} of {finite.size} pixels are NaN or infinite")
    colour = _to_8_bits(array[..., :3])
    if array.shape[2] == 4:
        return _lay_on_white(colour, _alpha_to_8_bits(array[..., 3:]))
    return np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], 3)))


def find_images(pattern: str | Path) -> list[Path]:
    """The image files that a path stands for, in natural order (`2.png` before `10.png`).

    Args:
        pattern: a file; a folder, of which the images directly in it are taken by their suffix; or a glob (`**` for
            any depth), of which every matching file is taken.

    Raises:
        ImageError: there is no such file or folder, the folder has no images in it, or nothing matches.
    """
    path = Path(pattern)
    if path.is_dir():
        found = [one for one in path.iterdir() if one.suffix.lower() in SUFFIXES and not one.name.startswith(".")]
        if not found:
            raise ImageError(f"{path}: there are no images in this folder (looked for {' '.join(SUFFIXES)})")
    elif path.exists():
        found = [path]
    elif glob.has_magic(str(pattern)):
        fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        found = [one for one in fixed.glob(str(path.relative_to(fixed))) if one.is_file()]
        if not found:
            raise ImageError(f"{pattern}: no file matches")
    else:
        raise ImageError(f"{path}: there is no such file or folder")
    return sorted(found, key=natural_order)


def natural_order(path: Path) -> list[tuple[str, int, str]]:
    """A key to sort by: 2.png before 10.png."""
    # the suffix comes last: nuclei.png before nuclei2.png
    words = [*re.findall(r"(\D*)(\d*)", str(path.with_suffix(""))), (path.suffix, "")]
    return [(text.lower(), int(digits or -1), text) for text, digits in words]


@contextmanager
def open_image(path: Path) -> Iterator[tuple[BinaryIO, bytes]]:
    """Open an image file and look at its first bytes; every failure inside becomes an `ImageError` naming the file."""
    try:
        with path.open("rb") as file:
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
    except Exception as error:  # decoders raise whatever they like on broken files
        raise ImageError(f"{path}: the image is damaged and cannot be decoded ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def check_area(width: int, height: int) -> None:
    """Raise an ImageError for a size that would fill the memory."""
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels are more than the {MAX_PIXELS} that are read at most")


def open_with_pillow(file: BinaryIO, magic: bytes) -> ImageFile.ImageFile:
    """Open with the plugin that the first bytes ask for, and no other."""
    for pattern, plugin in PLUGINS:
        if pattern.match(magic):
            return plugin(file)
    raise ImageError("not an image of a kind known here (PNG, JPEG, TIFF, BMP, GIF or WebP)")


def _read_with_pillow(file: BinaryIO, magic: bytes) -> tuple[npt.NDArray[Any], int]:
    image = open_with_pillow(file, magic)
    check_area(*image.size)
    if image.format == "PNG" and _png_bit_depth(file) == 16:
        file.seek(0)
        array = imagecodecs.png_decode(file.read())
        if array.ndim == 3 and array.shape[2] == 2:  # grey and alpha
            array = array[..., [0, 0, 0, 1]]
    else:
        array = _pillow_pixels(image)
    return array, exif_orientation(image)


def _pillow_pixels(image: Image.Image) -> npt.NDArray[Any]:
    if image.mode == "F" or image.mode.startswith("I"):  # deeper than 8 bits
        return np.asarray(image)
    # a palette can hold transparency, a grey or RGB PNG can declare one colour transparent
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _png_bit_depth(file: BinaryIO) -> int:
    file.seek(24)  # after the signature: length and name of the header chunk, width, height
    return file.read(1)[0]


def exif_orientation(image: Image.Image) -> int:
    """The orientation tag, 1 (upright) where there is none."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # a broken EXIF block does not make the pixels useless
        return 1


def orient(array: Rgb8, orientation: int) -> Rgb8:
    """Turn an image upright, by the TIFF and EXIF orientation tag."""
    if orientation in (2, 3):
        array = array[:, ::-1]
    if orientation in (3, 4):
        array = array[::-1]
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (6, 7):
        array = array[:, ::-1]
    if orientation in (7, 8):
        array = array[::-1]
    return array


def _read_tiff(file: BinaryIO) -> tuple[npt.NDArray[Any], int]:
    with tifffile.TiffFile(file) as tiff:
        if not tiff.series:
            raise ImageError("the TIFF holds no image, or is cut short")
        series = tiff.series[0]
        if not {"Y", "X"} <= set(series.axes):
            raise ImageError(f"a TIFF with the axes {series.axes} is not an image")
        page = series.keyframe
        size = dict(zip(series.axes, series.shape, strict=True))
        check_area(size["X"], size["Y"])
        if not series.is_truncated and math.prod(page.shape) > 4 * MAX_PIXELS:  # hundreds of samples, or a volume
            raise ImageError(f"one page of the TIFF has {math.prod(page.shape)} values, too many to be read")
        plane, axes = _first_plane(series)
        orientation = page.tags.get("Orientation")
    colour = _tiff_colour(plane, axes, page)
    return colour, 1 if orientation is None else int(orientation.value)


def _first_plane(series: tifffile.TiffPageSeries) -> tuple[npt.NDArray[Any], str]:
    """The pixels `[h, w, channels]` of the first plane and what its channels are: `S`amples of a pixel or `C`hannels.

    Only the pages of that plane are decoded, at most three.
    """
    page = series.keyframe
    leading = series.shape[: len(series.shape) - len(page.shape)]
    if len(series.pages) == math.prod(leading):
        numbers = np.arange(math.prod(leading)).reshape(leading)
        axes = series.axes[: len(leading)]
        chosen = np.atleast_1d(numbers[tuple(slice(3) if axis == "C" else 0 for axis in axes)])
        pages = [series.pages[k] for k in chosen.tolist()]
        for one in pages:
            _check_complete(one)
        array = np.stack([one.asarray() for one in pages])
        axes = "C" + series.axes[len(leading) :] if "C" in axes else "I" + series.axes[len(leading) :]
    else:  # one page describes the whole uncompressed stack
        array, axes = series.asarray(out="memmap"), series.axes
    for axis in (one for one in axes if one not in "YXCS"):
        array = array.take(0, axes.index(axis))
        axes = axes.replace(axis, "", 1)
    if "C" in axes and "S" in axes:
        array, axes = array.take(0, axes.index("C")), axes.replace("C", "")
    channel = "S" if "S" in axes else "C"
    if channel not in axes:
        array, axes = array[..., None], axes + channel
    return array.transpose([axes.index(axis) for axis in "YX" + channel]), channel


def _check_complete(page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    size = page.parent.filehandle.size
    if any(start + n > size for start, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise ImageError(f"the TIFF is cut short: its pixels go on after the last of its {size} bytes")


def _tiff_colour(plane: npt.NDArray[Any], axis: str, page: tifffile.TiffPage) -> npt.NDArray[Any]:
    """Grey, RGB or RGBA `[h, w, 1, 3 or 4]` of a TIFF's raw channels."""
    kind = tifffile.PHOTOMETRIC
    bits = page.bitspersample
    if page.photometric == kind.PALETTE and page.colormap is not None:
        return (page.colormap[:, plane[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0)
    if plane.dtype == np.uint8 and isinstance(bits, int) and bits < 8:
        plane = (plane.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
    if page.photometric == kind.SEPARATED:
        return _through_pillow(plane, "CMYK")
    if page.photometric == kind.YCBCR and page.compression not in JPEG:  # JPEG comes out of its codec as RGB
        return _through_pillow(plane, "YCbCr")
    colours = 3 if page.photometric in (kind.RGB, kind.YCBCR) else 1
    has_alpha = axis == "S" and plane.shape[2] == colours + 1 and page.extrasamples[:1] in ((1,), (2,))
    if page.photometric == kind.MINISWHITE:
        plane = ~plane if plane.dtype.kind in "bui" else -plane
    if has_alpha:
        colour = np.broadcast_to(plane[..., :colours], (*plane.shape[:2], 3))
        return np.concatenate([colour, plane[..., colours:]], axis=2)
    plane = plane[..., :3]
    if plane.shape[2] == 2:
        return np.concatenate([plane, np.zeros_like(plane[..., :1])], axis=2)
    return plane


JPEG = (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.ALT_JPEG)


def _through_pillow(plane: npt.NDArray[Any], mode: str) -> Rgb8:
    channels = len(Image.new(mode, (1, 1)).getbands())
    if plane.dtype != np.uint8 or plane.shape[2] < channels:
        raise ImageError(f"a {mode} TIFF of {plane.shape[2]} channels of {plane.dtype} cannot be read, only 8-bit ones")
    height, width = plane.shape[:2]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(plane[..., :channels]).tobytes())
    return np.asarray(image.convert("RGB"))


def _to_8_bits(array: npt.NDArray[Any]) -> Rgb8:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array * np.uint8(255)
    if array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        return np.round(array * 255).astype(np.uint8)
    low, high = np.percentile(array, [0.1, 99.9])
    if low == high:
        low, high = float(array.min()), float(array.max())
    if low == high:
        return np.zeros(array.shape, dtype=np.uint8)
    if array.dtype == np.uint16:  # a table of all 65,536 values spares the floats, which would be four times as large
        return np.take(_stretch(np.arange(1 << 16), low, high), array)
    return _stretch(array, low, high)


def _stretch(array: npt.NDArray[Any], low: float, high: float) -> Rgb8:
    stretched: Rgb8 = np.clip((array.astype(np.float64) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    return stretched


def _alpha_to_8_bits(alpha: npt.NDArray[Any]) -> Rgb8:
    """Opacity has a fixed scale: full is 1 for floats and the largest value for integers."""
    if alpha.dtype in (np.uint8, np.bool_):
        return _to_8_bits(alpha)
    full = 1.0 if alpha.dtype.kind == "f" else np.iinfo(alpha.dtype).max
    return np.round(np.clip(alpha / full, 0, 1) * 255).astype(np.uint8)


def _lay_on_white(colour: Rgb8, alpha: Rgb8) -> Rgb8:
    if alpha.min() == 255:
        return np.ascontiguousarray(colour)
    weight = alpha.astype(np.uint16)
    return ((colour * weight + 255 * (255 - weight) + 127) // 255).astype(np.uint8)
