"""TIFF files as stacks: planes, channels and colours, page by page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from halfpixel.data.images.container import check_area, max_pixels
from halfpixel.data.images.contrast import Contrast, Rgb8, Values, fixed_contrast
from halfpixel.data.images.ome import Element, ome_images, own_planes
from halfpixel.data.images.opacity import straight_colours
from halfpixel.data.images.planes import Alpha, Stack, name_channels, plane_name, take_channels
from halfpixel.data.images.tiff_metadata import read_channel_names, read_no_data, read_pixel_size_um
from halfpixel.errors import ImageError

PHOTOMETRIC = tifffile.PHOTOMETRIC
JPEG = (tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.ALT_JPEG)

BESIDE_SLIDES = {"label", "macro", "map", "thumbnail"}
BESIDE_OME_SLIDES = {"label image", "macro image"}
"""How tifffile and Bio-Formats call what slide scanners add to a scan."""

LUMINANCE = np.array([299, 587, 114])
ROUNDING = 2_000
"""By this much, of 255,000, a table may go back and count as one way."""

UNNAMED_AXES = "IQ"
"""tifffile's letters for planes of which nothing is known; here they are pages, `p`."""


def tiff_stacks(tiff: tifffile.TiffFile) -> list[Stack]:
    """The images of a TIFF, each with its planes.

    Raises:
        ImageError: there are none.
    """
    if not tiff.series:
        raise ImageError("the TIFF holds no image, or is cut short")
    images = [
        (series, pixels)
        for series, pixels in zip(tiff.series, ome_images(tiff), strict=True)
        if {"Y", "X"} <= set(series.axes)
    ]
    if not images:
        raise ImageError(f"a TIFF with the axes {tiff.series[0].axes} is not an image")
    counted = [one for one in images if not _belongs_to_slide(tiff, one[0])]
    images = counted or images
    n = len(images)
    return [_tiff_stack(tiff, *image, plane_name("s", k, n) if n > 1 else "") for k, image in enumerate(images)]


