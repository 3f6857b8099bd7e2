"""What every network is to the rest of the house: the model contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets

Outputs = dict[str, Tensor]


class Network(nn.Module, ABC):
    """`forward` to find, `losses` to train, `decode` to turn tensors into objects.

    A file of `halfpixel.models` holds one final class of these, its `Settings`, a dataclass with a default for
    everything, and `VARIANTS`: public name -> constructor from class names and settings (None for the variant's own).

    Attributes:
        class_names: class 0 is the first real one.
        backbone: the part that starts from weights of ImageNet.
        settings: what is decided about the network besides its weights.
    """

    class_names: tuple[str, ...]
    backbone: nn.Module
    settings: Any

    @abstractmethod
    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects. Tensors only, so that it exports.

        Args:
            images: normalised, padded to multiples of 32.
            sizes_hw: true sizes inside the padding, in pixels.
            limits: score threshold and detection limit.

        Returns:
            Rows (detections over the whole batch; `image_index` says whose) or maps (one for each image).
        """

    @abstractmethod
    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The named terms, each a scalar; train on their sum."""

    @abstractmethod
    def decode(self, outputs: Outputs, sizes: Sequence[Resized]) -> list[Instances]:
        """Objects of each image, best score first, in pixels of the original image. Uses no weights.

        Args:
            outputs: of `forward`.
            sizes: of each image, before and after resizing.
        """

    @abstractmethod
    def with_classes(self, class_names: Sequence[str]) -> Network:
        """A copy for other classes: the layers that depend on the classes are new, all else is kept."""

    def asks_for(self, limit: int) -> int:
        """The detection limit to give `forward` so that `decode` leaves `limit` objects where there are as many."""
        return limit

    @property
    def anchor_sizes_px(self) -> tuple[float, ...]:
        """Sides of the anchors, in pixels of the input; none for a network without anchors."""
        return ()
