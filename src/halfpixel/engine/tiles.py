"""Large images in pieces: every object belongs to exactly one of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from halfpixel.ops.mask_nms import suppress_masks
from halfpixel.structures.instances import Instances

Box = tuple[int, int, int, int]

GRID_PX = 32
"""Pieces begin at multiples of this where there is room: a network with whole strides then sees the very pixels that it
would see in the whole image, not ones between them."""

SAME_OBJECT_IOU = 0.5
"""Two masks that two pieces found at their common border are one object from this overlap on."""


@dataclass(frozen=True)
class Tile:
    """A piece of an image, in whole pixels of it.

    Attributes:
        core_xyxy: the part whose objects are this piece's; the cores of all pieces do not overlap.
        outer_xyxy: what the network sees: the core and a margin around it.
    """

    core_xyxy: Box
    outer_xyxy: Box


def tiles(region_xyxy: Box, size_hw: tuple[int, int], most_px: int, margin_px: int) -> list[Tile]:
    """Cut a region of an image into pieces of about the same size.

    Args:
        region_xyxy: what the cores fill.
        size_hw: the image, beyond which no margin goes.
        most_px: longest side of a piece with its margins.
        margin_px: what a piece sees beyond its core: about the size of the largest objects.
    """
    (x0, y0, x1, y1), (height, width) = region_xyxy, size_hw
    columns, rows = _cuts(x0, x1, most_px, margin_px), _cuts(y0, y1, most_px, margin_px)
    pieces = []
    for (top, bottom), (left, right) in itertools.product(itertools.pairwise(rows), itertools.pairwise(columns)):
        # beyond the region nothing is expected, so only inner borders have a margin
        outer = (
            left if left == x0 else max(left - margin_px, 0),
            top if top == y0 else max(top - margin_px, 0),
            right if right == x1 else min(right + margin_px, width),
            bottom if bottom == y1 else min(bottom + margin_px, height),
        )
        pieces.append(Tile((left, top, right, bottom), outer))
    return pieces


def _cuts(low: int, high: int, most_px: int, margin_px: int) -> list[int]:
    """Where pieces of one axis begin and end."""
    length = high - low
    if length <= most_px:
        return [low, high]
    room = max(most_px - 2 * margin_px, 1)
    step = math.gcd(GRID_PX, margin_px) if room >= 2 * GRID_PX else 1
    n = -(-length // (room // step * step))
    core = -(-length // (n * step)) * step
    return [*range(low, high, core), high]


def merge(parts: Sequence[tuple[Tile, Instances]], margin_px: int) -> Instances:
    """The objects of all pieces, each once, by descending score.

    An object belongs to the piece whose core holds the centre of its box. As two pieces may disagree by a little about
    where that is, each may also keep what lies just beyond its core; of two that are the same the better is kept.

    Args:
        parts: each piece and what was found in it, in pixels of the whole image.
        margin_px: as for `tiles`.
    """
    slack = margin_px / 8
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
    some = objects[rows]
    if objects.masks is None or some.masks is None or len(rows) == 0:
        return torch.arange(len(objects))
    best = suppress_masks(some.masks.crops, some.masks.offsets_xy, some.scores, some.labels, SAME_OBJECT_IOU)
    stays = ~doubtful
    stays[rows[best]] = True
    return torch.nonzero(stays).ravel()
