"""The resolutions in which a file holds one image."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Level:
    """An image at one of its resolutions.

    Attributes:
        size_hw: in pixels of this level.
        downsample: how many pixels of the largest level one pixel of this level is wide and high; at least 1.
    """

    size_hw: tuple[int, int]
    downsample: float


def downsample(size_hw: tuple[int, int], smaller_hw: tuple[int, int]) -> float | None:
    """By how much an image was reduced; None where the smaller one does not show all of the larger one, and no more.

    Programs that write levels drop or add a part of a pixel at the right and at the bottom, so that the sizes alone
    would put the last pixels of a large level several pixels off. A power of two that explains both sizes is taken, or
    else a whole number, or else the mean ratio of the sizes.
    """
    ratios = [whole / part for whole, part in zip(size_hw, smaller_hw, strict=True)]
    mean = math.sqrt(math.prod(ratios))
    if mean < 1:
        return None
    sides = list(zip(size_hw, smaller_hw, strict=True))
    for factor in (2 ** round(math.log2(mean)), round(mean)):
        if all(whole // factor <= part <= -(-whole // factor) for whole, part in sides):
            return float(factor)
    return mean if all(abs(whole / mean - part) <= 1 for whole, part in sides) else None
