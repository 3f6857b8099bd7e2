"""What every backend is to the rest of the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch

from halfpixel.nn.network import Outputs
from halfpixel.structures.images import ImageBatch, Limits

BackendName = Literal["torch", "onnx", "openvino"]

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""What the convolutions compute in. Boxes and scores are decoded in float32 in every one of them."""


class Backend(ABC):
    """Runs a network.

    Attributes:
        name: which library does it.
        precision: what it computes in.
    """

    name: BackendName
    precision: Precision

    @abstractmethod
    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """What the network's `forward` gives for a batch; may be called from several threads at once.

        Args:
            batch: float32, on the CPU.
            limits: score threshold and detection limit.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.precision})"


def native_precision(device: torch.device) -> Precision:
    """The fastest precision that a device computes convolutions in without losing objects."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        return "bf16" if can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"
    return "fp32"
