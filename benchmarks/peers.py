"""Torchvision's Mask R-CNN as its users run it, and as fast as one more line of code makes it."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Pixels = npt.NDArray[np.uint8]

CLASSES = 91
"""Of the published weights, background counted."""

BASE = "torchvision fp32"
PEERS = {
    BASE: (False, False),
    "torchvision fp32, channels last": (True, False),
    "torchvision bf16 autocast": (False, True),
    "torchvision bf16 autocast, channels last": (True, True),
}
"""Channels last, autocast."""


class Torchvision:
    """Torchvision's network from pixels to binary masks.

    Args:
        module: the network.
        channels_last: keep its weights, and so all maps, channels last.
        autocast: compute in bfloat16 where torch thinks it is safe.
    """

    def __init__(self, module: MaskRCNN, channels_last: bool = False, autocast: bool = False) -> None:
        if channels_last:
            module = copy.deepcopy(module).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module = module.eval()
        self.autocast = autocast

    def find(self, pixels: Pixels) -> dict[str, Tensor]:
        """Its own outputs, and `binary` `[n, 1, h, w]`."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if self.autocast else nullcontext():
            (found,) = self.module([self.to_tensor(pixels)])
            return found | {"binary": self.binary(found["masks"])}

    def to_tensor(self, pixels: Pixels) -> Tensor:
        """As its documentation prepares images."""
        return torch.tensor(pixels).permute(2, 0, 1).float() / 255

    def binary(self, masks: Tensor) -> Tensor:
        """As its documentation reads masks."""
        return masks > 0.5


def as_instances(found: Mapping[str, Tensor], size_hw: tuple[int, int], class_names: tuple[str, ...]) -> Instances:
    """Torchvision's outputs as ours."""
    masks = CropMasks.from_dense(found["binary"][:, 0])
    scores = found["scores"].float()
    return Instances(size_hw, found["boxes"].float(), scores, found["labels"] - 1, class_names, masks)
