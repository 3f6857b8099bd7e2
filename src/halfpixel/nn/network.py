"""What every network is to the rest of the house: the model contract."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.errors import ArgumentError
from halfpixel.nn.backbones.backbone import Backbone
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets

Outputs = dict[str, Tensor]

Axis = Literal["row", "map", "image"]
"""What the first axis of an output counts: `row` detections of all images, one after the other, whose image is in the
output `image_index`; `map` images, the last two axes being the rows and columns of a map; `image` images."""


class Network(nn.Module, ABC):
    """`forward` to find, `losses` to train, `decode` to turn tensors into objects.

    A file of `halfpixel.models` holds one final class of these, its `Settings`, a dataclass with a default for
    everything, and `VARIANTS`: public name -> constructor from class names and settings (None for the variant's own).
    No other file has to know of it.

    Attributes:
        class_names: class 0 is the first real one.
        backbone: the part that starts from weights of ImageNet.
        settings: what is decided about the network besides its weights, a frozen dataclass.
        layout: what the first axis of each of `forward`'s outputs counts.
        output_layers: names of the modules that say something in the end: what comes before them may be rounded, what
            they say may not. A head swap replaces those that depend on the classes.
        only_predicts: why it cannot be trained, exported or saved, in words for users; empty where it can.
        RECIPE: fields of `halfpixel.train.recipe.Recipe` that suit the network, where they are not the usual ones.
    """

    RECIPE: ClassVar[Mapping[str, Any]] = {}

    class_names: tuple[str, ...]
    backbone: Backbone
    settings: Any
    layout: Mapping[str, Axis]
    output_layers: tuple[str, ...]
    only_predicts: str = ""

    @abstractmethod
    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects. Tensors only, so that it exports.

        Args:
            images: normalised, padded to multiples of 32.
            sizes_hw: true sizes inside the padding, in pixels.
            limits: score threshold and detection limit; a network may ignore them here and obey in `decode`.

        Returns:
            What `layout` lists. NaN must show in it: in a number, or as a count of -1.
        """

    @abstractmethod
    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The named terms, each a scalar; train on their sum."""

    @abstractmethod
    def decode(self, outputs: Outputs, sizes: Sequence[Resized], limits: Limits) -> list[Instances]:
        """Objects of each image, best score first, in pixels of the original image. Uses no weights.

        Args:
            outputs: of `forward`.
            sizes: of each image, before and after resizing.
            limits: those that `forward` was given. No more objects an image than they allow; `Instances.saturated`
                says when there may have been more.
        """

    @abstractmethod
    def set_classes(self, classes: int) -> None:
        """Replace the layers that depend on the classes by new ones, for so many."""

    def with_classes(self, class_names: Sequence[str]) -> Network:
        """A copy for other classes: the layers that depend on the classes are new, all else is kept."""
        swapped = copy.deepcopy(self)
        swapped.class_names = tuple(class_names)
        swapped.set_classes(len(class_names))
        return swapped.to(next(self.parameters()).device)

    @property
    def anchor_sizes_px(self) -> tuple[float, ...]:
        """Sides of the anchors, in pixels of the input; none for a network without anchors."""
        return ()


def check_weights(network: Network, wanted: str) -> None:
    """Refuse what needs the weights of a network that only predicts.

    Args:
        network: any.
        wanted: what for, to stand after "it cannot".

    Raises:
        ArgumentError: it only predicts.
    """
    if network.only_predicts:
        raise ArgumentError(f"it cannot {wanted}: {network.only_predicts}")


class Semantic(Network):
    """A network that says of every pixel what it shows: it can tell where there is something at all."""

    @abstractmethod
    def foreground(self, outputs: Outputs) -> Float[Tensor, "b h w"]:
        """How likely each pixel of the padded input shows an object, 0..1, from what `forward` gave."""
