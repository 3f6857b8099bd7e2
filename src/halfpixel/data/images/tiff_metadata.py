"""What a TIFF says about its pixels: the names of its channels and how large a pixel is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import tifffile

MICROMETRES = {
    "å": 1e-4,
    "pm": 1e-6,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "in": 25_400.0,
    "inch": 25_400.0,
}

TIFF_UNITS_UM = {2: 25_400.0, 3: 1e4, 4: 1e3, 5: 1.0}
"""The codes of the tag ResolutionUnit that are a length."""

GDAL_NODATA = 42113
"""The tag with the value, as text."""

OPTICAL_UM = (0.02, 20)
"""A resolution beyond this range is one for printing (300 dpi are 85 um), not what a microscope saw."""


def ome_images(tiff: tifffile.TiffFile) -> list[ElementTree.Element | None]:
    """For each image of a file its OME `Pixels` element, if it has one."""
    nothing = [None] * len(tiff.series)
    try:
        found = ElementTree.fromstring(tiff.ome_metadata or "<OME/>").findall("./{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return [*nothing]
    return [*found] if len(found) == len(nothing) else [*nothing]


def read_channel_names(
    tiff: tifffile.TiffFile, ome: ElementTree.Element | None, n: int, n_planes: int
) -> list[str] | None:
    """The names of the channels by OME or ImageJ metadata, `""` for one without; None where there are none."""
    if ome is not None:
        names = [channel.get("Name", "").strip() for channel in ome.findall("./{*}Channel")]
        return names if len(names) == n and any(names) else None
    labels = (tiff.imagej_metadata or {}).get("Labels")
    # ImageJ labels every channel of every plane, some programs only the channels
    if isinstance(labels, Sequence) and not isinstance(labels, str) and n > 1 and len(labels) in (n, n * n_planes):
        names = [" ".join(str(label).split()) for label in labels[:n]]
        return names if len(set(names)) == n else None  # often the file's own name, again and again
    return None


def read_pixel_size_um(
    tiff: tifffile.TiffFile, page: tifffile.TiffPage, ome: ElementTree.Element | None
) -> tuple[float, float] | None:
    """Width and height of a pixel, by OME or ImageJ metadata or else by a resolution that is no print size."""
    size = None if ome is None else _ome_pixel_size_um(ome.attrib)
    return size or _resolution_um(page, tiff.imagej_metadata or {})


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
    return MICROMETRES.get(plain.lower())
