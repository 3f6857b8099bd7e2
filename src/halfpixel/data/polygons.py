"""Polygons, as annotation tools draw them, and the pixels they cover."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hotcoco import mask as hotcoco_mask

from halfpixel.ops import rle

FURTHEST_PX = 1_000_000
"""A polygon that goes further is a mistake; walking along its edge would fill the memory."""


def rasterise(polygons: Sequence[object], size_hw: tuple[int, int]) -> tuple[rle.Crop, tuple[int, int]]:
    """The pixels of the union of some polygons, by the rule of the COCO API.

    Args:
        polygons: each a list `[x, y, x, y, ...]` in pixels, pixel j covering [j, j + 1). Those of less than three
            points cover nothing.
        size_hw: the image; what lies outside is cut off.

    Returns:
        A boolean crop `[h, w]` (0 by 0 when no pixel is covered) and its first pixel `(x, y)`.

    Raises:
        ValueError: a polygon is not a list of an even number of finite numbers, or reaches absurdly far.
    """
    usable = []
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
        return rle.decode_to_crop(np.array([size_hw[0] * size_hw[1]]), size_hw)
    merged = hotcoco_mask.merge(hotcoco_mask.frPyObjects(usable, *size_hw))
    return rle.decode_to_crop(rle.decompress(merged["counts"].decode("ascii")), size_hw)


def check_numbers(name: str, values: object, n: int = 1) -> None:
    """Raise a ValueError unless `values` is a list of `n` finite numbers."""
    numbers = values if isinstance(values, list) else []
    if len(numbers) != n or any(type(one) not in (int, float) or not abs(one) < 1e300 for one in numbers):
        raise ValueError(f"'{name}' must be {n} finite number{'s' * (n > 1)}, got {values!r:.80}")
