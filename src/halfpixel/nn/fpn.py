"""Feature pyramid (Lin et al. 2017, arXiv:1612.03144)."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import ConvBlock, Norm


class FeaturePyramid(nn.Module):
    """Coarse maps, rich in meaning, added to fine ones.

    Args:
        inputs: channels of the backbone's maps, fine to coarse.
        channels: channels of every output.
        norm: normalisation after each convolution, if any.
        coarser: add one level more, every second cell of the coarsest.
        upsampling: how coarse maps are enlarged.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        norm: Norm | None = None,
        coarser: bool = True,
        upsampling: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvBlock(c, channels, 1, norm, activation=False) for c in inputs)
        self.output = nn.ModuleList(ConvBlock(channels, channels, 3, norm, activation=False) for _ in inputs)
        self.coarser = coarser
        self.upsampling = upsampling
        self.channels = channels

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b c _ _"]]:
        """One map per input (and a coarser one), fine to coarse."""
        merged: list[Tensor] = []
        for lateral, x in zip(reversed(self.lateral), reversed(maps), strict=True):
            coarse = nn.functional.interpolate(merged[-1], size=x.shape[-2:], mode=self.upsampling) if merged else None
            merged.append(lateral(x, coarse))
        outputs = [output(x) for output, x in zip(self.output, reversed(merged), strict=True)]
        if self.coarser:
            outputs.append(outputs[-1][:, :, ::2, ::2])
        return outputs
