"""Half precision left behind, where sums, coordinates and scores do not survive it."""

from torch import Tensor, float32, promote_types


def wide(x: Tensor) -> Tensor:
    """In float32, or as it is where it is wider."""
    return x.to(promote_types(x.dtype, float32))
