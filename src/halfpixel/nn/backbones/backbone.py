"""What every backbone is to the networks: an image in, feature maps out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.errors import ModelFileError

STRIDES = (4, 8, 16, 32)
"""Of the maps that a feature pyramid is made of."""

Features = list[Float[Tensor, "b _ _ _"]]


class Backbone(nn.Module, ABC):
    """The part of a network that starts from weights of ImageNet.

    Attributes:
        channels: of each map, fine to coarse.
        strides: pixels of the image per cell of each map.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @abstractmethod
    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """The maps `[b, channels[k], h / strides[k], w / strides[k]]`; sides are multiples of the coarsest stride."""

    @abstractmethod
    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the parts that give each map: what fine-tuning freezes, from the first on."""

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take weights under timm's names; what served classification alone is left out.

        Raises:
            ModelFileError: the weights belong to another network.
        """
        expected = self.state_dict()
        missing = [name for name in expected if name not in state]
        if missing:
            raise ModelFileError(f"not weights of this backbone: {len(missing)} are missing, e.g. {missing[0]}")
        for name, tensor in expected.items():
            if state[name].shape != tensor.shape:
                shapes = f"{list(state[name].shape)} instead of {list(tensor.shape)}"
                raise ModelFileError(f"not weights of this backbone: {name} is {shapes}")
        self.load_state_dict({name: state[name] for name in expected})
