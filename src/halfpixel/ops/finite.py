"""Whether numbers are numbers."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether there is neither NaN nor infinity; one pass, and no memory of the size of the values."""
    if values.numel() == 0 or not values.is_floating_point():
        return True
    low, high = torch.aminmax(values.detach())  # both are NaN where anything is
    return bool(low.isfinite() & high.isfinite())


def is_finite(*values: Float[Tensor, "..."]) -> Bool[Tensor, ""]:
    """The same as a tensor, for moderate numbers in float32, in a form that exports everywhere."""
    total = torch.stack([one.sum() for one in values]).sum()
    return total.abs() < torch.finfo(torch.float32).max  # never true of NaN
