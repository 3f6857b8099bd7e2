"""A network in torch, as a copy that computes the same, faster."""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor, nn

from halfpixel.engine.backends.base import Backend, BackendName, ComputePrecision, native_precision
from halfpixel.engine.backends.cpu_blocks import use_cpu_blocks
from halfpixel.engine.backends.folding import AnyModule, folded
from halfpixel.errors import ArgumentError
from halfpixel.nn.network import Network, Outputs
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.zoo.fitting import check_finite

DTYPES: dict[ComputePrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    """The accelerator, where there is one, else the CPU."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


class TorchBackend(Backend):
    """Runs a copy of a network that computes the same, faster.

    The copy is made again whenever the network's weights or settings are others than when it was made.

    Args:
        model: stays as it is.
        device: where it runs.
        precision: default the device's own (see `native_precision`).

    Raises:
        ArgumentError: torch does not run networks in this precision.
    """

    name: BackendName = "torch"

    def __init__(self, model: Network, device: torch.device, precision: ComputePrecision | None = None) -> None:
        self.device = device
        self.precision = precision or native_precision(device)
        if self.precision not in DTYPES:
            raise ArgumentError(
                f"torch does not run networks in {self.precision}: `halfpixel export --int8` writes a file that does"
            )
        self.images_at_once = 1 if device.type == "cpu" else 8
        self._dtype = DTYPES[self.precision]
        self._model = model
        self._copy: Network | None = None
        self._copied: _State | None = None
        self._lock = Lock()

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """See `Backend.run`."""
        network = self._up_to_date()
        images = batch.tensor.to(self.device, self._dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            outputs: Outputs = network(images, batch.sizes_hw, limits)
        return outputs

    def close(self) -> None:
        """See `Backend.close`."""
        with self._lock:
            self._copy = self._copied = None

    def _up_to_date(self) -> Network:
        with self._lock:
            now = _State.of(self._model)
            if self._copy is None or self._copied is None or not now.equals(self._copied):
                check_finite(self._model)
                self._copy, self._copied = for_inference(self._model, self.device, self._dtype), now
            return self._copy


class _State(NamedTuple):
    """What a copy of a network depends on."""

    settings: object
    class_names: tuple[str, ...]
    places: tuple[tuple[int, int], ...]
    """Of each tensor its place in memory and how often it was written to, which torch counts."""
    hashes: Tensor
    """Of each tensor's content: writes through `.data` are not counted."""

    @classmethod
    def of(cls, model: Network) -> _State:
        tensors = [tensor.detach() for tensor in (*model.parameters(), *model.buffers())]
        places = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for t in tensors)
        hashes = torch.stack([torch.hash_tensor(tensor) for tensor in tensors])
        return cls(model.settings, model.class_names, places, hashes)

    def equals(self, other: _State) -> bool:
        return self[:3] == other[:3] and torch.equal(self.hashes, other.hashes)


def for_inference(model: AnyModule, device: torch.device, dtype: torch.dtype) -> AnyModule:
    """A copy to predict with on a device: folded, channels last, in `dtype`.

    Args:
        model: stays as it is.
        device: where the copy is.
        dtype: of its weights; float32 changes results by no more than rounding.
    """
    faster = folded(model).to(device, dtype)
    nn.utils.convert_conv2d_weight_memory_format(faster, torch.channels_last)
    if device.type == "cpu":
        use_cpu_blocks(faster, dtype)
    return faster
