"""Networks that convolve in int8: post-training quantisation, calibrated on a user's own images."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halfpixel.engine.backends.base import Backend, BackendName, Precision
from halfpixel.engine.backends.graph_backend import Arrays, graph_inputs
from halfpixel.engine.backends.openvino import import_openvino
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.nn.network import Outputs
from halfpixel.structures.images import ImageBatch, Limits

CALIBRATION_IMAGES = 300
"""More of them tell nothing new about the ranges of a network's maps."""

FLOAT = (
    r"^network/.*",  # what a network does itself, outside of its layers: boxes, crops, suppression
    r".*\.(objectness|deltas|logits)/.*",  # what layers say in the end: rounded, different scores would be equal
)
"""Nodes of the graph that stay in float32, as regular expressions on their names."""

HINT = 'int8 needs NNCF and OpenVINO: pip install "halfpixel[export]"'


def choose(files: Sequence[Path], most: int, seed: int) -> list[Path]:
    """At most so many of some files, in their order.

    Raises:
        ArgumentError: there is none.
    """
    if not files or most < 1:
        raise ArgumentError("int8 is calibrated on images like those it is for: give at least one")
    chosen = np.random.default_rng(seed).permutation(len(files))[:most]
    return [files[k] for k in sorted(chosen.tolist())]


def quantise(model: Any, predictor: Predictor, files: Sequence[Path]) -> Any:
    """A copy of an `openvino.Model` whose layers compute in int8.

    Weights take all 8 bits. On processors without VNNI (Intel before Cascade Lake, AMD before Zen 4) sums may overflow
    then; the precaution against that, 7 bits, costs far more objects than rounding does.

    Args:
        model: exported from the predictor.
        predictor: prepares the images.
        files: images to calibrate on. Of one that goes through the network in pieces, the first is used.

    Raises:
        ImageError: an image cannot be read.
        MissingDependencyError: NNCF is not installed.
    """
    import_openvino(HINT)
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError(HINT) from error
    names = {one.get_any_name() for one in model.inputs}
    listening = Predictor(predictor.model, predictor.info, predictor.device, backend=_Listener())

    def inputs(file: Path) -> Arrays:
        try:
            listening.predict(file)
        except _Heard as heard:
            return {name: array for name, array in heard.inputs.items() if name in names}
        raise AssertionError("a prediction runs the backend")

    talkers = ("nncf", "torch.utils.cpp_extension")  # the latter misses a compiler that nobody needs here
    with silent(*talkers), contextlib.redirect_stdout(io.StringIO()):  # and bars of progress
        return nncf.quantize(
            model,
            nncf.Dataset(list(files), inputs),
            preset=nncf.QuantizationPreset.MIXED,
            target_device=nncf.TargetDevice.CPU,
            subset_size=len(files),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE),
            ignored_scope=nncf.IgnoredScope(_first_layers(model), list(FLOAT), validate=False),
        )


def _first_layers(model: Any) -> list[str]:
    """The convolutions that look at the image itself: few operations, and all else depends on them."""
    found: list[str] = []
    waiting = [model.input("image").get_node()]
    while waiting:
        for output in waiting.pop().outputs():
            for node in (target.get_node() for target in output.get_target_inputs()):
                if node.get_type_name() == "Convolution":
                    found.append(node.get_friendly_name())
                elif node.get_type_name() == "Pad":
                    waiting.append(node)
    return found


@contextlib.contextmanager
def silent(*names: str) -> Iterator[None]:
    """Let some loggers report nothing but errors."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class _Heard(Exception):  # noqa: N818  # not an error: it ends a prediction before the network
    def __init__(self, inputs: Arrays) -> None:
        self.inputs = inputs


class _Listener(Backend):
    """Hears what a network would be given."""

    name: BackendName = "torch"
    precision: Precision = "fp32"

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        """See `Backend.run`."""
        raise _Heard(graph_inputs(batch, 0, limits))
