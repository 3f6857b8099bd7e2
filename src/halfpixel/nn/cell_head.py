"""Cells that answer for the objects whose middle they hold (Wang et al. 2019, arXiv:1912.04488; 2020)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import Norm, conv_stack, start_small
from halfpixel.nn.coordinates import with_coordinates
from halfpixel.ops.mask_targets import centres_of_mass
from halfpixel.structures.targets import Targets

NOBODY = -1
"""A cell that answers for no object."""


class CellHead(nn.Module):
    """Class and kernel of every cell; the same for all levels.

    Args:
        channels: of the maps.
        width: of the convolutions between.
        depth: how many of them, in each of the two branches.
        kernel: numbers of a kernel.
        classes: without the background.
        norm: normalisation after each convolution, if any.
        coordinates: kernels are told where in the image they are.
        rare: the share of cells that a new network takes for objects (Lin et al. 2017, arXiv:1708.02002).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        depth: int,
        kernel: int,
        classes: int,
        norm: Norm | None = None,
        coordinates: bool = False,
        rare: float = 0.01,
    ) -> None:
        super().__init__()
        self.coordinates, self.rare = coordinates, rare
        self.class_convs = conv_stack(channels, (width,) * depth, norm)
        self.kernel_convs = conv_stack(channels + 2 * coordinates, (width,) * depth, norm)
        self.kernels = nn.Conv2d(width, kernel, 3, padding=1)
        start_small(self.kernels)
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the layer that depends on the classes by a new one."""
        self.logits = nn.Conv2d(self.kernels.in_channels, classes, 3, padding=1)
        nn.init.normal_(self.logits.weight, std=0.01)
        assert self.logits.bias is not None
        nn.init.constant_(self.logits.bias, math.log(self.rare / (1 - self.rare)))

    def forward(self, x: Float[Tensor, "b c h w"], cells_hw: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        """Logits `[b, classes, i, j]` and kernels `[b, k, i, j]`, float32.

        Args:
            x: one level.
            cells_hw: the map is resampled to so many cells first; None leaves it as it is.
        """
        placed = with_coordinates(x) if self.coordinates else x
        if cells_hw is not None:
            placed = nn.functional.interpolate(placed, size=cells_hw, mode="bilinear")
        logits = self.logits(self.class_convs(placed[:, : x.shape[1]]))
        return logits.float(), self.kernels(self.kernel_convs(placed)).float()


@dataclass(frozen=True)
class CellLevel:
    """What the cells of one level answer for.

    Attributes:
        smallest_px: objects of at least this size in the input, see `sizes_px`.
        largest_px: and at most this.
        reach_px: a mask reaches no further from the centre of its cell; None for the whole image.
    """

    smallest_px: float
    largest_px: float
    reach_px: int | None = None


def cell_centres(cells_hw: Sequence[int], input_hw: Sequence[int], device: torch.device) -> Float[Tensor, "n 2"]:
    """Places (x, y) of the centres of a level's cells in the input, row by row."""
    (rows, columns), (height, width) = cells_hw, input_hw
    x = (torch.arange(columns, device=device) + 0.5) * (width / columns)
    y = (torch.arange(rows, device=device) + 0.5) * (height / rows)
    return torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], 2).reshape(-1, 2)


def middles(target: Targets, points: int = 28) -> Float[Tensor, "n 2"]:
    """Centres of mass (x, y) of what the input shows of each object."""
    grids = target.mask_grids(torch.arange(len(target)), target.boxes_xyxy, points)
    return centres_of_mass(grids, target.boxes_xyxy)


def sizes_px(boxes_xyxy: Float[Tensor, "n 4"], region: float, by_reach: bool) -> Float[Tensor, "n"]:
    """How large objects are to levels: the square root of their box's area.

    Args:
        boxes_xyxy: in pixels of the input.
        region: share of the box's sides that is its central region.
        by_reach: or how far an object reaches from the outermost of its cells, where that is more: it has to fit into
            the window of its level.
    """
    sides = boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    size = sides.prod(1).sqrt()
    return size.maximum(sides.amax(1) * (1 + region) / 2) if by_reach else size


def assign_cells(
    boxes_xyxy: Float[Tensor, "n 4"],
    of_size: Float[Tensor, "n"],
    middles_xy: Float[Tensor, "n 2"],
    level: CellLevel,
    cells_hw: tuple[int, int],
    input_hw: tuple[int, int],
    region: float,
) -> Int[Tensor, "cells"]:
    """Which object each cell of a level answers for.

    The cell that holds an object's middle, and of its eight neighbours those that the object's central region
    touches. Of several objects the smallest has the cell.

    Args:
        boxes_xyxy: in pixels of the input.
        of_size: `sizes_px` of the objects.
        middles_xy: centres of mass, likewise.
        level: which objects are meant.
        cells_hw: rows and columns of cells.
        input_hw: what they cover, padding included.
        region: share of the box's sides that is its central region.

    Returns:
        The object's index, or NOBODY.
    """
    cell = middles_xy.new_tensor([input_hw[1] / cells_hw[1], input_hw[0] / cells_hw[0]])
    most = torch.tensor([cells_hw[1], cells_hw[0]], device=cell.device) - 1
    half = region * (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
    own, low, high = (((middles_xy + side) / cell).floor().long() for side in (0, -half, half))
    own = own.clamp(min=0).minimum(most)
    steps = torch.tensor([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)], device=cell.device)
    cells = own[:, None] + steps
    meant = ((cells >= 0) & (cells <= most) & (cells >= low[:, None]) & (cells <= high[:, None])).all(2)
    meant |= (steps == 0).all(1)
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1)
    meant &= ((of_size >= level.smallest_px) & (of_size <= level.largest_px))[:, None]
    by_size = area.argsort(stable=True)
    rank = torch.empty_like(by_size).scatter(0, by_size, torch.arange(len(by_size), device=cell.device))
    numbers = (cells[..., 1] * cells_hw[1] + cells[..., 0])[meant]
    nobody = len(area)
    first = torch.full((cells_hw[0] * cells_hw[1],), nobody, device=cell.device)
    first = first.scatter_reduce(0, numbers, rank[:, None].expand_as(meant)[meant], "amin")
    owners = torch.cat([by_size, by_size.new_tensor([NOBODY])])
    return owners[first]


def peaks(scores: Float[Tensor, "b c h w"]) -> Bool[Tensor, "b c h w"]:
    """Cells that score no less than the one above, the one to the left and the one between them: an object has several.

    Args:
        scores: of each class, 0..1.
    """
    padded = nn.functional.pad(scores, (1, 0, 1, 0))
    above = padded[:, :, :-1].maximum(padded[:, :, 1:])
    return above[..., :-1].maximum(above[..., 1:]) == scores
