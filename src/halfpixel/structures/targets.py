"""What a network should have predicted on one image."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from halfpixel.structures.instances import Instances


@dataclass(frozen=True, eq=False)
class Targets:
    """Annotated objects in the frame of the network's input.

    Attributes:
        objects: boxes and masks in input pixels; `size_hw` is the image's true size inside the padding.
        ignored_xyxy: `[m, 4]` boxes of crowd regions: what lies in them is neither an object nor background.
    """

    objects: Instances
    ignored_xyxy: Float[Tensor, "m 4"]
