"""Networks that convolve in int8: post-training quantisation, calibrated on a user's own images."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halfpixel.engine.backends.openvino import import_openvino
from halfpixel.engine.export.trace import silent
from halfpixel.errors import ArgumentError, MissingDependencyError, ModelFileError, reason
from halfpixel.zoo.foreign.graph_file import Arrays

CALIBRATION_IMAGES = 300
"""More of them tell nothing new about the ranges of a network's maps."""

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


def quantise(model: Any, files: Sequence[Path], prepare: Callable[[Path], Arrays], output_layers: Sequence[str]) -> Any:
    """A copy of an `openvino.Model` whose layers compute in int8.

    Weights take all 8 bits. On processors without VNNI (Intel before Cascade Lake, AMD before Zen 4) sums may overflow
    then; the precaution against that, 7 bits, costs far more objects than rounding does.

    Args:
        model: exported by `halfpixel.engine.export.trace`.
        files: images to calibrate on.
        prepare: what the graph is given for one of them; called one by one, as they are needed.
        output_layers: of the network; rounded, different scores would be equal, so they stay in float32.

    Raises:
        ImageError: an image cannot be read.
        MissingDependencyError: NNCF is not installed.
        ModelFileError: the network cannot be run on one.
    """
    import_openvino(HINT)
    try:
        import nncf
    except ImportError as error:
        raise MissingDependencyError(HINT) from error
    names = {one.get_any_name() for one in model.inputs}

    def inputs(file: Path) -> Arrays:
        return {name: array for name, array in prepare(file).items() if name in names}

    # what a network does itself, outside of its layers (boxes, crops, suppression), and what layers say in the end
    in_float = [r"^network/.*", *(rf"^network\.{re.escape(layer)}/.*" for layer in output_layers)]
    talkers = ("nncf", "torch.utils.cpp_extension")  # the latter misses a compiler that nobody needs here
    try:
        with silent(*talkers), contextlib.redirect_stdout(io.StringIO()):  # and bars of progress
            return nncf.quantize(
                model,
                nncf.Dataset(list(files), inputs),
                preset=nncf.QuantizationPreset.MIXED,
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(files),
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.DISABLE),
                ignored_scope=nncf.IgnoredScope(_first_layers(model), in_float, validate=False),
            )
    except RuntimeError as error:  # OpenVINO's
        why = reason(error, last_line=True)
        raise ModelFileError(f"int8: the network cannot be run on the images to calibrate on ({why})") from error


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
