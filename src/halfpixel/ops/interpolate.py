"""Bilinear interpolation as products of two one-dimensional weight matrices.

Pasting a mask and sampling a mask target are both separable linear maps: `rows @ map @ columns.T`.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def linear_weights(positions: Float[Tensor, "*b m"], n: int) -> Float[Tensor, "*b m n"]:
    """Weights that interpolate `n` samples linearly at `positions`.

    Positions are in sample index units (sample k sits at k) and are clamped to [0, n - 1], so the edge value
    continues outside. Each row sums to one.
    """
    positions = positions.clamp(0, n - 1)
    grid = torch.arange(n, device=positions.device, dtype=positions.dtype)
    return (1 - (positions[..., None] - grid).abs()).clamp(min=0)


def sample_boxes(
    maps: Float[Tensor, "n h w"], boxes_xyxy: Float[Tensor, "n 4"], grid_hw: tuple[int, int]
) -> Float[Tensor, "n i j"]:
    """Each map between its cells' centres, at points evenly spread over a box in it; beyond the map its edge goes on.

    Args:
        maps: cell (i, j) covers [j, j + 1) x [i, i + 1).
        boxes_xyxy: in cells.
        grid_hw: points along each side.
    """
    weights = []
    for axis, points in enumerate(grid_hw):
        low, high = boxes_xyxy[:, 1 - axis, None], boxes_xyxy[:, 3 - axis, None]
        steps = (torch.arange(points, device=maps.device, dtype=boxes_xyxy.dtype) + 0.5) / points
        weights.append(linear_weights(low + steps * (high - low) - 0.5, maps.shape[1 + axis]).to(maps.dtype))
    return weights[0] @ maps @ weights[1].transpose(1, 2)
