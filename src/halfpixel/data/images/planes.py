"""What every kind of image file comes down to: planes of channels, decoded one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from halfpixel.data.images.container import check_area, decoder_cost, exif_orientation
from halfpixel.data.images.contrast import Contrast, Values, fixed_contrast
from halfpixel.data.images.png_chunks import bits_and_kind, check_checksums
from halfpixel.data.images.raster.georeference import Georeference
from halfpixel.data.images.raster.levels import Level
from halfpixel.data.images.raster.windows import Window
from halfpixel.errors import ImageError

COLOURS = ("red", "green", "blue")

Alpha = Values | None


@dataclass(frozen=True, eq=False)
class Stack:
    """One image of a file, of one plane or many, not yet decoded.

    Attributes:
        levels: the sizes at which the file holds it, the largest first, height and width as they are stored.
        orientation: the EXIF tag; `read` does not apply it.
        planes: what each plane is called, in the order of the file.
        channel_names: without opacity.
        is_colour: the first three channels are red, green and blue, parts of one picture.
        contrast: that of pixels of 8 bits or less; None where it is to be measured.
        read: the values `[h, w, channels]` of some channels of a plane, and its opacity `[h, w, 1]` if it has one.
        dtype: of the values.
        white_is_zero: small values are bright.
        pixel_size_xy_um: along the stored rows and columns.
        no_data: the value of pixels that are outside of the picture, where the file has one.
        read_window: as `read`, of a window at a level alone; None where a plane is decoded as a whole or not at all.
        has_opacity: `read_window` gives opacity.
        georeference: where on the Earth the largest level lies, as it is stored.
    """

    levels: tuple[Level, ...]
    orientation: int
    planes: Sequence[str]
    channel_names: tuple[str, ...]
    is_colour: bool
    contrast: Contrast | None
    read: Callable[[int, Sequence[int]], tuple[Values, Alpha]]
    dtype: np.dtype[Any]
    white_is_zero: bool = False
    pixel_size_xy_um: tuple[float, float] | None = None
    no_data: float | None = None
    read_window: Callable[[int, Sequence[int], Window, int], tuple[Values, Alpha]] | None = None
    has_opacity: bool = False
    georeference: Georeference | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width as they are stored."""
        return self.levels[0].size_hw


def name_channels(n: int, is_colour: bool) -> tuple[str, ...]:
    """Names for channels that the file does not name."""
    if n == 1:
        return ("grey",)
    return tuple(COLOURS[k] if is_colour and k < len(COLOURS) else f"channel {k + 1}" for k in range(n))


def plane_name(letter: str, k: int, of: int) -> str:
    """The name of one plane of many: `z003` is the third."""
    return f"{letter}{k + 1:0{max(3, len(str(of)))}}"


def pillow_stack(image: ImageFile.ImageFile, file: BinaryIO) -> Stack:
    """The frames of a file that Pillow reads; a PNG of 16 bits goes through imagecodecs, without loss."""
    check_area(*image.size, decoder_cost(image))
    orientation = exif_orientation(image, file)
    is_png = image.format == "PNG"
    png_bits, png_kind = bits_and_kind(file) if is_png else (0, 0)
    is_deep = png_bits == 16
    n = 1 if is_deep else int(getattr(image, "n_frames", 1))
    # the frames of a grey animation can have colours
    is_grey = n == 1 and (png_kind in (0, 4) if is_png else image.mode in ("1", "L"))

    def read(plane: int, channels: Sequence[int]) -> tuple[Values, Alpha]:
        if is_png and plane == 0:
            check_checksums(file)
        if is_deep:
            file.seek(0)
            pixels = imagecodecs.png_decode(file.read())
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        else:
            if n > 1:
                image.seek(plane)
            pixels = pillow_pixels(image)
        has_alpha = pixels.shape[2] in (2, 4)
        return take_channels(pixels, channels), pixels[..., -1:] if has_alpha else None

    return Stack(
        levels=(Level((image.height, image.width), 1),),
        orientation=orientation,
        planes=[plane_name("t", k, n) for k in range(n)] if n > 1 else [""],
        channel_names=name_channels(1 if is_grey else 3, is_colour=True),
        is_colour=not is_grey,
        contrast=None if is_deep else fixed_contrast(np.dtype(np.uint8)),
        read=read,
        dtype=np.dtype(np.uint16 if is_deep else np.uint8),
    )


def array_stack(array: Values) -> Stack:
    """An array in memory `[h, w]` or `[h, w, channels]`; three channels are red, green and blue, a fourth is opacity.

    Raises:
        ImageError: another shape or type, or nothing in it.
    """
    values = array[..., None] if array.ndim == 2 else array
    if values.ndim != 3 or values.size == 0:
        raise ImageError("expected an array [h, w] or [h, w, channels] with pixels in it")
    if array.dtype.kind not in "buif":
        raise ImageError("expected bool, integer or float pixels")
    n = values.shape[2]
    is_colour = n in (3, 4)
    colours, alpha = (values[..., :3], values[..., 3:] if n == 4 else None) if is_colour else (values, None)

    def read(plane: int, channels: Sequence[int]) -> tuple[Values, Alpha]:
        return take_channels(colours, channels), alpha

    return Stack(
        levels=(Level((values.shape[0], values.shape[1]), 1),),
        orientation=1,
        planes=[""],
        channel_names=name_channels(colours.shape[2], is_colour),
        is_colour=is_colour,
        contrast=fixed_contrast(array.dtype),
        read=read,
        dtype=array.dtype,
    )


def pillow_pixels(image: Image.Image) -> npt.NDArray[Any]:
    """Grey, RGB or RGBA `[h, w, 1, 3 or 4]` of a Pillow picture."""
    if image.mode == "F" or image.mode.startswith("I"):  # deeper than 8 bits
        return np.asarray(image)[..., None]
    # a palette can hold transparency, a grey or RGB PNG can declare one colour transparent
    return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def take_channels(pixels: Values, channels: Sequence[int]) -> Values:
    """Some channels of an image, itself where they are all that it has."""
    return pixels if list(channels) == list(range(pixels.shape[2])) else pixels[..., list(channels)]


def find_channel(names: Sequence[str], wanted: str | int) -> int:
    """The index of a channel by its name, whatever the case, or by its number from 1.

    Raises:
        ImageError: names the channels that there are.
    """
    known = [name.casefold() for name in names]
    if isinstance(wanted, str):
        if known.count(wanted.casefold()) == 1:
            return known.index(wanted.casefold())
        if wanted.casefold() in known:
            found = [k + 1 for k, name in enumerate(known) if name == wanted.casefold()]
            raise ImageError(f"channels {' and '.join(map(str, found))} are both called {wanted!r}: choose by number")
        if not (wanted.isascii() and wanted.isdigit()):
            raise ImageError(f"no channel is called {wanted!r}; {_list_channels(names)}")
    if 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise ImageError(f"there is no channel {wanted}; {_list_channels(names)}")


def _list_channels(names: Sequence[str]) -> str:
    return "the file has " + ", ".join(f"{k + 1} ({name})" for k, name in enumerate(names))
