"""Maps, looked at in points that lie anywhere between their cells."""

import torch
from jaxtyping import Float
from torch import Tensor


def point_sample(maps: Float[Tensor, "b c h w"], points_xy: Float[Tensor, "b k 2"]) -> Float[Tensor, "b c k"]:
    """Bilinear interpolation between cell centres, exact at them; beyond the maps their edge goes on.

    Each map is looked at in its own points, all channels at once: for many channels this is faster than
    `torch.nn.functional.grid_sample`, and no coordinate goes through a range of -1 to 1.

    Args:
        maps: cell (i, j) covers [j, j + 1) x [i, i + 1), its centre is at (j + .5, i + .5).
        points_xy: in cells of the maps.
    """
    images, channels, height, width = maps.shape
    sides = points_xy.new_tensor([width, height])
    if torch.compiler.is_exporting():  # an operator that every runtime has
        grid = (2 * points_xy / sides - 1)[:, None].to(maps.dtype)
        return torch.nn.functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)[:, :, 0]
    positions = (points_xy - 0.5).clamp(min=torch.zeros_like(sides), max=sides - 1)
    low = positions.detach().floor()
    part = positions - low
    column, row = low.long().unbind(2)
    right, below = (column + 1).clamp(max=width - 1), (row + 1).clamp(max=height - 1)
    first = torch.arange(images, device=maps.device)[:, None, None] * (height * width)
    corners = torch.stack([row * width + column, row * width + right, below * width + column, below * width + right], 2)
    (x, y), (left, above) = part.unbind(2), (1 - part).unbind(2)
    weights = torch.stack([above * left, above * x, y * left, y * x], 2).to(maps.dtype)
    table = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    found: Tensor = torch.nn.functional.embedding_bag(
        (first + corners).flatten(0, 1), table, per_sample_weights=weights.flatten(0, 1), mode="sum"
    )
    by_image: Tensor = found.unflatten(0, (images, points_xy.shape[1]))
    return by_image.transpose(1, 2)
