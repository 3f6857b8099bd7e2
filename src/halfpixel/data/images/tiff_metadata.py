"""What a TIFF says about its pixels: the names of its channels and how large a pixel is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import tifffile

from halfpixel.data.images.ome import Element, OwnPlanes, ome_channel_names

MICROMETRES = {
    "å": 1e-4,
    "angstrom": 1e-4,
    "pm": 1e-6,
    "picometer": 1e-6,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "in": 25_400.0,
    "inch": 25_400.0,
    "inche": 25_400.0,
}
"""By units in the singular, in American spelling."""

TIFF_UNITS_UM = {2: 25_400.0, 3: 1e4, 4: 1e3, 5: 1.0}
"""The codes of the tag ResolutionUnit that are a length."""

APERIO_MPP = re.compile(r"Aperio\b.*\|\s*MPP\s*=\s*(\d{1,9}(?:\.\d{1,20})?)", re.DOTALL)
"""The description of a slide says how many micrometres a pixel is wide."""

GDAL_NODATA = 42113
"""The tag with the value, as text."""

OPTICAL_UM = (0.02, 20)
"""A resolution beyond this range is one for printing (300 dpi are 85 um), not what a microscope saw."""


def read_channel_names(
    tiff: tifffile.TiffFile, ome: Element | None, own: OwnPlanes | None, n: int, n_planes: int
) -> list[str] | None:
    """The names of the channels by OME or ImageJ metadata, `""` for one without; None where there are none."""
    if ome is not None:
        names = ome_channel_names(ome, None if own is None else own.channels)
        return names if len(names) == n and any(names) else None
    labels = (tiff.imagej_metadata or {}).get("Labels")
    # ImageJ labels every channel of every plane, some programs only the channels
    if isinstance(labels, Sequence) and not isinstance(labels, str) and n > 1 and len(labels) in (n, n * n_planes):
        names = [" ".join(str(label).split()) for label in labels[:n]]
        return names if len(set(names)) == n else None  # often the file's own name, again and again
    return None


def read_pixel_size_um(
    tiff: tifffile.TiffFile, page: tifffile.TiffPage, ome: Element | None
) -> tuple[float, float] | None:
    """Width and height of a pixel, by OME, Aperio or ImageJ metadata or else by a resolution that is no print size."""
    size = None if ome is None else _ome_pixel_size_um(ome.attrib)
    return size or _aperio_pixel_size_um(page) or _resolution_um(page, tiff.imagej_metadata or {})


def read_no_data(page: tifffile.TiffPage) -> float | None:
    """The value of pixels that are outside of the picture, as GDAL writes it; None where there is none."""
    try:
        return float(str(page.tags.valueof(GDAL_NODATA)).strip("\0 "))
    except ValueError:
        return None


def _ome_pixel_size_um(pixels: Mapping[str, str]) -> tuple[float, float] | None:
    sizes = []
    for axis in "XY":
        scale = _unit_um(pixels.get(f"PhysicalSize{axis}Unit", "um"))
        try:
            size = float(pixels.get(f"PhysicalSize{axis}", "nan"))
        except ValueError:
            return None
        if scale is None or not 0 < size < float("inf"):
            return None
        sizes.append(size * scale)
    return sizes[0], sizes[1]


def _aperio_pixel_size_um(page: tifffile.TiffPage) -> tuple[float, float] | None:
    found = APERIO_MPP.match(page.description)
    size = float(found[1]) if found else 0.0
    return (size, size) if size > 0 else None


def _resolution_um(page: tifffile.TiffPage, imagej: Mapping[str, Any]) -> tuple[float, float] | None:
    resolution = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if not all(isinstance(one, tuple) and len(one) == 2 and one[0] > 0 and one[1] > 0 for one in resolution):
        return None
    scale = TIFF_UNITS_UM.get(int(page.tags.valueof("ResolutionUnit", default=2)))
    is_optical = False
    if "unit" in imagej:
        unit = str(imagej["unit"])
        scale = _unit_um(unit)
        # ImageJ turns the print resolution of what it opens into inches and centimetres
        is_optical = scale is not None and scale < TIFF_UNITS_UM[3]
    if scale is None:
        return None
    width, height = (scale * below / above for above, below in resolution)
    least, most = OPTICAL_UM
    if not is_optical and not (least <= width <= most and least <= height <= most):
        return None
    return width, height


def _unit_um(unit: str) -> float | None:
    # ImageJ escapes what is not ASCII; there are two Greek letters for micro
    plain = unit.strip().replace("\\u00B5", "u").replace("\\u00b5", "u").replace("µ", "u").replace("μ", "u")
    plain = plain.lower().replace("metre", "meter")
    return MICROMETRES.get(plain.removesuffix("s") if len(plain) > 3 else plain)
