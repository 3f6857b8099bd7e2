"""How many candidates a network looks at: so many for an area, whatever the user's limit."""

import torch
from jaxtyping import Float
from torch import Tensor


def candidates_in(images: Float[Tensor, "b 3 h w"], fewest: int, published: int, published_hw: tuple[int, int]) -> int:
    """At least `fewest`; on a large input as many for its area as the published network takes.

    So a large tile has about as many as the same part of the whole image. While a graph is exported a symbol.

    Args:
        images: what the network is given, padded.
        fewest: whatever the area.
        published: how many the network's authors take...
        published_hw: ...on the largest input that they state results on, padded, in pixels.
    """
    height, width = published_hw
    most: int = torch.sym_max(fewest, published * images.shape[2] * images.shape[3] // (height * width))
    return most
