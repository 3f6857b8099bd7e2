"""Feature pyramid with two levels more (as in RetinaNet, Lin et al. 2017, arXiv:1708.02002)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.fpn import FeaturePyramid


class LongPyramid(nn.Module):
    """A pyramid whose two coarsest levels come from convolutions of stride 2.

    Args:
        inputs: channels of the backbone's maps, fine to coarse.
        channels: channels of every output.
        activation: cut off what is negative in the outputs that the backbone has a map for.
        from_backbone: the first level more comes from the backbone's coarsest map instead of the pyramid's.
    """

    def __init__(self, inputs: Sequence[int], channels: int, activation: bool, from_backbone: bool) -> None:
        super().__init__()
        self.merged = FeaturePyramid(inputs, channels, coarser=False, upsampling="bilinear")
        self.coarser = nn.ModuleList(
            nn.Conv2d(given, channels, 3, 2, 1) for given in (inputs[-1] if from_backbone else channels, channels)
        )
        self.activation, self.from_backbone = activation, from_backbone
        self.channels = channels

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b c _ _"]]:
        """One map per input and two coarser ones, fine to coarse."""
        outputs: list[Tensor] = self.merged(maps)
        if self.activation:
            outputs = [one.relu() for one in outputs]
        coarse = maps[-1] if self.from_backbone else outputs[-1]
        for layer in self.coarser:
            coarse = layer(coarse)
            outputs.append(coarse)
        return outputs
