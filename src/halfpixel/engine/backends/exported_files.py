"""Open exported files, and export what is to run elsewhere than in torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from halfpixel import __version__
from halfpixel.engine.backends.base import Backend, BackendName, Precision
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.backends.graph_backend import ExportedBackend
from halfpixel.engine.backends.onnx import OnnxBackend
from halfpixel.engine.backends.openvino import OpenVinoBackend
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.nn.network import Network
from halfpixel.zoo.download import cache_dir
from halfpixel.zoo.modelfile import DESCRIPTION, ModelInfo, build, parse_info

if TYPE_CHECKING:
    from halfpixel.engine.predictor import Predictor

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
    try:
        with torch.device("meta"):
            model = build(info.variant, info.class_names, info.settings or None)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return model.eval(), info, backend


def open_backend(
    predictor: Predictor, name: BackendName, precision: Precision | None = None, threads: int | None = None
) -> Backend:
    """A backend for a predictor whose weights are at hand.

    For ONNX Runtime and OpenVINO the network is exported, which takes up to a minute, into the cache folder; the next
    time the file is there.

    Args:
        predictor: its weights are taken.
        name: which library runs the network.
        precision: what it computes in; default the fastest that it can without losing objects.
        threads: that one image may use in the two runtimes; default all.

    Raises:
        ArgumentError: the library does not run networks in this precision, or the weights are not at hand.
        MissingDependencyError: a library is not installed.
    """
    if name == "torch":
        return TorchBackend(predictor.model, predictor.device, precision)
    if precision == "int8":
        raise ArgumentError(
            f"{name} runs int8 only from a file that was calibrated on images like yours: "
            f"halfpixel export MODEL --to openvino --int8 --images PATH --out FILE; then give FILE as the model"
        )
    if precision not in (None, "fp32"):
        raise ArgumentError(
            f"{name} runs networks in fp32 or, from a file, int8; in {precision} it would round coordinates as well"
        )
    return open_file(_cached(predictor, name), threads)


def check_weights(network: Network) -> None:
    """Refuse a network of an exported file, which has no weights in torch.

    Raises:
        ArgumentError: it is one.
    """
    if any(tensor.is_meta for tensor in network.parameters()):
        raise ArgumentError("the weights of an exported file cannot be exported again; give the model file")


def _cached(predictor: Predictor, name: ExportFormat) -> Path:
    """The exported file in the cache folder, made if it is not there."""
    check_weights(predictor.model)
    folder = cache_dir() / "exported"
    path = folder / f"{predictor.info.variant}-{_fingerprint(predictor)}{SUFFIXES[name]}"
    if not path.is_file():
        from halfpixel.engine.export.exporter import export

        folder.mkdir(parents=True, exist_ok=True)
        export(predictor, path, name)
    return path


def _fingerprint(predictor: Predictor) -> str:
    """Of everything that the graph depends on."""
    settings = {"halfpixel": __version__, "torch": torch.__version__, **dataclasses.asdict(predictor.model.settings)}
    digest = hashlib.sha256(json.dumps([predictor.info.input.divisor, settings], sort_keys=True).encode())
    for key, tensor in predictor.model.state_dict().items():
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
