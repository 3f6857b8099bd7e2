"""Any convolutional network of timm as a backbone."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.nn.backbones.backbone import STRIDES, Backbone, Features


class TimmBackbone(Backbone):
    """Any convolutional network of timm as a backbone.

    Args:
        name: timm's name.
        pretrained: fetch timm's weights.

    Raises:
        ArgumentError: timm has no such network, or it does not give strides 4 to 32.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise MissingDependencyError("other backbones need timm: pip install timm") from error
        if name not in timm.list_models():
            raise ArgumentError(f"timm has no backbone called {name!r}")
        self.body = timm.create_model(name, features_only=True, pretrained=pretrained)
        info: Any = self.body.feature_info
        by_stride = dict(zip(info.reduction(), range(99), strict=False))
        if not set(STRIDES) <= set(by_stride):
            raise ArgumentError(f"{name} gives strides {sorted(by_stride)}; a pyramid needs {STRIDES}")
        self.picks = [by_stride[stride] for stride in STRIDES]
        self.name = name
        self.ends = [info.module_name(k) for k in self.picks]
        self.channels = tuple(info.channels()[k] for k in self.picks)
        self.strides = STRIDES

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """See `Backbone.forward`."""
        maps = self.body(x)
        return [maps[k] for k in self.picks]

    def stages(self) -> list[list[nn.Module]]:
        """See `Backbone.stages`.

        Raises:
            ArgumentError: the network is not a sequence of parts.
        """
        parts = list(self.body.named_children())
        names = [name for name, _ in parts]
        ends = [module.replace(".", "_") for module in self.ends]
        if not set(ends) <= set(names):
            raise ArgumentError(f"{self.name} does not tell its stages")
        places = [names.index(end) for end in ends]
        cuts = [0, places[0], *(place + 1 for place in places)]
        return [[module for _, module in parts[a:b]] for a, b in pairwise(cuts)]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """See `Backbone.load_imagenet`."""
        renamed: dict[str, Tensor] = {}
        for name in self.body.state_dict():
            part, _, rest = name.partition(".")  # `stages.0` of the whole network is called `stages_0` here
            dotted = f"{part.replace('_', '.')}.{rest}"
            renamed |= {f"body.{name}": state[key] for key in (dotted, name) if key in state}
        super().load_imagenet(renamed)
