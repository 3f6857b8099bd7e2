"""An exported network in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from halfpixel.engine.backends.base import BackendName
from halfpixel.engine.backends.graph_backend import ExportedBackend
from halfpixel.errors import MissingDependencyError, ModelFileError, reason
from halfpixel.zoo.foreign.graph_file import Arrays, GraphFile, Port


class OnnxBackend(ExportedBackend):
    """Runs an `.onnx` file on the processor.

    Args:
        path: written by `halfpixel.engine.export.exporter`.
        threads: that one image may use; default all.

    Raises:
        MissingDependencyError: ONNX Runtime is not installed.
        ModelFileError: it cannot open the file.
    """

    name: BackendName = "onnx"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it reports its use to its makers as it is imported
        try:
            import onnxruntime
        except ImportError as error:
            hint = 'running .onnx files needs ONNX Runtime: pip install "halfpixel[onnx]"'
            raise MissingDependencyError(hint) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 4  # what goes wrong comes as an exception, too
        if not path.is_file():
            raise ModelFileError(f"{path}: no such model file")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a dozen classes that have no common base
            raise ModelFileError(f"{path}: ONNX Runtime cannot open it ({reason(error)})") from error
        self._describe(dict(self._session.get_modelmeta().custom_metadata_map))
        self.inputs = [one.name for one in self._session.get_inputs()]
        self.outputs = [one.name for one in self._session.get_outputs()]

    def as_file(self) -> GraphFile:
        """What the file says of its graph, for one that halfpixel did not write."""
        inputs, outputs = _ports(self._session.get_inputs()), _ports(self._session.get_outputs())
        return GraphFile(self.path, inputs, outputs, self.metadata, self.graph)

    def _run(self, inputs: Arrays) -> Arrays:
        arrays = self._session.run(self.outputs, {name: inputs[name] for name in self.inputs})
        return dict(zip(self.outputs, arrays, strict=True))


def _ports(several: Sequence[Any]) -> dict[str, Port]:
    sides = {one.name: tuple(side if isinstance(side, int) else None for side in one.shape) for one in several}
    return {one.name: Port(sides[one.name], one.type) for one in several}
