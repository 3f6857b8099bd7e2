"""What an image looks like to any network, in ten numbers: how to tell those that are like it from others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from halfpixel.structures.images import InputRules

OCTAVES = 3
"""From one cell to eight: of 8 pixels each, that is about the objects and their parts."""

LEAST_CONTRAST = 0.002
"""Contrasts, on the scale of 0..1, are told apart down to this: half a grey level."""


def appearance(prepared: Tensor, rules: InputRules, cell_px: float, octaves: float = 0.0) -> tuple[float, ...]:
    """Brightness and colours, their contrasts, and at which size of detail these are, from what the network is given.

    The same for every network and whatever runs it, and a fraction of what a look costs. The image has the size and
    exposure that the model wants, so neither makes a difference by itself; but spots of any size look like the objects
    once these have the size that the model wants, so what it took to find them that size is a number, too.

    Args:
        prepared: `[3, h, w]` a prepared image, or a tile of one, without padding.
        rules: by which it was prepared.
        cell_px: the side of the squares, in pixels of the network's input, whose averages are looked at. What is finer
            than 8 pixels is the camera's noise more than the objects, and differs where these look the same.
        octaves: by how many the image was enlarged more than is usual, as objects of another size were found.

    Returns:
        The logarithms of six standard deviations: of brightness within each of `OCTAVES` octaves, the finest first, of
        brightness altogether and of two differences of colours, red - green and blue - (red + green) / 2. Then the
        means of these three. All on the scale of 0..1 before the logarithm. The tenth is `octaves`.
    """
    std = torch.tensor(rules.std).reshape(3, 1, 1)
    mean = torch.tensor(rules.mean).reshape(3, 1, 1)
    height, width = (max(round(side / cell_px), 1) for side in prepared.shape[-2:])
    red, green, blue = functional.adaptive_avg_pool2d(prepared, (height, width)) * std + mean
    brightness = (red + green + blue) / 3
    bands, level = [], brightness[None, None]
    for _ in range(OCTAVES):
        coarser = functional.avg_pool2d(level, 2, ceil_mode=True)
        blurred = functional.interpolate(coarser, size=level.shape[-2:], mode="bilinear", align_corners=False)
        bands.append(level - blurred)
        level = coarser
    channels = [brightness, red - green, blue - (red + green) / 2]
    contrasts = [float((one.std(correction=0) + LEAST_CONTRAST).log()) for one in (*bands, *channels)]
    return (*contrasts, *(float(one.mean()) for one in channels), octaves)
