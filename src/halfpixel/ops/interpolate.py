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
