"""What networks of others share that run as they are: they find objects, and that is all."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from halfpixel.errors import ArgumentError
from halfpixel.nn.network import Network
from halfpixel.structures.images import ImageBatch
from halfpixel.structures.targets import Targets


class PredictsOnly(Network):
    """`Network.only_predicts` says why it cannot do more."""

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`.

        Raises:
            ArgumentError: always.
        """
        raise ArgumentError(f"it cannot be given other classes: {self.only_predicts}")

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """See `Network.losses`.

        Raises:
            ArgumentError: always.
        """
        raise ArgumentError(f"it cannot be trained: {self.only_predicts}")
