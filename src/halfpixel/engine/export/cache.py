"""Exported files of models, in the cache folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import torch

from halfpixel import __version__
from halfpixel.engine.backends.exported_files import SUFFIXES, ExportFormat
from halfpixel.engine.export.exporter import export
from halfpixel.engine.predictor import Predictor
from halfpixel.nn.network import check_weights
from halfpixel.zoo.download import cache_dir


def cached_export(predictor: Predictor, to: ExportFormat) -> Path:
    """The exported file of a model, made if it is not there, which takes up to a minute.

    Raises:
        ArgumentError: the weights are not at hand.
        MissingDependencyError: a library is not installed.
        ModelFileError: the written network does not find what it should.
    """
    check_weights(predictor.model, "be exported")
    folder = cache_dir() / "exported"
    path = folder / f"{predictor.info.variant}-{_fingerprint(predictor)}{SUFFIXES[to]}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        export(predictor, path, to)
    return path


def _fingerprint(predictor: Predictor) -> str:
    """Of everything that the graph depends on."""
    settings = {"halfpixel": __version__, "torch": torch.__version__, **dataclasses.asdict(predictor.model.settings)}
    digest = hashlib.sha256(json.dumps([predictor.info.input.divisor, settings], sort_keys=True).encode())
    for key, tensor in predictor.model.state_dict().items():
        digest.update(f"{key} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:16]
