"""What an image looks like to any network, in seven numbers: how to tell those that are like it from others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from halfpixel.structures.images import InputRules

OCTAVES = 3
"""From one cell to eight: of 8 pixels each, that is about the objects and their parts."""

LEAST_CONTRAST = 0.002
"""Contrasts, on the scale of 0..1, are told apart down to this: half a grey level."""


def appearance(prepared: Tensor, rules: InputRules, cell_px: float) -> tuple[float, ...]:
    """Contrast at three sizes of detail and the colours, from what the network is given.

    The same for every network and whatever runs it, and a fraction of what a look costs. The image has the size and
    exposure that the model wants, so neither makes a difference by itself.

    Args:
        prepared: `[3, h, w]` a prepared image, or a tile of one, without padding.
        rules: by which it was prepared.
        cell_px: the side of the squares, in pixels of the network's input, whose averages are looked at. What is finer
            than 8 pixels is the camera's noise more than the objects, and differs where these look the same.

    Returns:
        The logarithms of brightness's standard deviation within each of `OCTAVES` octaves, the finest first; then of
        two differences of colours, red - green and blue - (red + green) / 2, the means and the logarithms of the
        standard deviations. On the scale of 0..1 before the logarithm.
    """
    std = torch.tensor(rules.std).reshape(3, 1, 1)
    mean = torch.tensor(rules.mean).reshape(3, 1, 1)
    height, width = (max(round(side / cell_px), 1) for side in prepared.shape[-2:])
    red, green, blue = functional.adaptive_avg_pool2d(prepared, (height, width)) * std + mean
    bands, grey = [], ((red + green + blue) / 3)[None, None]
    for _ in range(OCTAVES):
        coarser = functional.avg_pool2d(grey, 2, ceil_mode=True)
        blurred = functional.interpolate(coarser, size=grey.shape[-2:], mode="bilinear", align_corners=False)
        bands.append(grey - blurred)
        grey = coarser
    colours = [red - green, blue - (red + green) / 2]
    spreads = [float((one.std(correction=0) + LEAST_CONTRAST).log()) for one in (*bands, *colours)]
    return (*spreads[:OCTAVES], *(float(one.mean()) for one in colours), *spreads[OCTAVES:])
