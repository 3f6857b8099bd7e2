"""What annotations say of sizes and run lengths, checked before memory is taken for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halfpixel.data.formats.json_files import whole
from halfpixel.data.images.container import MAX_PIXELS
from halfpixel.ops import rle

LARGEST_SIDE_PX = 1_000_000
"""An annotated image of a longer side is a mistake."""

PlacedCrop = rle.PlacedCrop


def checked_size_hw(height: object, width: object) -> tuple[int, int]:
    """Height and width of an image in pixels.

    Raises:
        ValueError: they are not whole numbers from 1 to `LARGEST_SIDE_PX`.
    """
    rows, columns = whole(height), whole(width)
    if rows is None or columns is None:
        raise ValueError(f"a size of {width!r:.40} x {height!r:.40}, expected whole numbers of pixels")
    if not (1 <= rows <= LARGEST_SIDE_PX and 1 <= columns <= LARGEST_SIDE_PX):
        sides = " x ".join(f"{one}" if abs(one) < 1e30 else f"{len(f'{one:x}') * 4}-bit" for one in (columns, rows))
        raise ValueError(f"a size of {sides} pixels; sides from 1 to {LARGEST_SIDE_PX} are read")
    return rows, columns


def decode_runs(counts: rle.Counts, size_hw: tuple[int, int]) -> PlacedCrop:
    """The mask of run lengths on an image of a checked size; 0 by 0 pixels where there is none.

    Raises:
        ValueError: they do not add up to the image, or the mask would fill the memory.
    """
    return rle.decode_to_crop(counts, size_hw, at_most_px=MAX_PIXELS)


def read_run_lengths(segmentation: dict[str, object], size_hw: tuple[int, int]) -> PlacedCrop:
    """The mask of COCO's run lengths, `{"size": [h, w], "counts": a string or numbers}`.

    Raises:
        ValueError: they are not what they should be, or do not fit the image.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != list(size_hw):
        raise ValueError(
            f"the run lengths are for a size [height, width] of {size!r:.60}, the image has {list(size_hw)}"
        )
    if isinstance(counts, str):
        return decode_runs(rle.decompress(counts), size_hw)
    area_px = size_hw[0] * size_hw[1]
    runs = [whole(one) for one in counts] if isinstance(counts, list) else [None]
    numbers = [one for one in runs if one is not None and one >= 0]
    if len(numbers) < len(runs):
        raise ValueError("the run lengths' 'counts' must be a string or a list of whole numbers from 0 up")
    total = sum(numbers)  # here, as larger numbers than 64 bits hold may come in
    if total != area_px:
        found = f"{total}" if total < 1e30 else "far more"
        raise ValueError(f"the run lengths add up to {found} pixels, the image has {area_px}")
    return decode_runs(np.array(numbers, dtype=np.int64), size_hw)


def united(parts: Sequence[PlacedCrop], size_hw: tuple[int, int]) -> PlacedCrop:
    """The union of some masks, cut to the image and to its pixels; 0 by 0 pixels where there is none."""
    height, width = size_hw
    placed = [
        (max(x, 0), max(y, 0), crop[max(-y, 0) : max(height - y, 0), max(-x, 0) : max(width - x, 0)])
        for crop, (x, y) in parts
    ]
    placed = [(x, y, crop) for x, y, crop in placed if crop.any()]
    if not placed:
        return np.zeros((0, 0), dtype=np.bool_), (0, 0)
    left, top = min(x for x, _, _ in placed), min(y for _, y, _ in placed)
    right = max(x + crop.shape[1] for x, _, crop in placed)
    bottom = max(y + crop.shape[0] for _, y, crop in placed)
    union = np.zeros((bottom - top, right - left), dtype=np.bool_)
    for x, y, crop in placed:
        union[y - top : y - top + crop.shape[0], x - left : x - left + crop.shape[1]] |= crop
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    tight = union[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(tight), (left + int(columns[0]), top + int(rows[0]))
