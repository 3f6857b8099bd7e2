"""An exported network in OpenVINO."""

from __future__ import annotations

import sys
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from halfpixel.engine.backends.base import BackendName
from halfpixel.engine.backends.graph_backend import PRECISION, ExportedBackend
from halfpixel.errors import MissingDependencyError, ModelFileError, reason
from halfpixel.zoo.foreign.graph_file import Arrays
from halfpixel.zoo.modelfile import DESCRIPTION

BEGINS_WITHIN = 4096
"""Bytes of an `.xml` file in which the network has to begin, after what XML may say before it."""


class OpenVinoBackend(ExportedBackend):
    """Runs an `.xml` file, with its `.bin` file beside it, on the processor.

    Args:
        path: the `.xml` file, written by `halfpixel.engine.export.exporter`.
        threads: that one image may use; default all.

    Raises:
        MissingDependencyError: OpenVINO is not installed.
        ModelFileError: it cannot open the file.
    """

    name: BackendName = "openvino"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.path = path
        openvino = import_openvino('running .xml files needs OpenVINO: pip install "halfpixel[openvino]"')
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",  # left alone, it computes in bf16 where it can, coordinates too
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # others use the cores as well: reading, pasting, writing
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        for file in (path, path.with_suffix(".bin")):
            if not file.is_file():
                raise ModelFileError(f"{file}: no such file; an OpenVINO model is an .xml and a .bin file")
        with path.open("rb") as content:
            if b"<net" not in content.read(BEGINS_WITHIN):  # its readers of other formats would print theirs
                raise ModelFileError(f"{path}: not an OpenVINO model: expected XML that begins with <net")
        try:
            core = openvino.Core()
            model = core.read_model(path)
            said = [key for key in (DESCRIPTION, PRECISION) if model.has_rt_info([key])]
            metadata = {key: str(model.get_rt_info([key]).value) for key in said}
            self._compiled = core.compile_model(model, "CPU", options)
        except Exception as error:  # RuntimeErrors mostly, with a C++ traceback in the message
            raise ModelFileError(f"{path}: OpenVINO cannot open it ({reason(error, last_line=True)})") from error
        self._describe(metadata)
        self.inputs = [one.get_any_name() for one in self._compiled.inputs]
        self.outputs = [one.get_any_name() for one in self._compiled.outputs]
        self._idle: SimpleQueue[Any] = SimpleQueue()

    def _run(self, inputs: Arrays) -> Arrays:
        try:
            request = self._idle.get_nowait()
        except Empty:  # each serves one thread at a time
            request = self._compiled.create_infer_request()
        request.infer({name: inputs[name] for name in self.inputs})
        outputs = {name: np.array(request.get_output_tensor(k).data) for k, name in enumerate(self.outputs)}
        self._idle.put(request)
        return outputs


def import_openvino(hint: str) -> Any:
    """The library, kept from telling its makers that it is used.

    Raises:
        MissingDependencyError: with the hint, where it is not installed.
    """
    silent: dict[str, Any] = sys.modules
    if "openvino" not in silent:
        silent.setdefault("openvino_telemetry", None)  # it sends on import already, unless it is not there
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(hint) from error
    return openvino
