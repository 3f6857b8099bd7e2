"""From an image to a network's input, by the rules that the model file states."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from halfpixel.structures.images import InputRules, Resized


def network_size(size_hw: tuple[int, int], rules: InputRules) -> tuple[float, tuple[int, int]]:
    """The factor by which an image is resized, and the size it then has, in pixels."""
    fit = rules.longest_side / max(size_hw)
    wanted = rules.scale if rules.scale is not None else rules.shortest_side / min(size_hw)
    factor = min(wanted, fit)
    height, width = (max(int(side * factor), 1) for side in size_hw)
    return factor, (height, width)


def to_float(image: npt.NDArray[np.uint8]) -> Tensor:
    """`[h, w, 3]` bytes as `[3, h, w]` float32 in 0..1."""
    return torch.tensor(image).permute(2, 0, 1).float() / 255


def stretch(image: Tensor, below: float) -> Tensor:
    """Brighten an image `[3, h, w]` (0..1) whose 99.9th percentile is under `below` until it reaches it.

    An entirely black image stays as it is.
    """
    if below <= 0:
        return image
    values = image.flatten()
    rank = max(round(0.999 * values.numel()), 1)
    bright = float(values.kthvalue(rank).values)
    return (image * (below / bright)).clamp(max=1) if 0 < bright < below else image


def normalise(image: Tensor, rules: InputRules) -> Tensor:
    """Subtract the mean, divide by the standard deviation, channel by channel."""
    mean, std = (torch.tensor(values, dtype=image.dtype).reshape(3, 1, 1) for values in (rules.mean, rules.std))
    return (image - mean) / std


def prepare(image: npt.NDArray[np.uint8], rules: InputRules) -> tuple[Tensor, Resized]:
    """Stretch, normalise and resize one image.

    Args:
        image: `[h, w, 3]` RGB.
        rules: of the model.

    Returns:
        `[3, h', w']` float32, not yet padded, and both sizes.
    """
    size_hw = (image.shape[0], image.shape[1])
    pixels = to_float(image)
    pixels = normalise(stretch(pixels, rules.stretch_below), rules)
    _, resized_hw = network_size(size_hw, rules)
    pixels = torch.nn.functional.interpolate(pixels[None], size=resized_hw, mode="bilinear")[0]
    return pixels.contiguous(), Resized(size_hw, resized_hw)
