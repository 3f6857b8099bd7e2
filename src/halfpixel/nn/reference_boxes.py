"""What a query's box is told relative to: two ways to say it.

Boxes are (centre x, centre y, width, height) in shares of the padded image.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from halfpixel.ops.boxes import LARGEST_LOG_SCALE

ANCHOR_CELLS = 4.0
"""Sides of a cell's first box, in cells."""

WAVES, SHORTEST_PX, LONGEST_PX = 8, 8.0, 4096.0
"""How many waves tell each number of a box, and the length of the first and of the last."""


class ReferenceBoxes(ABC):
    """How boxes begin and how they are refined; no weights.

    Attributes:
        numbers: that a query is told of where its box is.
    """

    numbers: int

    @abstractmethod
    def anchors(
        self, shapes: Sequence[tuple[int, int]], like: Tensor
    ) -> tuple[Float[Tensor, "s 4"], Bool[Tensor, "s 1"]]:
        """The first box of every cell of some maps, and whether the cell may become a query."""

    @abstractmethod
    def refine(self, boxes: Float[Tensor, "*b 4"], deltas: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
        """Boxes that are better."""

    @abstractmethod
    def positions(self, boxes: Float[Tensor, "*b 4"], input_hw: tuple[int, int]) -> Float[Tensor, "*b n"]:
        """What a query is told of where its box is."""


class InImage(ReferenceBoxes):
    """As in the paper, for images of one size: a box is a share of the image, refined as the logit of that.

    The first boxes are a twentieth of the image wide on the finest map, twice that on the next; cells within a
    hundredth of its edges are no queries.
    """

    FIRST_SHARE, EDGE_SHARE, SMALLEST = 0.05, 0.01, 1e-5
    numbers = 4

    def anchors(
        self, shapes: Sequence[tuple[int, int]], like: Tensor
    ) -> tuple[Float[Tensor, "s 4"], Bool[Tensor, "s 1"]]:
        """See `ReferenceBoxes.anchors`."""
        levels = []
        for level, shape in enumerate(shapes):
            centres = _centres(shape, like)
            levels.append(torch.cat([centres, torch.full_like(centres, self.FIRST_SHARE * 2.0**level)], 1))
        found = torch.cat(levels)
        return found, ((found > self.EDGE_SHARE) & (found < 1 - self.EDGE_SHARE)).all(1, keepdim=True)

    def refine(self, boxes: Float[Tensor, "*b 4"], deltas: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
        """See `ReferenceBoxes.refine`."""
        return (deltas + (boxes.clamp(min=self.SMALLEST) / (1 - boxes).clamp(min=self.SMALLEST)).log()).sigmoid()

    def positions(self, boxes: Float[Tensor, "*b 4"], input_hw: tuple[int, int]) -> Float[Tensor, "*b n"]:
        """See `ReferenceBoxes.positions`."""
        return boxes


class OnCells(ReferenceBoxes):
    """The same numbers whatever the size of the image, so that one can train on crops of others.

    The first boxes are four cells wide, which is what the paper's are at 640 pixels; a box is refined by shifts in
    units of its sides and by logarithms of factors (Girshick et al. 2014, arXiv:1311.2524). Queries are told sines and
    cosines of the box in pixels: those of touching objects would differ too little in the numbers themselves.
    """

    numbers = 4 * 2 * WAVES

    def anchors(
        self, shapes: Sequence[tuple[int, int]], like: Tensor
    ) -> tuple[Float[Tensor, "s 4"], Bool[Tensor, "s 1"]]:
        """See `ReferenceBoxes.anchors`."""
        levels = []
        for height, width in shapes:
            centres = _centres((height, width), like)
            sides = [torch.full_like(centres[:, :1], ANCHOR_CELLS / side) for side in (width, height)]
            levels.append(torch.cat([centres, *sides], 1))
        found = torch.cat(levels)
        return found, torch.ones_like(found[:, :1], dtype=torch.bool)

    def refine(self, boxes: Float[Tensor, "*b 4"], deltas: Float[Tensor, "*b 4"]) -> Float[Tensor, "*b 4"]:
        """See `ReferenceBoxes.refine`."""
        sides = boxes[..., 2:]
        factors = deltas[..., 2:].clamp(-LARGEST_LOG_SCALE, LARGEST_LOG_SCALE).exp()
        return torch.cat([boxes[..., :2] + deltas[..., :2] * sides, sides * factors], -1)

    def positions(self, boxes: Float[Tensor, "*b 4"], input_hw: tuple[int, int]) -> Float[Tensor, "*b n"]:
        """See `ReferenceBoxes.positions`."""
        height, width = input_hw
        sides_px = torch.tensor([width, height, width, height], dtype=boxes.dtype, device=boxes.device)
        steps = torch.arange(WAVES, dtype=boxes.dtype, device=boxes.device) / (WAVES - 1)
        frequencies = 2 * math.pi / SHORTEST_PX * (SHORTEST_PX / LONGEST_PX) ** steps
        angles = (boxes * sides_px)[..., None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)


def _centres(shape: tuple[int, int], like: Tensor) -> Float[Tensor, "cells 2"]:
    """Of the cells of a map, row by row."""
    y, x = ((torch.arange(side, dtype=like.dtype, device=like.device) + 0.5) / side for side in shape)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), 2).flatten(0, 1)
