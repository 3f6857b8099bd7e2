"""Prototype masks and how objects are made of them (Bolya et al. 2019, arXiv:1904.02689, sections 3.1 and 3.2)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import conv_stack, start_small


class AnchorOutputs(NamedTuple):
    """What is said of every anchor of a batch, in order of level, row, column, shape (float32)."""

    logits: Float[Tensor, "b n _"]
    """Of the background, then of each class."""
    deltas: Float[Tensor, "b n 4"]
    coefficients: Float[Tensor, "b n k"]


class CoefficientHead(nn.Module):
    """What each anchor shows, where exactly, and how its mask is made of the prototypes; the same on all levels.

    Args:
        channels: of the pyramid.
        shapes: anchors of a cell.
        prototypes: coefficients of an anchor.
        classes: without the background.
        depth: 3 x 3 convolutions before the predictions.
        kernel: of the predictions.
    """

    def __init__(
        self, channels: int, shapes: int, prototypes: int, classes: int, depth: int = 1, kernel: int = 3
    ) -> None:
        super().__init__()
        self.shapes = shapes
        self.convs = conv_stack(channels, (channels,) * depth)
        self.deltas = nn.Conv2d(channels, 4 * shapes, kernel, padding=kernel // 2)
        self.coefficients = nn.Conv2d(channels, prototypes * shapes, kernel, padding=kernel // 2)
        start_small(self.deltas)
        start_small(self.coefficients)
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the layer that depends on the classes by a new one."""
        inputs, kernel, padding = self.deltas.in_channels, self.deltas.kernel_size[0], self.deltas.padding[0]
        self.logits = nn.Conv2d(inputs, (1 + classes) * self.shapes, kernel, padding=int(padding))
        start_small(self.logits)

    def forward(self, pyramid: Sequence[Float[Tensor, "b c _ _"]]) -> AnchorOutputs:
        """Of all levels' anchors."""
        said: list[list[Tensor]] = [[], [], []]
        for features in pyramid:
            hidden = self.convs(features)
            for parts, layer in zip(said, (self.logits, self.deltas, self.coefficients), strict=True):
                of_cells = layer(hidden).permute(0, 2, 3, 1).flatten(1, 2).float()
                parts.append(of_cells.unflatten(2, (self.shapes, -1)).flatten(1, 2))
        logits, deltas, coefficients = (torch.cat(parts, 1) for parts in said)
        return AnchorOutputs(logits, deltas, coefficients.tanh())


class Protonet(nn.Module):
    """Maps that the masks of all objects are made of, twice as fine as the map that they come from.

    Args:
        channels: of that map.
        coarse: widths of the 3 x 3 convolutions before it is enlarged.
        fine: width of the one after.
        prototypes: how many there are.
    """

    def __init__(self, channels: int, coarse: tuple[int, ...], fine: int, prototypes: int) -> None:
        super().__init__()
        self.coarse = conv_stack(channels, coarse)
        self.fine = conv_stack(coarse[-1], (fine,))
        self.maps = nn.Conv2d(fine, prototypes, 1)
        start_small(self.maps)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h2 w2"]:
        """None of them negative, in float32."""
        coarse = self.coarse(features)
        finer: Tensor = nn.functional.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        maps: Tensor = self.maps(self.fine(finer))
        return maps.relu().float()
