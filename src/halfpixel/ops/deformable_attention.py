"""Multi-scale deformable attention: weighted sums of samples of feature maps (Zhu et al. 2020, arXiv:2010.04159)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from halfpixel.ops.wide import wide

CORNERS_AT_ONCE = 1 << 22
"""Interpolated corners handled by one call of the kernel: bounds the memory of many queries."""


def deformable_attention(
    values: Float[Tensor, "b s heads c"],
    shapes: Sequence[tuple[int, int]],
    locations: Float[Tensor, "b q heads levels points 2"],
    weights: Float[Tensor, "b q heads levels points"],
) -> Float[Tensor, "b q heads_c"]:
    """For each query and head a weighted sum of bilinear samples of that head's maps, from all levels.

    A sum of samples is a sum of four corners each, so that one `embedding_bag` with weights does the whole job,
    backward included, without making the samples. A graph, for which every runtime has
    the latter, takes that.

    Args:
        values: the maps of all levels, each flattened row by row, one after the other.
        shapes: height and width of each level; s cells together.
        locations: (x, y) in 0..1, from the left and upper edge of the maps to the right and lower one. Beyond the
            edge there are zeros.
        weights: of each sample.

    Returns:
        The heads' sums, one head after the other.
    """
    if torch.compiler.is_exporting():
        return _on_grids(values, shapes, locations, weights)
    if values.requires_grad:  # its gradient is a sum of hundreds of terms
        values = wide(values)
    corners = 4 * values.shape[0] * weights[0, :1].numel()
    size = max(CORNERS_AT_ONCE // corners, 1)
    parts = zip(locations.split(size, 1), weights.split(size, 1), strict=True)
    return torch.cat([_in_bags(values, shapes, *part) for part in parts], 1)


def _in_bags(values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    (images, cells, heads, channels), device = values.shape, values.device
    queries = locations.shape[1]
    sides_xy = torch.tensor([(width, height) for height, width in shapes], device=device)[:, None]
    starts = sides_xy.prod(2).cumsum(0) - sides_xy.prod(2)  # [levels, 1]

    positions = locations * sides_xy - 0.5
    low = positions.floor()
    far = positions - low
    near = (1 - far) * ((low >= 0) & (low < sides_xy))
    far = far * ((low >= -1) & (low < sides_xy - 1))

    # a corner beyond the edge weighs nothing, wherever in its image it is then looked up
    x, y = low.clamp(min=-1).minimum(sides_xy.to(low)).int().unbind(5)
    width = sides_xy[:, :, 0].int()
    corners = torch.stack([torch.zeros_like(width), torch.ones_like(width), width, width + 1], 2)
    rows = ((y * width + x + starts.int())[..., None] + corners).clamp(0, cells - 1) * heads
    image, head = (torch.arange(count, dtype=torch.int32, device=device) for count in (images, heads))
    rows += (image[:, None] * (cells * heads) + head)[:, None, :, None, None, None]
    (left, above), (right, below) = near.unbind(5), far.unbind(5)
    above, below = above * weights, below * weights
    factors = torch.stack([above * left, above * right, below * left, below * right], 5)
    return torch.nn.functional.embedding_bag(
        rows.reshape(images * queries * heads, -1),
        values.reshape(-1, channels),
        mode="sum",
        per_sample_weights=factors.reshape(images * queries * heads, -1).to(values.dtype),
    ).reshape(images, queries, heads * channels)


def _on_grids(values: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor) -> Tensor:
    images, _, heads, channels = values.shape
    queries = locations.shape[1]
    maps = values.split([height * width for height, width in shapes], 1)
    grids = (2 * locations - 1).to(values.dtype).transpose(1, 2).flatten(0, 1).unbind(2)
    sampled = [
        torch.nn.functional.grid_sample(
            level.permute(0, 2, 3, 1).reshape(images * heads, channels, height, width), grid, align_corners=False
        )
        for level, (height, width), grid in zip(maps, shapes, grids, strict=True)
    ]
    factors = weights.to(values.dtype).transpose(1, 2).reshape(images * heads, 1, queries, -1)
    sums = (torch.cat(sampled, 3) * factors).sum(3)
    return sums.reshape(images, heads * channels, queries).transpose(1, 2)
