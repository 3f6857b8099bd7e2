"""The pixels of one image of a TIFF: planes and windows of them, at any level, as values of its channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tifffile
from PIL import Image

from halfpixel.data.images.container import check_area, max_pixels
from halfpixel.data.images.contrast import Rgb8, Values
from halfpixel.data.images.opacity import straight_colours
from halfpixel.data.images.planes import Alpha, take_channels
from halfpixel.data.images.raster.segments import Page, Segments
from halfpixel.data.images.raster.windows import Window, whole
from halfpixel.errors import ImageError

PHOTOMETRIC = tifffile.PHOTOMETRIC
COMPRESSION = tifffile.COMPRESSION
JPEG = (COMPRESSION.JPEG, COMPRESSION.OJPEG, COMPRESSION.ALT_JPEG)


@dataclass(frozen=True, eq=False)
class TiffPixels:
    """How the pages of an image hold its planes and channels, and what makes colours of them.

    Attributes:
        levels: the image, and the same at smaller sizes.
        axes: what its pages and their pixels are, in letters.
        shapes: of each level, how many there are of each.
        channel_axis: the letter of the channels; it may be missing from the axes.
        palette: the colours `[n, 3]` of values that stand for colours.
        has_alpha: the last of the channels is the opacity.
        segments: of the file.
    """

    levels: Sequence[tifffile.TiffPageSeries]
    axes: str
    shapes: Sequence[tuple[int, ...]]
    channel_axis: str
    palette: Rgb8 | None
    has_alpha: bool
    segments: Segments

    @property
    def plane_axes(self) -> list[int]:
        """The axes along which the planes lie."""
        return [k for k, axis in enumerate(self.axes) if axis not in "YX" + self.channel_axis]

    @property
    def n_stored(self) -> int:
        """How many channels the file has, opacity among them."""
        return self.shapes[0][self.axes.index(self.channel_axis)] if self.channel_axis in self.axes else 1

    @property
    def is_converted(self) -> bool:
        """Whether the channels become red, green and blue of 8 bits when they are read."""
        return self.palette is not None or _other_colours(self.levels[0].keyframe) is not None

    def size_hw(self, level: int) -> tuple[int, int]:
        """Height and width of a level."""
        size = dict(zip(self.axes, self.shapes[level], strict=True))
        return size["Y"], size["X"]

    def read(
        self, plane: int, channels: Sequence[int], window_xyxy: Window | None = None, level: int = 0
    ) -> tuple[Values, Alpha]:
        """A plane or a part of it: some channels `[h, w, channels]`, and its opacity `[h, w, 1]` if it has one.

        Args:
            plane: its number along the axes of planes.
            channels: indices, opacity left out.
            window_xyxy: inside of the level, in its pixels, of which only the tiles or strips around it are decoded;
                None for all, decoded by several threads.
            level: 0 is the largest.

        Raises:
            ImageError: the pixels cannot be decoded, or are too many.
            UnreadableTileError: those around the window cannot.
        """
        page, everything = self.levels[level].keyframe, range(self.n_stored)
        if self.palette is not None:
            indices = self._stored(plane, [0], window_xyxy, level)[..., 0]
            return take_channels(self.palette[indices], channels), None
        if (mode := _other_colours(page)) is not None:
            return take_channels(_as_rgb(self._stored(plane, everything, window_xyxy, level), mode), channels), None
        if self.has_alpha:
            pixels = self._stored(plane, everything, window_xyxy, level)
            colours, alpha = pixels[..., :-1], pixels[..., -1:]
            if page.extrasamples[0] == tifffile.EXTRASAMPLE.ASSOCALPHA:
                colours = straight_colours(colours, alpha)
            return take_channels(colours, channels), alpha
        return self._stored(plane, channels, window_xyxy, level), None

    def _stored(self, plane: int, channels: Sequence[int], window_xyxy: Window | None, level: int) -> Values:
        """Channels `[h, w, channels]` as the file has them; only their pages are decoded."""
        series, axes, shape = self.levels[level], self.axes, self.shapes[level]
        self._check_size(window_xyxy or whole(self.size_hw(level)), level, len(channels))
        steps = np.unravel_index(plane, [shape[k] for k in self.plane_axes])
        where = {axis: int(step) for axis, step in zip(self.plane_axes, steps, strict=True)}
        index = tuple(where[k] if k in where else slice(None) for k in range(len(axes)))
        kept = "".join(axis for k, axis in enumerate(axes) if k not in where)
        n_leading = len(axes) - len(series.keyframe.shape)
        leading, of_page = shape[:n_leading], index[n_leading:]
        if len(series.pages) == math.prod(leading):
            numbers = np.arange(math.prod(leading)).reshape(leading)[index[:n_leading]]
            if self.channel_axis in axes[:n_leading]:
                pages = [series.pages[int(numbers[k])] for k in channels]
                array = np.stack([self._decode(page, window_xyxy)[of_page] for page in pages])
                channels = range(len(channels))
            else:
                array = self._decode(series.pages[int(numbers)], window_xyxy)[of_page]
        else:  # one page describes the whole uncompressed stack
            x0, y0, x1, y1 = window_xyxy or whole(self.size_hw(level))
            array = series.asarray(out="memmap").reshape(shape)[index]
            array = array[tuple({"Y": slice(y0, y1), "X": slice(x0, x1)}.get(axis, slice(None)) for axis in kept)]
        if self.channel_axis not in kept:
            array, kept = array[..., None], kept + self.channel_axis
        array = take_channels(array.transpose([kept.index(axis) for axis in "YX" + self.channel_axis]), channels)
        return np.array(array, array.dtype.newbyteorder("=")) if isinstance(array, np.memmap) else array

    def _check_size(self, window_xyxy: Window, level: int, n_channels: int) -> None:
        x0, y0, x1, y1 = window_xyxy
        check_area(x1 - x0, y1 - y0)
        series, (height, width) = self.levels[level], self.size_hw(level)
        n_of_page = 0 if series.is_truncated else math.prod(series.keyframe.shape) // (height * width)
        n = (x1 - x0) * (y1 - y0) * max(n_of_page, n_channels)
        if n > 4 * max_pixels():  # hundreds of samples or channels, or a volume
            raise ImageError(f"one plane of the TIFF has {n} values, too many to be read")

    def _decode(self, page: Page | None, window_xyxy: Window | None) -> Values:
        if page is None:
            raise ImageError("the TIFF lacks some of the planes that it promises")
        if window_xyxy is not None:
            return self.segments.window(page, window_xyxy)
        size = page.parent.filehandle.size
        if any(start + n > size for start, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
            raise ImageError(f"the TIFF is cut short: its pixels go on after the last of its {size} bytes")
        return np.asarray(page.asarray())


def _other_colours(page: tifffile.TiffPage) -> str | None:
    """The Pillow mode of colours that are to be made red, green and blue."""
    if page.photometric == PHOTOMETRIC.SEPARATED:
        return "CMYK"
    if page.compression == COMPRESSION.APERIO_JP2000_YCBC:  # whatever the slide says of its colours
        return "YCbCr"
    # JPEG comes out of its codec as RGB
    return "YCbCr" if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in JPEG else None


def _as_rgb(plane: Values, mode: str) -> Rgb8:
    channels = len(Image.new(mode, (1, 1)).getbands())
    if plane.dtype != np.uint8 or plane.shape[2] < channels:
        raise ImageError(f"a {mode} TIFF of {plane.shape[2]} channels of {plane.dtype} cannot be read, only 8-bit ones")
    if mode == "YCbCr":
        return _from_ycbcr(plane)
    height, width = plane.shape[:2]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(plane[..., :channels]).tobytes())
    return np.asarray(image.convert("RGB"))


def _from_ycbcr(plane: Rgb8) -> Rgb8:
    """By JFIF 1.02 (E. Hamilton, 1992), rounded as JPEG decoders do it; Pillow's own is up to 1 off."""
    around = np.arange(256) - 128
    half, bits = 1 << 15, 16
    weights = [round(weight * (1 << bits)) for weight in (1.402, 1.772, 0.34414, 0.71414)]
    red, blue = ((weight * around + half >> bits).astype(np.int16) for weight in weights[:2])
    green_by_blue, green_by_red = (-weight * around for weight in weights[2:])
    light, cb, cr = plane[..., 0].astype(np.int16), plane[..., 1], plane[..., 2]
    green = (green_by_blue[cb] + green_by_red[cr] + half >> bits).astype(np.int16)
    return np.stack([light + red[cr], light + green, light + blue[cb]], axis=2).clip(0, 255).astype(np.uint8)
