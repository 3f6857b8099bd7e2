"""Where the image of a GeoTIFF lies on the Earth (OGC GeoTIFF Standard 1.1, OGC 19-008r4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tifffile

USER_DEFINED = 32_767
"""The code of a system that has none."""

PIXEL_IS_POINT = 2

Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Georeference:
    """A coordinate reference system, and the way to it.

    Attributes:
        crs: such as `EPSG:32617`; None where the file has no code for it.
        affine: (a, b, c, d, e, f): what lies x pixels right and y pixels below the outer corner of the first pixel of
            the largest level, half a pixel for a pixel's centre, is at (a x + b y + c, d x + e y + f).
    """

    crs: str | None
    affine: Affine


def read_georeference(page: tifffile.TiffPage) -> Georeference | None:
    """What a page says of it; None where it says nothing, or points that no affine map goes through."""
    tags = page.geotiff_tags if page.is_geotiff else None
    affine = None if tags is None else _affine(tags)
    if tags is None or affine is None:
        return None
    if tags.get("GTRasterTypeGeoKey") == PIXEL_IS_POINT:  # its coordinates are those of the pixels' centres
        a, b, c, d, e, f = affine
        affine = a, b, c - (a + b) / 2, d, e, f - (d + e) / 2
    codes = [_code(tags.get(key)) for key in ("ProjectedCSTypeGeoKey", "GeographicTypeGeoKey")]
    code = next((one for one in codes if one), None)
    return Georeference(f"EPSG:{code}" if code and code != USER_DEFINED else None, affine)


def _code(value: object) -> int:
    return int(value) if isinstance(value, int) else 0


def _affine(tags: Mapping[str, Any]) -> Affine | None:
    if (matrix := tags.get("ModelTransformation")) is not None:
        (a, b, _, c), (d, e, _, f) = matrix[:2]
        return a, b, c, d, e, f
    scale, point = tags.get("ModelPixelScale"), tags.get("ModelTiepoint")
    if scale is None or point is None or len(scale) < 2 or len(point) != 6 or isinstance(point[0], list):
        return None
    (width, height), (column, row, _, x, y, _) = scale[:2], point
    return width, 0.0, x - column * width, 0.0, -height, y + row * height
