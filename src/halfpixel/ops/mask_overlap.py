"""What masks have in common: only pairs whose crops overlap are looked at, and only where they do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Indices = npt.NDArray[np.int64]
Window = Sequence[int]
"""Left, top, right and bottom."""


class PlacedCrops(NamedTuple):
    """`n` masks of one canvas as arrays.

    Attributes:
        crops: boolean `[h, w]` each.
        boxes_xyxy: `[n, 4]`, the whole pixels that each crop covers.
        areas_px: `[n]` pixels of each mask.
    """

    crops: list[npt.NDArray[np.bool_]]
    boxes_xyxy: Indices
    areas_px: Indices

    @classmethod
    def of(cls, placed: Iterable[tuple[Tensor, Sequence[int]]]) -> PlacedCrops:
        """From boolean crops and the canvas position `(x, y)` of each one's first pixel."""
        crops, boxes = [], []
        for crop, (x, y) in placed:
            crops.append(crop.numpy())
            boxes.append((x, y, x + crop.shape[1], y + crop.shape[0]))
        areas = [np.count_nonzero(crop) for crop in crops]
        return cls(crops, np.array(boxes, dtype=np.int64).reshape(-1, 4), np.array(areas, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.crops)


def common_pixels(a: PlacedCrops, b: PlacedCrops) -> tuple[Indices, Indices, Indices]:
    """Every pair of masks whose crops overlap, and how many pixels both cover (0 is possible).

    Returns:
        `[p]` numbers of the masks in `a`, `[p]` of those in `b`, and `[p]` pixels.
    """
    found_a, found_b = overlapping_boxes(a.boxes_xyxy, b.boxes_xyxy)
    pairs = zip(found_a.tolist(), found_b.tolist(), *windows_of(a, b, found_a, found_b), strict=True)
    pixels = [pixels_in_both(a.crops[i], b.crops[j], of_a, of_b) for i, j, of_a, of_b in pairs]
    return found_a, found_b, np.array(pixels, dtype=np.int64)


def windows_of(a: PlacedCrops, b: PlacedCrops, rows_a: Indices, rows_b: Indices) -> tuple[list[Window], list[Window]]:
    """Where the crops of some pairs overlap, in pixels of the one and of the other."""
    boxes_a, boxes_b = a.boxes_xyxy[rows_a], b.boxes_xyxy[rows_b]
    first, last = np.maximum(boxes_a[:, :2], boxes_b[:, :2]), np.minimum(boxes_a[:, 2:], boxes_b[:, 2:])
    of_a, of_b = (
        np.concatenate([first - one[:, :2], last - one[:, :2]], axis=1).tolist() for one in (boxes_a, boxes_b)
    )
    return of_a, of_b


def pixels_in_both(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], window_a: Window, window_b: Window) -> int:
    """How many pixels two crops have in common where they overlap."""
    (x0, y0, x1, y1), (u0, v0, u1, v1) = window_a, window_b
    return int(np.count_nonzero(a[y0:y1, x0:x1] & b[v0:v1, u0:u1]))


def overlapping_boxes(a_xyxy: Indices, b_xyxy: Indices) -> tuple[Indices, Indices]:
    """The pairs of boxes `[n, 4]` and `[m, 4]` that share an area: a sweep along x, which never looks at all pairs."""
    # of two that overlap along x, the second begins inside the first, or the first inside the second, further right
    first_a, first_b = _beginning_inside(b_xyxy[:, 0], a_xyxy[:, 0], a_xyxy[:, 2], "left")
    second_b, second_a = _beginning_inside(a_xyxy[:, 0], b_xyxy[:, 0], b_xyxy[:, 2], "right")
    found_a, found_b = np.concatenate([first_a, second_a]), np.concatenate([first_b, second_b])
    boxes_a, boxes_b = a_xyxy[found_a], b_xyxy[found_b]
    share = (np.maximum(boxes_a[:, :2], boxes_b[:, :2]) < np.minimum(boxes_a[:, 2:], boxes_b[:, 2:])).all(1)
    found_a, found_b = found_a[share], found_b[share]
    order = np.lexsort((found_b, found_a))
    return found_a[order], found_b[order]


def _beginning_inside(starts: Indices, low: Indices, high: Indices, side: str) -> tuple[Indices, Indices]:
    """Pairs of an interval and a start that lies in it; one at `low` counts for `side` "left", not for "right"."""
    order = np.argsort(starts, kind="stable")
    first = np.searchsorted(starts, low, "left" if side == "left" else "right", sorter=order)
    counts = np.maximum(np.searchsorted(starts, high, "left", sorter=order) - first, 0)
    interval = np.repeat(np.arange(len(low)), counts)
    before = np.repeat(np.cumsum(counts) - counts, counts)
    return interval, order[np.arange(len(interval)) - before + first[interval]]
