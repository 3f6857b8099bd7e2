"""Crops of different sizes looked at together: on small ones an operation costs more than what it computes."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

CELLS_AT_ONCE = 1 << 20
"""Memory does not grow with the number of crops."""


def crop_stacks(
    crops: Sequence[Bool[Tensor, "_ _"]], cells_per_side: int = 0
) -> Iterator[tuple[list[int], Bool[Tensor, "k h w"]]]:
    """Some crops at a time, similar ones together, filled up on the right and below to the size of the largest.

    Args:
        crops: on the CPU.
        cells_per_side: what else a crop will need memory for, by cells along its sides.

    Yields:
        Which crops they are, and the crops. Those without a pixel are left out.
    """
    sides_hw = [tuple(crop.shape) for crop in crops]
    order = sorted((k for k, side in enumerate(sides_hw) if min(side) > 0), key=lambda k: (max(sides_hw[k]), k))
    while order:
        height, width, count = 0, 0, 0
        for k in order:
            height, width = max(height, sides_hw[k][0]), max(width, sides_hw[k][1])
            if count and (count + 1) * (height * width + cells_per_side * (height + width)) > CELLS_AT_ONCE:
                break
            count += 1
        some, order = order[:count], order[count:]
        yield some, _stacked([crops[k] for k in some])


def _stacked(crops: Sequence[Tensor]) -> Tensor:
    stack = np.zeros((len(crops), *(max(crop.shape[axis] for crop in crops) for axis in (0, 1))), dtype=np.bool_)
    for place, crop in zip(stack, crops, strict=True):
        place[: crop.shape[0], : crop.shape[1]] = crop.numpy()
    return torch.from_numpy(stack)
