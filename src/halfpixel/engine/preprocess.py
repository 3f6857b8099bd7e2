"""From an image to a network's input, by the rules that the model file states."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from halfpixel.structures.images import InputRules, Resized


def network_size(size_hw: tuple[int, int], rules: InputRules) -> tuple[float, tuple[int, int]]:
    """The factor by which an image is resized, and the size it then has, in pixels."""
    fit = min(rules.shortest_side / min(size_hw), rules.longest_side / max(size_hw))
    factor = rules.scale if rules.scale is not None else fit
    height, width = (max(int(side * factor), 1) for side in size_hw)
    return factor, (height, width)


def light_factor(image: npt.NDArray[np.uint8], below: float) -> float:
    """What a whole image is to be multiplied by so that its 99.9th percentile (0..1) reaches `below`.

    1 for an image that is brighter, or entirely black.
    """
    if below <= 0:
        return 1.0
    rank = max(round(0.999 * image.size), 1)
    bright = int(np.searchsorted(np.cumsum(np.bincount(image.ravel(), minlength=256)), rank)) / 255
    return below / bright if 0 < bright < below else 1.0


def to_float(image: npt.NDArray[np.uint8], light: float = 1.0) -> Tensor:
    """`[h, w, 3]` bytes as `[3, h, w]` float32 in 0..1, multiplied by `light` (at least 1) and clipped."""
    pixels = torch.tensor(image).permute(2, 0, 1).float() / 255
    return pixels if light == 1 else (pixels * light).clamp(max=1)


def normalise(image: Tensor, rules: InputRules) -> Tensor:
    """Subtract the mean, divide by the standard deviation, channel by channel."""
    mean, std = (torch.tensor(values, dtype=image.dtype).reshape(3, 1, 1) for values in (rules.mean, rules.std))
    return (image - mean) / std


def prepare(image: npt.NDArray[np.uint8], rules: InputRules, light: float | None = None) -> tuple[Tensor, Resized]:
    """Brighten, normalise and resize one image.

    Args:
        image: `[h, w, 3]` RGB.
        rules: of the model.
        light: the `light_factor` of the whole image, where this is a piece of one.

    Returns:
        `[3, h', w']` float32, not yet padded, and both sizes.
    """
    size_hw = (image.shape[0], image.shape[1])
    pixels = to_float(image, light_factor(image, rules.stretch_below) if light is None else light)
    pixels = normalise(pixels, rules)
    _, resized_hw = network_size(size_hw, rules)
    pixels = torch.nn.functional.interpolate(pixels[None], size=resized_hw, mode="bilinear")[0]
    return pixels.contiguous(), Resized(size_hw, resized_hw)
