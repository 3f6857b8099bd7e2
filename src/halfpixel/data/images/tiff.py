"""TIFF files as stacks: planes, channels and colours, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tifffile

from halfpixel.data.images.contrast import Contrast, Rgb8, fixed_contrast
from halfpixel.data.images.ome import Element, ome_images, own_planes
from halfpixel.data.images.planes import Stack, name_channels, plane_name
from halfpixel.data.images.raster.georeference import read_georeference
from halfpixel.data.images.raster.levels import Level, downsample
from halfpixel.data.images.raster.segments import Segments
from halfpixel.data.images.tiff_metadata import read_channel_names, read_no_data, read_pixel_size_um
from halfpixel.data.images.tiff_pixels import PHOTOMETRIC, TiffPixels
from halfpixel.errors import ImageError

BESIDE_SLIDES = {"label", "macro", "map", "thumbnail"}
BESIDE_OME_SLIDES = {"label image", "macro image"}
"""How tifffile and Bio-Formats call what slide scanners add to a scan."""

LUMINANCE = np.array([299, 587, 114])
ROUNDING = 2_000
"""By this much, of 255,000, a table may go back and count as one way."""

UNNAMED_AXES = "IQ"
"""tifffile's letters for planes of which nothing is known; here they are pages, `p`."""


class _Image(NamedTuple):
    """An image of a TIFF: itself and smaller ones of it, and what OME metadata says of them."""

    levels: list[tifffile.TiffPageSeries]
    ome: Element | None


def tiff_stacks(tiff: tifffile.TiffFile) -> list[Stack]:
    """The images of a TIFF, each with its planes.

    Raises:
        ImageError: there are none.
    """
    if not tiff.series:
        raise ImageError("the TIFF holds no image, or is cut short")
    found = [
        _Image([series], ome)
        for series, ome in zip(tiff.series, ome_images(tiff), strict=True)
        if {"Y", "X"} <= set(series.axes)
    ]
    if not found:
        raise ImageError(f"a TIFF with the axes {tiff.series[0].axes} is not an image")
    counted = [one for one in found if not _belongs_to_slide(tiff, one.levels[0])]
    images = _with_levels(counted or found)
    n, segments = len(images), Segments(tiff.filehandle)
    return [_tiff_stack(tiff, one, plane_name("s", k, n) if n > 1 else "", segments) for k, one in enumerate(images)]


def _with_levels(images: Sequence[_Image]) -> list[_Image]:
    """Images with their smaller levels; those that say that they are reduced ones of the image before go to it."""
    result: list[_Image] = []
    for image in images:
        (series,) = image.levels
        if result and series.keyframe.is_reduced and _downsample(result[-1].levels[0], series):
            result[-1].levels.append(series)
        else:
            smaller = [one for one in series.levels[1:] if _downsample(series, one)]
            result.append(_Image([series, *smaller], image.ome))
    for image in result:
        image.levels.sort(key=lambda level: -level.keyframe.imagewidth)
    return result


def _downsample(series: tifffile.TiffPageSeries, other: tifffile.TiffPageSeries) -> float | None:
    """By how much another series was reduced; None where it is not the same image, made smaller."""
    if other is series or (other.axes, other.dtype) != (series.axes, series.dtype):
        return 1.0 if other is series else None
    sizes = [dict(zip(one.axes, one.shape, strict=True)) for one in (series, other)]
    (height, width), (other_height, other_width) = ((size.pop("Y"), size.pop("X")) for size in sizes)
    return downsample((height, width), (other_height, other_width)) if sizes[0] == sizes[1] else None


def _belongs_to_slide(tiff: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> bool:
    """Whether an image shows the glass of a slide, its label or all of it made small, not what was scanned."""
    name = series.name.casefold()
    return name in BESIDE_OME_SLIDES if tiff.is_ome else name in BESIDE_SLIDES


def _tiff_stack(tiff: tifffile.TiffFile, image: _Image, prefix: str, segments: Segments) -> Stack:
    series, ome = image.levels[0], image.ome
    page, own = series.keyframe, own_planes(tiff, ome)
    axes, shapes = series.axes, [level.shape for level in image.levels]
    if own:
        axes, shapes = own.axes + "YX", [(*own.shape, *shape[-2:]) for shape in shapes]
    # channels of colours, such as several stained slides in one file, count as planes
    channel_axis = "S" if "S" in axes else "C"
    n_stored = shapes[0][axes.index(channel_axis)] if channel_axis in axes else 1
    palette = _palette(page) if page.photometric == PHOTOMETRIC.PALETTE and n_stored == 1 else None
    slope = _slope(palette) if palette is not None and tiff.is_imagej else 0
    if slope:  # a table to look at the values with, which do not change by it
        palette = None
    n_opaque = 3 if page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) else 1
    has_alpha = channel_axis == "S" and n_stored == n_opaque + 1 and page.extrasamples[:1] in ((1,), (2,))
    pixels = TiffPixels(image.levels, axes, shapes, channel_axis, palette, has_alpha, segments)
    planes = _name_planes([axes[k] for k in pixels.plane_axes], [shapes[0][k] for k in pixels.plane_axes], prefix)
    is_converted = pixels.is_converted
    is_colour = is_converted or (n_opaque == 3 and n_stored >= 3)
    n_channels = 3 if is_converted else n_stored - has_alpha
    names = None if is_colour else read_channel_names(tiff, ome, own, n_channels, len(planes))
    defaults = name_channels(n_channels, is_colour)
    orientation = page.tags.valueof("Orientation")
    dtype = np.dtype(np.uint8) if is_converted else series.dtype.newbyteorder("=")
    return Stack(
        levels=tuple(Level(pixels.size_hw(k), _downsample(series, one) or 1) for k, one in enumerate(image.levels)),
        orientation=1 if orientation is None else int(orientation),
        planes=planes,
        channel_names=tuple(name or default for name, default in zip(names or defaults, defaults, strict=True)),
        is_colour=is_colour,
        contrast=_contrast(page, dtype, is_converted),
        read=pixels.read,
        dtype=dtype,
        white_is_zero=page.photometric == PHOTOMETRIC.MINISWHITE or slope < 0,
        pixel_size_xy_um=read_pixel_size_um(tiff, page, ome),
        no_data=None if is_converted else read_no_data(page),
        has_opacity=has_alpha and not is_converted,
        read_window=pixels.read,
        georeference=read_georeference(page),
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
