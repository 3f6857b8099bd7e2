"""From a backbone's maps to one fine map, and coarse ones to attend to (Cheng et al. 2022, arXiv:2112.01527)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import ConvBlock
from halfpixel.nn.deformable_encoder import DeformableEncoder

GROUPS = 32


class PixelDecoder(nn.Module):
    """All but the finest of the maps look at each other; the finest then joins what they found.

    Args:
        inputs: channels of the backbone's maps, fine to coarse.
        width: channels of the coarse maps.
        layers: of the encoder.
        inner: width inside of its layers.
        heads: of its attention.
        channels: of the fine map.
    """

    def __init__(self, inputs: Sequence[int], width: int, layers: int, inner: int, heads: int, channels: int) -> None:
        super().__init__()
        self.coarse = nn.ModuleList(_projection(count, width) for count in reversed(inputs[1:]))
        self.encoder = DeformableEncoder(width, heads, len(inputs) - 1, layers, inner)
        self.lateral = ConvBlock(inputs[0], width, 1, _norm, activation=False)
        self.output = ConvBlock(width, width, 3, _norm)
        self.maps = nn.Conv2d(width, channels, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> tuple[list[Float[Tensor, "b width _ _"]], Float[Tensor, "b c h w"]]:
        """The coarse maps, coarsest first, and the fine one."""
        finest, *others = maps
        coarse = self.encoder([project(x) for project, x in zip(self.coarse, reversed(others), strict=True)])
        enlarged = nn.functional.interpolate(coarse[-1], size=finest.shape[2:], mode="bilinear", align_corners=False)
        return coarse, self.maps(self.output(self.lateral(finest) + enlarged))


def _projection(inputs: int, width: int) -> nn.Sequential:
    """A convolution with a bias, although its normalisation has one, as the published weights have it."""
    conv = nn.Conv2d(inputs, width, 1)
    nn.init.xavier_uniform_(conv.weight)
    return nn.Sequential(conv, _norm(width))


def _norm(width: int) -> nn.GroupNorm:
    """Of groups of at least two channels."""
    return nn.GroupNorm(min(GROUPS, width // 2), width)
