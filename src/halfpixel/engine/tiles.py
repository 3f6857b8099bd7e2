"""Large images in tiles: every object belongs to exactly one of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halfpixel.data.images.contrast import Rgb8
from halfpixel.ops.mask_nms import suppress_masks
from halfpixel.structures.instances import Instances

Box = tuple[int, int, int, int]

GRID_PX = 32
"""Tiles begin at multiples of this where there is room: a network with whole strides then sees the very pixels that it
would see in the whole image, not ones between them."""

SAME_OBJECT_IOU, SAME_OBJECT_SHARE = 0.5, 0.7
"""Two masks of different tiles are one object where their IoU is above the first, or they share more than the second of
the smaller one: of what one tile saw as one object and its neighbour as two."""


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

    def ends(self, boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """`[n]` which boxes reach to where the tile ends and the image, of `size_hw`, goes on: they may go on, too."""
        height, width = size_hw
        goes_on = torch.tensor([a != b for a, b in zip(self.outer_xyxy, (0, 0, width, height), strict=True)])
        outer = torch.tensor(self.outer_xyxy)
        inside = torch.cat([boxes_xyxy[:, :2] - outer[:2], outer[2:] - boxes_xyxy[:, 2:]], 1)
        return ((inside < 1) & goes_on).any(1)


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
    where that is, each may also keep what lies just beyond its core; of those that are the same the better is kept, or
    the one that does not end where its tile does.

    Args:
        parts: each tile and what was found in it, in pixels of the whole image.
        overlap_px: as for `tiles`.
    """
    slack = overlap_px / 8
    kept, ranks, sources = [], [], []
    for number, (tile, objects) in enumerate(parts):
        centres = (objects.boxes_xyxy[:, :2] + objects.boxes_xyxy[:, 2:]) / 2
        low, high = torch.tensor(tile.core_xyxy[:2]), torch.tensor(tile.core_xyxy[2:])
        mine = objects[((centres > low - slack) & (centres < high + slack)).all(1)]
        kept.append(mine)
        ranks.append(mine.scores - tile.ends(mine.boxes_xyxy, mine.size_hw).to(mine.scores))
        sources.append(torch.full_like(mine.labels, number))
    together = Instances.concatenate(kept)
    together = together[_each_once(together, torch.cat(ranks), torch.cat(sources))]
    return together[torch.argsort(together.scores, descending=True, stable=True)]


def _each_once(objects: Instances, ranks: Tensor, sources: Tensor) -> Tensor:
    """Which objects stay when of those that are the same in different tiles the one of the highest rank does."""
    crops, offsets_xy = (objects.masks.crops, objects.masks.offsets_xy) if objects.masks else _full(objects.boxes_xyxy)
    best = suppress_masks(crops, offsets_xy, ranks, objects.labels, SAME_OBJECT_IOU, SAME_OBJECT_SHARE, sources)
    empty = [k for k, crop in enumerate(crops) if not crop.any()]  # they are no other's
    return torch.cat([best, torch.tensor(empty, dtype=torch.int64)])


def _full(boxes_xyxy: Tensor) -> tuple[list[Tensor], Tensor]:
    """Boxes as masks, on whole pixels; they take no memory."""
    low, high = boxes_xyxy[:, :2].floor().long(), boxes_xyxy[:, 2:].ceil().long()
    one = torch.ones(1, 1, dtype=torch.bool)
    return [one.expand(height, width) for width, height in (high - low).tolist()], low