def _belongs_to_slide(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Whether an image shows the glass of a slide, its label or all of it made small, not what was scanned."""
    name = series.name.casefold()
    return name in BESIDE_OME_SLIDES if tiff.is_ome else name in BESIDE_SLIDES


def _tiff_stack(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries, ome: Element | None, prefix: str) -> Stack:
    page, axes, shape = series.keyframe, series.axes, series.shape
    if own := own_planes(tiff, ome):
        axes, shape = own.axes + "YX", (*own.shape, *shape[-2:])
    # channels of colours, such as several stained slides in one file, count as planes
    channel_axis = "S" if "S" in axes else "C"
    plane_axes = [k for k, axis in enumerate(axes) if axis not in "YX" + channel_axis]
    n_stored = shape[axes.index(channel_axis)] if channel_axis in axes else 1
    planes = _name_planes([axes[k] for k in plane_axes], [shape[k] for k in plane_axes], prefix)
    palette = _palette(page) if page.photometric == PHOTOMETRIC.PALETTE and n_stored == 1 else None
    slope = _slope(palette) if palette is not None and tiff.is_imagej else 0
    if slope:  # a table to look at the values with, which do not change by it
        palette = None
    through_pillow = _pillow_mode(page)
    is_converted = palette is not None or through_pillow is not None
    is_colour = is_converted or (page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) and n_stored >= 3)
    n_opaque = 3 if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1
    has_alpha = channel_axis == "S" and n_stored == n_opaque + 1 and page.extrasamples[:1] in ((1,), (2,))
    n_channels = 3 if is_converted else n_stored - has_alpha

    def read(plane: int, channels: Sequence[int]) -> tuple[Values, Alpha]:
        steps = np.unravel_index(plane, [shape[k] for k in plane_axes])
        where = {axis: int(step) for axis, step in zip(plane_axes, steps, strict=True)}
        if palette is not None:
            indices = _read_plane(series, axes, shape, where, channel_axis, [0])[..., 0]
            return take_channels(palette[indices], channels), None
        if through_pillow is not None:
            pixels = _read_plane(series, axes, shape, where, channel_axis, range(n_stored))
            return take_channels(_convert_with_pillow(pixels, through_pillow), channels), None
        if has_alpha:
            pixels = _read_plane(series, axes, shape, where, channel_axis, range(n_stored))
            colours, alpha = pixels[..., :n_channels], pixels[..., n_channels:]
            if page.extrasamples[0] == tifffile.EXTRASAMPLE.ASSOCALPHA:
                colours = straight_colours(colours, alpha)
            return take_channels(colours, channels), alpha
        return _read_plane(series, axes, shape, where, channel_axis, channels), None

    names = None if is_colour else read_channel_names(tiff, ome, own, n_channels, len(planes))
    defaults = name_channels(n_channels, is_colour)
    size = dict(zip(axes, shape, strict=True))
    orientation = page.tags.valueof("Orientation")
    dtype = np.dtype(np.uint8) if is_converted else series.dtype.newbyteorder("=")
    return Stack(
        size_hw=(size["Y"], size["X"]),
        orientation=1 if orientation is None else int(orientation),
        planes=planes,
        channel_names=tuple(name or default for name, default in zip(names or defaults, defaults, strict=True)),
        is_colour=is_colour,
        contrast=_contrast(page, dtype, is_converted),
        read=read,
        dtype=dtype,
        white_is_zero=page.photometric == PHOTOMETRIC.MINISWHITE or slope < 0,
        pixel_size_xy_um=read_pixel_size_um(tiff, page, ome),
        no_data=None if is_converted else read_no_data(page),
    )


def _palette(page: tifffile.TiffPage) -> Rgb8:
    """The colours `[n, 3]` of a palette image; some programs write them in 8 bits instead of 16."""
    colours = np.asarray(page.colormap)
    colours = colours if colours.max(initial=0) <= 255 else colours >> 8
    return np.ascontiguousarray(colours.astype(np.uint8).T)


def _slope(palette: Rgb8) -> int:
    """1 where the table makes larger values brighter, -1 where it makes them darker, 0 where it does neither."""
    steps = np.diff(palette.astype(int) @ LUMINANCE)
    if (steps >= -ROUNDING).all() and steps.sum() > 0:
        return 1
    return -1 if (steps <= ROUNDING).all() and steps.sum() < 0 else 0


def _name_planes(axes: Sequence[str], sizes: Sequence[int], prefix: str) -> list[str]:
    letters = ["p" if axis in UNNAMED_AXES else axis.lower() for axis in axes]
    order = sorted(range(len(axes)), key=lambda k: {"z": 0, "t": 1}.get(letters[k], 2))
    return [
        "_".join(
            ([prefix] if prefix else []) + [plane_name(letters[k], where[k], sizes[k]) for k in order if sizes[k] > 1]
        )
        for where in np.ndindex(*sizes)
    ]


def _contrast(page: tifffile.TiffPage, dtype: np.dtype[Any], is_converted: bool) -> Contrast | None:
    bits = page.bitspersample
    return fixed_contrast(dtype, bits if isinstance(bits, int) and not is_converted else None)


def _pillow_mode(page: tifffile.TiffPage) -> str | None:
    """The Pillow mode of colours that Pillow has to convert to RGB."""
    if page.photometric == PHOTOMETRIC.SEPARATED:
        return "CMYK"
    # JPEG comes out of its codec as RGB
    return "YCbCr" if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in JPEG else None


def _convert_with_pillow(plane: Values, mode: str) -> Rgb8:
    channels = len(Image.new(mode, (1, 1)).getbands())
    if plane.dtype != np.uint8 or plane.shape[2] < channels:
        raise ImageError(f"a {mode} TIFF of {plane.shape[2]} channels of {plane.dtype} cannot be read, only 8-bit ones")
    height, width = plane.shape[:2]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(plane[..., :channels]).tobytes())
    return np.asarray(image.convert("RGB"))


def _read_plane(
    series: tifffile.TiffPageSeries,
    axes: str,
    shape: Sequence[int],
    where: dict[int, int],
    channel_axis: str,
    channels: Sequence[int],
) -> Values:
    """Some channels of one plane, `[h, w, channels]`; only their pages are decoded.

    Args:
        series: an image of a TIFF.
        axes: what its pages and pixels are, in letters.
        shape: how many of each.
        where: for each axis that is neither height nor width nor channel, which of its planes.
        channel_axis: its letter.
        channels: indices along it.
    """
    _check_size(series, len(channels))
    page = series.keyframe
    index = tuple(where[k] if k in where else slice(None) for k in range(len(axes)))
    kept = "".join(axis for k, axis in enumerate(axes) if k not in where)
    n_leading = len(axes) - len(page.shape)
    leading = shape[:n_leading]
    if len(series.pages) == math.prod(leading):
        numbers = np.arange(math.prod(leading)).reshape(leading)[index[:n_leading]]
        if channel_axis in axes[:n_leading]:
            chosen = [_decode(series.pages[int(numbers[k])])[index[n_leading:]] for k in channels]
            array, channels = np.stack(chosen), range(len(channels))
        else:
            array = _decode(series.pages[int(numbers)])[index[n_leading:]]
    else:  # one page describes the whole uncompressed stack
        array = series.asarray(out="memmap").reshape(shape)[index]
    if channel_axis not in kept:
        array, kept = array[..., None], kept + channel_axis
    array = take_channels(array.transpose([kept.index(axis) for axis in "YX" + channel_axis]), channels)
    return np.array(array, array.dtype.newbyteorder("=")) if isinstance(array, np.memmap) else array


def _check_size(series: tifffile.TiffPageSeries, n_channels: int) -> None:
    size = dict(zip(series.axes, series.shape, strict=True))
    check_area(size["X"], size["Y"])
    n_decoded = 0 if series.is_truncated else math.prod(series.keyframe.shape)
    n = max(n_decoded, size["X"] * size["Y"] * n_channels)
    if n > 4 * max_pixels():  # hundreds of samples or channels, or a volume
        raise ImageError(f"one plane of the TIFF has {n} values, too many to be read")


def _decode(page: tifffile.TiffPage | tifffile.TiffFrame | None) -> Values:
    if page is None:
        raise ImageError("the TIFF lacks some of the planes that it promises")
    size = page.parent.filehandle.size
    if any(start + n > size for start, n in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise ImageError(f"the TIFF is cut short: its pixels go on after the last of its {size} bytes")
    return np.asarray(page.asarray())
