"""Open exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from halfpixel.engine.backends.base import Backend, BackendName, ComputePrecision, run_checked
from halfpixel.engine.backends.graph_backend import GRAPH_INPUTS, ExportedBackend
from halfpixel.engine.backends.onnx import OnnxBackend
from halfpixel.engine.backends.openvino import OpenVinoBackend
from halfpixel.errors import ModelFileError, reason
from halfpixel.nn.network import Network, Outputs
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.zoo.fitting import outline
from halfpixel.zoo.foreign.yolo_seg import open_yolo_seg
from halfpixel.zoo.modelfile import DESCRIPTION, ModelInfo, build_described, parse_info

ExportFormat = Literal["onnx", "openvino"]

SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""What the files of each runtime are called."""


TRIED_CELLS, TRIED_OBJECTS = 4, 8
"""A graph is tried out on an image of so many times what its sides are multiples of, and may find so many objects."""


def open_file(path: Path, threads: int | None = None) -> ExportedBackend:
    """The runtime for an exported file.

    Raises:
        ModelFileError: the file cannot be opened.
        MissingDependencyError: the runtime is not installed.
    """
    return OnnxBackend(path, threads) if path.suffix.lower() == SUFFIXES["onnx"] else OpenVinoBackend(path, threads)


def open_exported(path: Path, threads: int | None = None) -> tuple[Network, ModelInfo, Backend]:
    """An exported file's network without weights, its description, and what runs it.

    Args:
        path: an `.onnx` or `.xml` file; an `.onnx` file may also be another program's, of a kind that is known.
        threads: that one image may use; default all.

    Raises:
        ModelFileError: the file cannot be opened, or is neither one of ours nor of a kind that is known.
        MissingDependencyError: the runtime is not installed.
    """
    backend = open_file(path, threads)
    if DESCRIPTION not in backend.metadata:
        return _open_foreign(backend)
    info = parse_info(backend.metadata[DESCRIPTION], path)
    model = outline(lambda: build_described(info, path))
    missing = set(model.layout) - set(backend.outputs)
    if missing or not set(backend.inputs) <= GRAPH_INPUTS:
        wrong = f"output {min(missing)}" if missing else f"input {min(set(backend.inputs) - GRAPH_INPUTS)}"
        raise ModelFileError(
            f"{path}: not the graph of {info.variant}: {wrong} is {'missing' if missing else 'unknown'}"
        )
    model.only_predicts = "the file was exported, and its weights are not at hand; give the model file"
    _try_out(model.eval(), info, backend)
    return model, info, backend


def _try_out(model: Network, info: ModelInfo, backend: ExportedBackend) -> None:
    """Look at a small black image, so that a graph that does not fit its description is known before the first one.

    Raises:
        ModelFileError: what the graph gives is not what the network would.
    """
    side = TRIED_CELLS * info.input.divisor
    batch, limits = (
        ImageBatch(torch.zeros(1, 3, side, side), torch.tensor([[side, side]])),
        Limits.of(0.0, TRIED_OBJECTS),
    )
    not_its, outputs = f"{backend.path}: not the graph of {info.variant}", dict[str, torch.Tensor]()
    try:
        outputs = run_checked(backend, model, batch, limits)
        model.decode(outputs, [Resized((side, side), (side, side))], limits)
    except ModelFileError as error:
        raise ModelFileError(f"{not_its}: {str(error).removeprefix(f'{backend.path}: ')}") from error
    except Exception as error:  # of many classes: shapes and types may be any
        given = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in outputs.items()) or "what it gives"
        raise ModelFileError(f"{not_its}, which cannot make objects of {given} ({reason(error)})") from error


class ForeignBackend(Backend):
    """Runs a network whose `forward` has a file run that another program wrote.

    Args:
        network: any such.
        name: which library runs the file.
        precision: what it computes in.
    """

    def __init__(self, network: Network, name: BackendName, precision: ComputePrecision) -> None:
        self.name, self.precision = name, precision
        self._network = network

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """See `Backend.run`."""
        with torch.inference_mode():
            outputs: Outputs = self._network(batch.tensor, batch.sizes_hw, limits)
        return outputs


def _open_foreign(runtime: ExportedBackend) -> tuple[Network, ModelInfo, Backend]:
    """A network that another program wrote."""
    if not isinstance(runtime, OnnxBackend):
        raise ModelFileError(f"{runtime.path}: not exported by halfpixel (it has no description)")
    file = runtime.as_file()
    network, info = open_yolo_seg(file)
    half = any(port.type == "tensor(float16)" for port in file.inputs.values())
    return network, info, ForeignBackend(network, runtime.name, "fp16" if half else runtime.precision)
