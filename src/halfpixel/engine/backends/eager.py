"""The network in torch itself."""

from __future__ import annotations

from threading import Lock

import torch

from halfpixel.engine.backends.base import Backend, BackendName, Precision, native_precision
from halfpixel.errors import ArgumentError
from halfpixel.nn.inference import for_inference
from halfpixel.nn.network import Network, Outputs
from halfpixel.structures.images import ImageBatch, Limits

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchBackend(Backend):
    """Runs a copy of a network that computes the same, faster.

    Args:
        model: its weights are copied when it first runs.
        device: where it runs.
        precision: default the device's own (see `native_precision`).

    Raises:
        ArgumentError: torch does not run networks in this precision.
    """

    name: BackendName = "torch"

    def __init__(self, model: Network, device: torch.device, precision: Precision | None = None) -> None:
        self.device = device
        self.precision = precision or native_precision(device)
        if self.precision not in DTYPES:
            raise ArgumentError(
                f"torch does not run networks in {self.precision}: `halfpixel export --int8` writes a file that does"
            )
        self._dtype = DTYPES[self.precision]
        self._model = model
        self._ready: Network | None = None
        self._lock = Lock()

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """See `Backend.run`."""
        with self._lock:
            if self._ready is None:
                self._ready = for_inference(self._model, self.device, self._dtype)
        images = batch.tensor.to(self.device, self._dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            outputs: Outputs = self._ready(images, batch.sizes_hw, limits)
        return outputs
