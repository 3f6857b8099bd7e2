"""Open exported files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from halfpixel.engine.backends.graph_backend import GRAPH_INPUTS, ExportedBackend
from halfpixel.engine.backends.onnx import OnnxBackend
from halfpixel.engine.backends.openvino import OpenVinoBackend
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.nn.network import Network
from halfpixel.zoo.modelfile import DESCRIPTION, ModelInfo, build_described, parse_info

ExportFormat = Literal["onnx", "openvino"]

SUFFIXES: dict[ExportFormat, str] = {"onnx": ".onnx", "openvino": ".xml"}
"""What the files of each runtime are called."""


def open_file(path: Path, threads: int | None = None) -> ExportedBackend:
    """The runtime for an exported file.

    Raises:
        ModelFileError: the file cannot be opened.
        MissingDependencyError: the runtime is not installed.
    """
    return OnnxBackend(path, threads) if path.suffix == SUFFIXES["onnx"] else OpenVinoBackend(path, threads)


def open_exported(path: Path, threads: int | None = None) -> tuple[Network, ModelInfo, ExportedBackend]:
    """An exported file's network without weights, its description, and what runs it.

    Args:
        path: an `.onnx` or `.xml` file.
        threads: that one image may use; default all.

    Raises:
        ModelFileError: the file cannot be opened, or is not one of ours.
        MissingDependencyError: the runtime is not installed.
    """
    backend = open_file(path, threads)
    if DESCRIPTION not in backend.metadata:
        raise ModelFileError(f"{path}: not exported by halfpixel (it has no description)")
    info = parse_info(backend.metadata[DESCRIPTION], path)
    with torch.device("meta"):
        model = build_described(info, path)
    missing = set(model.layout) - set(backend.outputs)
    if missing or not set(backend.inputs) <= GRAPH_INPUTS:
        wrong = f"output {min(missing)}" if missing else f"input {min(set(backend.inputs) - GRAPH_INPUTS)}"
        raise ModelFileError(
            f"{path}: not the graph of {info.variant}: {wrong} is {'missing' if missing else 'unknown'}"
        )
    return model.eval(), info, backend


def check_weights(network: Network) -> None:
    """Refuse a network of an exported file, which has no weights in torch.

    Raises:
        ArgumentError: it is one.
    """
    if any(tensor.is_meta for tensor in network.parameters()):
        raise ArgumentError("the weights of an exported file cannot be exported again; give the model file")
