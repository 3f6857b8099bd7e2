"""What every backend is to the rest of the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch

from halfpixel.errors import ModelFileError
from halfpixel.nn.network import Network, Outputs
from halfpixel.ops.finite import all_finite
from halfpixel.structures.images import ImageBatch, Limits

BackendName = Literal["torch", "onnx", "openvino"]

ComputePrecision = Literal["fp32", "bf16", "fp16", "int8"]
"""What the convolutions compute in. Boxes and scores are decoded in float32 in every one of them."""


class Backend(ABC):
    """Runs a network.

    Attributes:
        name: which library does it.
        precision: what it computes in.
        images_at_once: so many images of one size are best given to `run` together.
    """

    name: BackendName
    precision: ComputePrecision
    images_at_once: int = 1

    @abstractmethod
    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """What the network's `forward` gives for a batch; may be called from several threads at once.

        Args:
            batch: float32, on the CPU.
            limits: score threshold and detection limit.
        """

    def close(self) -> None:  # noqa: B027  # most have nothing to give back
        """Give back the memory that it takes; it may still be run, and takes it again."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.precision})"


def run_checked(backend: Backend, network: Network, batch: ImageBatch, limits: Limits) -> Outputs:
    """What a backend gives for a batch, if all of it are numbers: of NaN there would be no objects, without a word.

    Raises:
        ModelFileError: an output has NaN or infinity, or is none that the network has; it is named.
    """
    outputs = backend.run(batch, limits)
    for name, tensor in outputs.items():
        if not all_finite(tensor) or (not tensor.is_floating_point() and bool((tensor < 0).any())):
            raise ModelFileError(
                f"the network computed numbers that are not finite ({name}, with {backend.name} in "
                f"{backend.precision}): its weights may be damaged, or too large for this precision"
            )
    _check_rows(outputs, network, len(batch))
    return outputs


def _check_rows(outputs: Outputs, network: Network, images: int) -> None:
    """A graph in a file may give anything."""
    found = {name: list(outputs[name].shape[:1]) for name, axis in network.layout.items() if axis == "row"}
    for name, rows in found.items():
        if rows != found["image_index"] or not rows:
            raise ModelFileError(f"the network gave {name} {rows} for image_index {found['image_index']}")
    for name, most in (("labels", len(network.class_names)), ("image_index", images)):
        if name in found and found[name] != [0] and (last := int(outputs[name].max())) >= most:
            raise ModelFileError(f"the network gave {name} up to {last}, expected 0 to {most - 1}")


def native_precision(device: torch.device) -> ComputePrecision:
    """The fastest precision that a device computes convolutions in without losing objects."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        return "bf16" if can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"
    return "fp32"
