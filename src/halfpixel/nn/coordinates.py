"""Maps that know where they are."""

import torch
from jaxtyping import Float
from torch import Tensor


def with_coordinates(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """Two more channels: the place along x and along y, -1 at the first cell, 1 at the last (arXiv:1807.03247)."""
    batch, _, height, width = x.shape
    across, down = (
        torch.arange(count, device=x.device).to(x) * (2 / torch.sym_max(count - 1, 1)) - 1 for count in (width, height)
    )
    places = torch.stack([across.expand(height, width), down[:, None].expand(height, width)])
    return torch.cat([x, places.expand(batch, 2, height, width)], 1)
