"""Large images in tiles: every object belongs to exactly one of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halfpixel.data.images.contrast import Rgb8
from halfpixel.ops import boxes
from halfpixel.ops.mask_nms import suppress_masks
from halfpixel.structures.instances import Instances

Box = tuple[int, int, int, int]

GRID_PX = 32
"""Tiles begin at multiples of this where there is room: a network with whole strides then sees the very pixels that it
would see in the whole image, not ones between them."""

SAME_OBJECT_IOU = 0.5
"""Two masks that two tiles found at their common border are one object from this overlap on."""


@dataclass(frozen=True)
class Tile:
    """A part of an image, in whole pixels of it.

    Attributes:
        core_xyxy: the part whose objects are this tile's; the cores of all tiles do not overlap.
        outer_xyxy: what the network sees: the core and an overlap with its neighbours around it.
    """

    core_xyxy: Box
    outer_xyxy: Box

    def of(self, pixels: Rgb8) -> Rgb8:
        """What the network sees of the whole image."""
        x0, y0, x1, y1 = self.outer_xyxy
        return pixels[y0:y1, x0:x1]


def tiles(region_xyxy: Box, size_hw: tuple[int, int], most_px: int, overlap_px: int) -> list[Tile]:
    """Cut a region of an image into tiles of about the same size.

    Args:
        region_xyxy: what the cores fill.
        size_hw: the image, beyond which no overlap goes.
        most_px: longest side of a tile with its overlaps.
        overlap_px: what a tile sees beyond its core: about the size of the largest objects.
    """
    (x0, y0, x1, y1), (height, width) = region_xyxy, size_hw
    columns, rows = _cuts(x0, x1, most_px, overlap_px), _cuts(y0, y1, most_px, overlap_px)
    found = []
    for (top, bottom), (left, right) in itertools.product(itertools.pairwise(rows), itertools.pairwise(columns)):
        # beyond the region nothing is expected, so only inner borders have an overlap
        outer = (
            left if left == x0 else max(left - overlap_px, 0),
            top if top == y0 else max(top - overlap_px, 0),
            right if right == x1 else min(right + overlap_px, width),
            bottom if bottom == y1 else min(bottom + overlap_px, height),
        )
        found.append(Tile((left, top, right, bottom), outer))
    return found


def _cuts(low: int, high: int, most_px: int, overlap_px: int) -> list[int]:
    """Where tiles of one axis begin and end."""
    length = high - low
    if length <= most_px:
        return [low, high]
    room = max(most_px - 2 * overlap_px, 1)
    step = math.gcd(GRID_PX, overlap_px) if room >= 2 * GRID_PX else 1
    n = -(-length // (room // step * step))
    core = -(-length // (n * step)) * step
    return [*range(low, high, core), high]


def merge(parts: Sequence[tuple[Tile, Instances]], overlap_px: int) -> Instances:
    """The objects of all tiles, each once, by descending score.

    An object belongs to the tile whose core holds the centre of its box. As two tiles may disagree by a little about
    where that is, each may also keep what lies just beyond its core; of two that are the same the better is kept.

    Args:
        parts: each tile and what was found in it, in pixels of the whole image.
        overlap_px: as for `tiles`.
    """
    slack = overlap_px / 8
    kept, at_border = [], []
    for tile, objects in parts:
        centres = (objects.boxes_xyxy[:, :2] + objects.boxes_xyxy[:, 2:]) / 2
        low, high = torch.tensor(tile.core_xyxy[:2]), torch.tensor(tile.core_xyxy[2:])
        mine = ((centres > low - slack) & (centres < high + slack)).all(1)
        safe = ((centres > low + slack) & (centres < high - slack)).all(1)
        kept.append(objects[mine])
        at_border.append(~safe[mine])
    together = Instances.concatenate(kept)
    together = together[_each_once(together, torch.cat(at_border))]
    return together[torch.argsort(together.scores, descending=True, stable=True)]


def _each_once(objects: Instances, doubtful: Tensor) -> Tensor:
    """Which objects stay when of those that may have been found twice only the better is kept."""
    rows = torch.nonzero(doubtful).ravel()
    if not len(rows):
        return torch.arange(len(objects))
    some = objects[rows]
    if some.masks is None:
        best = boxes.suppress(some.boxes_xyxy, some.scores, some.labels, SAME_OBJECT_IOU)
    else:
        best = suppress_masks(some.masks.crops, some.masks.offsets_xy, some.scores, some.labels, SAME_OBJECT_IOU)
    stays = ~doubtful
    stays[rows[best]] = True
    return torch.nonzero(stays).ravel()
