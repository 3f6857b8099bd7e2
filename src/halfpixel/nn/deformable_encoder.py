"""Maps of several strides look at each other (Zhu et al. 2020, arXiv:2010.04159)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.transformer import DeformableAttention, FeedForward, sine_positions

POINTS = 4
"""Places on each level that each head of a cell looks at."""

FULL_TURN = 6.283185307179586


class EncoderLayer(nn.Module):
    """Deformable attention, then two linear layers, each around a shortcut and normalised afterwards."""

    def __init__(self, width: int, heads: int, levels: int, inner: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(width, heads, levels, POINTS)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, inner)
        nn.init.normal_(self.attention.weights.weight, std=0.01)  # not 0: positions learn from the first step on

    def forward(self, x: Tensor, positions: Tensor, references: Tensor, shapes: Sequence[tuple[int, int]]) -> Tensor:
        """Apply the layer to the cells of all levels."""
        x = self.attention_norm(x + self.attention(x + positions, references, x, shapes))
        out: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return out


class DeformableEncoder(nn.Module):
    """Every cell of every map looks at few places, on all of the maps.

    Args:
        width: channels.
        heads: look in parallel.
        levels: maps.
        layers: one after the other.
        inner: width inside of a layer.
    """

    def __init__(self, width: int, heads: int, levels: int, layers: int, inner: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.randn(levels, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, levels, inner) for _ in range(layers))

    def forward(self, maps: Sequence[Float[Tensor, "b c _ _"]]) -> list[Float[Tensor, "b c _ _"]]:
        """As many maps of the same sizes."""
        shapes = [(one.shape[2], one.shape[3]) for one in maps]
        x = torch.cat([one.flatten(2).transpose(1, 2) for one in maps], 1)
        positions = torch.cat([grid_positions(one) + self.level[k] for k, one in enumerate(maps)])
        references = torch.cat([_centres(one) for one in maps])[None, :, None].expand(x.shape[0], -1, -1, -1)
        for layer in self.layers:
            x = layer(x, positions, references, shapes)
        parts = x.split([height * width for height, width in shapes], 1)
        return [part.transpose(1, 2).unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True)]


def grid_positions(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "cells c"]:
    """Sines of where each cell of a map is, a full turn from one end to the other (Carion 2020, arXiv:2005.12872)."""
    rows, columns = (step / (side + 1e-6) * FULL_TURN for step, side in zip(_steps(x, 1.0), x.shape[2:], strict=True))
    return sine_positions(rows, columns, x.shape[1], interleaved=True)


def _centres(x: Tensor) -> Tensor:
    """Of each cell, (x, y) in 0..1."""
    y, x = (step / side for step, side in zip(_steps(x, 0.5), x.shape[2:], strict=True))
    return torch.cartesian_prod(y, x).flip(1)


def _steps(x: Tensor, first: float) -> list[Tensor]:
    """Numbers of the rows and of the columns; half precision would not tell neighbours apart."""
    kind = torch.promote_types(x.dtype, torch.float32)
    return [torch.arange(side, dtype=kind, device=x.device) + first for side in x.shape[2:]]
