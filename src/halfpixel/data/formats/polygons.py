"""Polygons, as annotation tools draw them, and the pixels they cover."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hotcoco import mask as hotcoco_mask

from halfpixel.data.formats.mask_sizes import PlacedCrop, decode_runs
from halfpixel.ops import rle

FURTHEST_PX = 1_000_000
"""A polygon that goes further is a mistake."""
LONGEST_OUTLINE_PX = 5_000_000
"""The edges of an object are walked along in fifths of a pixel: longer ones would fill the memory."""

BLOCK = 512
"""Edges of a polygon that are compared with all others at a time."""


def rasterise(polygons: Sequence[object], size_hw: tuple[int, int]) -> PlacedCrop:
    """The pixels of the union of some polygons, by the rule of the COCO API.

    Args:
        polygons: each a list `[x, y, x, y, ...]` in pixels, pixel j covering [j, j + 1). Those of less than three
            points cover nothing.
        size_hw: the image; what lies outside is cut off.

    Returns:
        A boolean crop `[h, w]` (0 by 0 when no pixel is covered) and its first pixel `(x, y)`.

    Raises:
        ValueError: a polygon is not a list of an even number of finite numbers, reaches absurdly far, or is absurdly
            long; or the mask would fill the memory.
    """
    return decode_runs(rle.decompress(to_string(polygons, size_hw)), size_hw)


def to_string(polygons: Sequence[object], size_hw: tuple[int, int]) -> str:
    """The mask that `rasterise` makes, as a COCO string of run lengths.

    Raises:
        ValueError: see `rasterise`.
    """
    usable: list[list[float]] = []
    for k, polygon in enumerate(polygons):
        if not isinstance(polygon, list):
            raise ValueError(f"polygon {k} must be a list of coordinates, got {polygon!r:.60}")
        if len(polygon) % 2:
            raise ValueError(f"polygon {k} has an odd number of coordinates ({len(polygon)})")
        check_numbers(f"polygon {k}", polygon, len(polygon))
        if any(abs(one) > FURTHEST_PX for one in polygon):
            raise ValueError(f"polygon {k} reaches {max(map(abs, polygon)):g} pixels away from the image")
        if len(polygon) >= 6:
            usable.append(polygon)
    if not usable:
        return rle.compress([np.array([size_hw[0] * size_hw[1]])])[0]
    length_px = sum(_length_px(one) for one in usable)
    if length_px > LONGEST_OUTLINE_PX:
        raise ValueError(f"an outline of {length_px:g} pixels; at most {LONGEST_OUTLINE_PX:g} are followed")
    merged = hotcoco_mask.merge(hotcoco_mask.frPyObjects(usable, *size_hw))
    text: str = merged["counts"].decode("ascii")
    return text


def ellipse_outline(centre_xy: tuple[float, float], radii_xy: tuple[float, float], turned: float = 0.0) -> list[float]:
    """An ellipse as a polygon `[x, y, x, y, ...]` that stays within a hundredth of a pixel of it.

    Args:
        centre_xy: its centre in pixels.
        radii_xy: half of its width and height before it is turned.
        turned: by this angle around its centre, in radians, from x to y.
    """
    (x, y), (a, b) = centre_xy, radii_xy
    radius = max(a, b)
    n = 32 + min(4 * math.ceil(radius), math.ceil(23 * math.sqrt(radius)))
    angles = np.arange(n) * (2 * math.pi / n)
    u, v = a * np.cos(angles), b * np.sin(angles)
    points = np.stack(
        [x + u * math.cos(turned) - v * math.sin(turned), y + u * math.sin(turned) + v * math.cos(turned)]
    )
    return [float(one) for one in points.T.ravel()]


def check_numbers(name: str, values: object, n: int = 1) -> None:
    """Raise a ValueError unless `values` is a list of `n` finite numbers."""
    numbers = values if isinstance(values, list) else []
    if len(numbers) != n or any(type(one) not in (int, float) or not abs(one) < 1e300 for one in numbers):
        raise ValueError(f"'{name}' must be {n} finite number{'s' * (n > 1)}, got {values!r:.80}")


def lies_outside(polygon: Sequence[float], size_hw: tuple[int, int]) -> bool:
    """Whether the box around a polygon `[x, y, x, y, ...]` has nothing in common with the image."""
    (x0, y0), (x1, y1) = _extent(polygon)
    return x1 <= 0 or y1 <= 0 or x0 >= size_hw[1] or y0 >= size_hw[0]


def overhang_px(polygon: Sequence[float], size_hw: tuple[int, int]) -> float:
    """How far a polygon `[x, y, x, y, ...]` reaches beyond the image, in pixels; 0 where it stays inside."""
    (x0, y0), (x1, y1) = _extent(polygon)
    return max(-x0, -y0, x1 - size_hw[1], y1 - size_hw[0], 0.0)


def polygon_area_px(polygon: Sequence[float]) -> float:
    """What a polygon `[x, y, x, y, ...]` encloses, by the shoelace formula, in square pixels.

    Where it crosses itself, parts that run the other way round count against the rest.
    """
    x, y = (_points(polygon) - _points(polygon)[:1]).T
    return abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 2


def crossing(polygon: Sequence[float]) -> tuple[float, float] | None:
    """A place `(x, y)` in pixels where a polygon `[x, y, x, y, ...]` crosses itself, or None.

    Edges that only touch, as where an outline runs back along itself, do not cross.
    """
    points = _points(polygon)
    ring = np.concatenate([points, points[:1]])
    starts, ends = ring[:-1], ring[1:]
    for first in range(0, len(points), BLOCK):
        block = slice(first, first + BLOCK)
        # an edge crosses another where each has the other's ends on either side of it
        sides = _side_of(starts[block], ends[block], ring)
        back = _side_of(starts, ends, ring[first : first + BLOCK + 1])
        crosses = (sides[:, :-1] * sides[:, 1:] < 0) & (back[:, :-1] * back[:, 1:] < 0).T
        if crosses.any():
            k, other = (int(one) for one in np.argwhere(crosses)[0])
            a, b, c, d = starts[block][k], ends[block][k], starts[other], ends[other]
            (ux, uy), (vx, vy), (wx, wy) = b - a, d - c, c - a
            x, y = a + (b - a) * ((wx * vy - wy * vx) / (ux * vy - uy * vx))
            return float(x), float(y)
    return None


def _points(polygon: Sequence[float]) -> npt.NDArray[np.float64]:
    return np.asarray(polygon, dtype=np.float64).reshape(-1, 2)


def _length_px(polygon: Sequence[float]) -> float:
    """The steps along a polygon's edges, each as many as its longer side has pixels."""
    points = _points(polygon)
    return float(np.abs(points - np.roll(points, -1, axis=0)).max(axis=1).sum())


def _extent(polygon: Sequence[float]) -> tuple[tuple[float, float], tuple[float, float]]:
    x, y = polygon[0::2], polygon[1::2]
    return (min(x), min(y)), (max(x), max(y))


def _side_of(
    starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], points: npt.NDArray[np.float64]
) -> npt.NDArray[np.int8]:
    """On which side of each edge each point lies: `[edges, points]` of -1, 0 (on its line) and 1."""
    dx, dy = (ends - starts).T[:, :, None]
    x, y = points.T[:, None, :]
    turn = dx * (y - starts[:, 1:]) - dy * (x - starts[:, :1])
    sides: npt.NDArray[np.int8] = np.sign(turn).astype(np.int8)
    return sides
