"""A small network that says how large the objects of an image are, of whatever kind it was trained on.

It looks at an image at several sizes, an octave apart, and says of each cell of 8 x 8 pixels which part of it is
covered by objects of each of 13 diameters, three octaves in all. Its blocks are the depthwise separable ones of
MobileNet (Howard et al. 2017, arXiv:1704.04861), with a shortcut where a block changes nothing of the shape. That a
network first finds the diameter of the objects, and then looks again, is done for cells in Cellpose (Stringer et al.
2021, doi:10.1038/s41592-020-01018-x), whose network is of another kind.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import Norm, conv_norm

CELL_PX = 8
"""The side of a cell, in pixels of the network's input."""

SMALLEST_PX = 4.0
BINS_PER_OCTAVE = 4
N_BINS = 13
"""From 4 to 32 pixels of the network's input."""

WIDTHS = (24, 32, 32, 64, 96, 128, 128)
HALVED = (True, False, True, False, False, False)
"""Which of the blocks halve the map, after the first convolution, which does so, too."""


def bin_diameters() -> Float[Tensor, "bins"]:
    """The diameters that the network tells apart, in pixels of its input, ascending."""
    return SMALLEST_PX * 2 ** (torch.arange(N_BINS) / BINS_PER_OCTAVE)


class SizeNetwork(nn.Module):
    """Which part of each cell objects of each diameter cover.

    Args:
        norm: follows each convolution while the network is trained; None for none, as in model files.
    """

    def __init__(self, norm: Norm | None = None) -> None:
        super().__init__()
        self.stem = _Convolution(3, WIDTHS[0], 3, 2, norm=norm)
        self.blocks = nn.ModuleList(
            _Separable(inputs, outputs, 2 if halved else 1, norm)
            for (inputs, outputs), halved in zip(pairwise(WIDTHS), HALVED, strict=True)
        )
        self.logits = nn.Conv2d(WIDTHS[-1], 1 + N_BINS, 1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k rows columns"]:
        """Logits of nothing, or of objects of no size that it knows, and of each diameter.

        Args:
            images: in 0..1; the sides multiples of 8.
        """
        x = self.stem((images - 0.5) / 0.25)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.logits(x)
        return logits


class _Convolution(nn.Module):
    """Convolve, normalise and cut off what is negative."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=norm is None)
        self.norm = norm(outputs) if norm is not None else nn.Identity()
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """A shortcut is added before negative values are cut off."""
        return conv_norm(self.conv, self.norm, x, shortcut)


class _Separable(nn.Module):
    """A 3 x 3 convolution of each channel, and a 1 x 1 one across them."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm | None) -> None:
        super().__init__()
        self.depthwise = _Convolution(inputs, inputs, 3, stride, inputs, norm)
        self.pointwise = _Convolution(inputs, outputs, 1, norm=norm)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Half the height and width where the stride is 2."""
        out: Tensor = self.pointwise(self.depthwise(x), x if self.shortcut else None)
        return out
