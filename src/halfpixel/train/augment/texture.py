"""Smooth random textures."""

import math

import torch
from torch import Tensor

WIDTH = 0.6
"""Standard deviation of a grain, in cells of the grid that it is drawn on."""


def clouds(size_hw: tuple[int, int], grain_px: float, generator: torch.Generator) -> Tensor:
    """`[h, w]` random values on a grid of cells of `grain_px`, spread as Gaussians; mean 0, standard deviation 1.

    Args:
        size_hw: in pixels.
        grain_px: 1 at least.
        generator: the source of randomness.
    """
    down, across = (_spread(side, max(grain_px, 1.0), generator) for side in size_hw)
    return down @ torch.randn(down.shape[1], across.shape[1], generator=generator) @ across.T


def _spread(side: int, grain_px: float, generator: torch.Generator) -> Tensor:
    """`[side, cells]` how much each cell of a grid adds to each pixel of an axis; their squares add up to 1."""
    places = 2 + float(torch.rand(1, generator=generator)) + (torch.arange(side) + 0.5) / grain_px
    cells = torch.arange(math.ceil(float(places[-1])) + 3)
    weights = torch.exp(-0.5 * ((places[:, None] - cells) / WIDTH).square())
    return weights / weights.square().sum(1, keepdim=True).sqrt()


def fibres(grain_px: float, stretch: float, angle: float, bend_xy: Tensor, generator: torch.Generator) -> Tensor:
    """`[h, w]` bright lines along one direction, about `grain_px` apart.

    Args:
        grain_px: across the lines.
        stretch: they go on for so many grains.
        angle: of the direction, in radians.
        bend_xy: `[2, h, w]` by how much each pixel is displaced: lines that wind.
        generator: the source of randomness.
    """
    height, width = bend_xy.shape[1:]
    x, y = bend_xy[0] + torch.arange(width), bend_xy[1] + torch.arange(height)[:, None]
    along = (x * math.cos(angle) + y * math.sin(angle)) / (max(grain_px, 1.0) * stretch)
    across = (y * math.cos(angle) - x * math.sin(angle)) / max(grain_px, 1.0)
    low, high = zip(*(one.aminmax() for one in (along, across)), strict=True)
    columns, rows = (math.ceil(float(end - start)) + 5 for start, end in zip(low, high, strict=True))
    values = torch.randn(1, 1, rows, columns, generator=generator)
    # two more values around, for the cubics
    grid = torch.stack([(along - low[0] + 2.5) * (2 / columns) - 1, (across - low[1] + 2.5) * (2 / rows) - 1], dim=2)
    found = torch.nn.functional.grid_sample(values, grid[None], mode="bicubic", align_corners=False)[0, 0]
    return 1 - 2 * found.abs()
