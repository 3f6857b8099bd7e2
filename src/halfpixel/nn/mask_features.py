"""One map for all objects, from all levels of a pyramid (Kirillov et al. 2019, arXiv:1901.02446)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import ConvBlock, Norm, start_small
from halfpixel.nn.coordinates import with_coordinates


class MaskFeatures(nn.Module):
    """Each level is convolved and enlarged until it has the size of the finest; then they are added.

    Args:
        channels: of the pyramid.
        width: of the convolutions.
        outputs: maps that objects share.
        levels: of the pyramid, fine to coarse.
        norm: normalisation after each convolution, if any.
        coordinates: the coarsest level is told where in the image it is.
        bounded: whether maps are cut off below zero.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        outputs: int,
        levels: int = 4,
        norm: Norm | None = None,
        coordinates: bool = False,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        inputs = [channels] * (levels - 1) + [channels + 2 * coordinates]
        self.levels = nn.ModuleList(
            nn.ModuleList(ConvBlock(width if step else first, width, 3, norm) for step in range(max(k, 1)))
            for k, first in enumerate(inputs)
        )
        self.maps = ConvBlock(width, outputs, 1, norm, activation=bounded)
        if norm is None:
            start_small(self.maps.conv)

    def forward(self, pyramid: Sequence[Float[Tensor, "b c _ _"]]) -> Float[Tensor, "b k h w"]:
        """The maps, as large as the finest level."""
        total: Tensor | None = None
        for k, (x, convs) in enumerate(zip(pyramid, self.levels, strict=True)):
            x = with_coordinates(x) if self.coordinates and k == len(self.levels) - 1 else x
            assert isinstance(convs, nn.ModuleList)
            for conv in convs:
                x = conv(x)
                x = nn.functional.interpolate(x, scale_factor=2, mode="bilinear") if k else x
            total = x if total is None else total + x
        out: Tensor = self.maps(total)
        return out
