"""Parts that transformers for images are made of (Vaswani et al. 2017, arXiv:1706.03762)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import Activation
from halfpixel.ops.deformable_attention import deformable_attention


class MultiHeadAttention(nn.Module):
    """Each query gathers values from where its keys are most like it, in several subspaces."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        queries: Float[Tensor, "b q width"],
        keys: Float[Tensor, "b k width"],
        values: Float[Tensor, "b k width"],
        allowed: Bool[Tensor, "*b_and_heads q k"] | None = None,
    ) -> Float[Tensor, "b q width"]:
        """Attend.

        Args:
            queries: who looks, positions added.
            keys: at what, positions added.
            values: and what is seen there.
            allowed: which query may look at which key, `[q k]`, `[b 1 q k]` or `[b heads q k]`; at least one each.
        """
        kind = self.query.weight.dtype  # positions may be told more precisely
        projected = (self.query(queries.to(kind)), self.key(keys.to(kind)), self.value(values.to(kind)))
        q, k, v = (one.unflatten(2, (self.heads, -1)).transpose(1, 2) for one in projected)
        seen = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        out: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return out


class DeformableAttention(nn.Module):
    """Each query looks at few places around it, which it chooses (Zhu et al. 2020, arXiv:2010.04159, section 4.1).

    Args:
        width: of queries and of what they look at.
        heads: look in parallel.
        levels: of the maps.
        points: places on each level, for each head.
    """

    def __init__(self, width: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.grid = heads, levels, points
        self.offsets = nn.Linear(width, heads * levels * points * 2)
        self.weights = nn.Linear(width, heads * levels * points)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        for layer in (self.value, self.out):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.offsets, self.weights):
            nn.init.zeros_(layer.weight)
        for layer in (self.weights, self.value, self.out):
            nn.init.zeros_(layer.bias)
        with torch.no_grad():  # at first each head looks in a direction of its own, each point a cell further
            angles = torch.arange(heads) * (2 * math.pi / heads)
            directions = torch.stack([angles.cos(), angles.sin()], 1)
            directions = directions / directions.abs().amax(1, keepdim=True)
            steps = directions[:, None, None] * torch.arange(1, points + 1)[:, None]
            self.offsets.bias.copy_(steps.expand(heads, levels, points, 2).flatten())

    def forward(
        self,
        queries: Float[Tensor, "b q width"],
        references: Float[Tensor, "b q levels_or_one xy_or_box"],
        memory: Float[Tensor, "b s width"],
        shapes: Sequence[tuple[int, int]],
    ) -> Float[Tensor, "b q width"]:
        """Attend.

        Args:
            queries: who looks, positions added.
            references: around which places, for each level or one for all, in 0..1: points `(x, y)`, offsets being
                cells of each level; or boxes `(x, y, width, height)` with the centre first, offsets being shares of
                half a side, divided by the number of points.
            memory: the maps of all levels, each flattened row by row, one after the other.
            shapes: height and width of each level.
        """
        heads, levels, points = self.grid
        queries, memory = queries.to(self.value.weight.dtype), memory.to(self.value.weight.dtype)
        offsets = self.offsets(queries).unflatten(2, (heads, levels, points, 2))
        weights = self.weights(queries).unflatten(2, (heads, levels * points)).softmax(3)
        references = references[:, :, None, :, None]  # [b, q, 1, levels or 1, 1, 2 or 4]
        if references.shape[5] == 2:
            # each side a tensor of its own: a list of them would be frozen by an export
            sides = [torch.tensor(side, device=offsets.device) for height, width in shapes for side in (width, height)]
            locations = references + offsets / torch.stack(sides).to(references).unflatten(0, (levels, 1, 2))
        else:
            locations = references[..., :2] + offsets * (0.5 / points) * references[..., 2:]
        values = self.value(memory).unflatten(2, (heads, -1))
        seen = deformable_attention(values, shapes, locations, weights.unflatten(3, (levels, points)))
        out: Tensor = self.out(seen)
        return out


class FeedForward(nn.Module):
    """Two linear layers, the inner one wider, on each element alone."""

    def __init__(self, width: int, inner: int, activation: Activation = nn.functional.relu) -> None:
        super().__init__()
        self.expand, self.project, self.activation = nn.Linear(width, inner), nn.Linear(inner, width), activation
        for layer in (self.expand, self.project):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "*b width"]) -> Float[Tensor, "*b width"]:
        """Apply both."""
        out: Tensor = self.project(self.activation(self.expand(x)))
        return out


class MultiLayerPerceptron(nn.Module):
    """Linear layers with ReLU between them: `layers`, and `output`, which is the last."""

    def __init__(self, inputs: int, inner: int, outputs: int, depth: int) -> None:
        super().__init__()
        widths = [inputs, *[inner] * (depth - 1)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.output = nn.Linear(widths[-1], outputs)

    def forward(self, x: Float[Tensor, "*b inputs"]) -> Float[Tensor, "*b outputs"]:
        """Apply all."""
        for layer in self.layers:
            x = layer(x).relu()
        out: Tensor = self.output(x)
        return out


def sine_positions(
    y: Float[Tensor, "h"], x: Float[Tensor, "w"], width: int, interleaved: bool, temperature: float = 10_000.0
) -> Float[Tensor, "h_w width"]:
    """Positions on a grid, row by row, as sines and cosines of falling frequencies: half the width for y, half for x.

    Args:
        y: of the rows.
        x: of the columns.
        width: a multiple of four.
        interleaved: sine and cosine of a frequency stand side by side, as in DETR (Carion 2020, arXiv:2005.12872);
            otherwise all sines of an axis come before its cosines.
        temperature: the lowest frequency is almost its inverse.
    """
    powers = torch.arange(width // 4, dtype=y.dtype, device=y.device) / (width // 4)
    frequencies = temperature**-powers
    halves = []
    for places in (y, x):
        angles = places[:, None] * frequencies
        halves.append(torch.stack([angles.sin(), angles.cos()], 2 if interleaved else 1).flatten(1))
    rows, columns = y.shape[0], x.shape[0]
    grid = [halves[0][:, None].expand(-1, columns, -1), halves[1].expand(rows, -1, -1)]
    return torch.cat(grid, 2).flatten(0, 1)
