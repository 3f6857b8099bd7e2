"""A whole network as a file that runs without torch: image, size and limits in, objects with their small masks out."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpixel.data.images.rgb8 import AnyImage, read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.backends.base import Backend, ComputePrecision
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.backends.exported_files import SUFFIXES, ExportFormat, open_file
from halfpixel.engine.backends.graph_backend import PRECISION, graph_inputs
from halfpixel.engine.backends.openvino import import_openvino
from halfpixel.engine.export.int8 import CALIBRATION_IMAGES, choose, quantise
from halfpixel.engine.export.trace import HINT, onnx_graph
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.nn.network import check_weights
from halfpixel.ops import boxes
from halfpixel.structures.images import Limits
from halfpixel.zoo.foreign.graph_file import Arrays
from halfpixel.zoo.modelfile import DESCRIPTION, description_of, settings_of

AGREEMENT: dict[ComputePrecision, float] = {"fp32": 0.95, "int8": 0.5}
"""The share of objects that a file must find as torch does in fp32, for it to be kept (see `export`)."""

CALIBRATION_SIDE = 1536
"""A network is shown no larger parts of an image, in pixels of its input, to calibrate on: ranges of maps do not depend
on it, and the memory for attention grows with the fourth power of it."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: the file, or the `.xml` file of two.
        size_bytes: of all files.
        agreement: the share of objects, 0..1, in one image that it finds as torch does in fp32 (boxes overlap by more
            than half), counted from both sides. 1 where there are none.
        compared: so many objects were compared.
        calibration_images: so many images int8 was calibrated on.
    """

    path: Path
    size_bytes: int
    agreement: float
    compared: int
    calibration_images: int = 0


def export(
    predictor: Predictor,
    path: Path,
    to: ExportFormat,
    int8_images: Sequence[Path] | None = None,
    most_images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    least_agreement: float | None = None,
) -> Exported:
    """Write a network as an ONNX file, or as the two files of an OpenVINO model. Takes up to a minute, int8 longer.

    The file is run on an image and compared with torch before it gets its name; a failure leaves what was there.

    Args:
        predictor: the model, with its weights.
        path: the file; its name ends with `.onnx`, or with `.xml` for OpenVINO, whose `.bin` file lies beside it.
        to: the format.
        int8_images: convolve in int8, calibrated on these images (OpenVINO only).
        most_images: this many of them are used.
        seed: chooses them.
        least_agreement: the share of objects, 0..1, that the file must find as torch does in fp32; default 0.95, and
            0.5 for int8. Random weights, as in benchmarks, do not stand rounding: 0 keeps their files.

    Raises:
        ArgumentError: the name does not fit the format, int8 for another format than OpenVINO, no images.
        ImageError: an image for the calibration cannot be read.
        MissingDependencyError: a library is not installed.
        ModelFileError: the written network does not find what it should.
    """
    if path.suffix != SUFFIXES[to]:
        raise ArgumentError(f"{path}: the name of a file for {to} ends with {SUFFIXES[to]}")
    if not path.parent.is_dir():
        raise ArgumentError(f"{path.parent}: there is no such folder")
    if int8_images is not None and to != "openvino":
        raise ArgumentError("int8 is for openvino only")
    check_weights(predictor.model, "be exported")
    chosen = None if int8_images is None else choose(int8_images, most_images, seed)
    precision: ComputePrecision = "fp32" if int8_images is None else "int8"
    graph = onnx_graph(predictor.model, predictor.info.input.divisor)
    settings = settings_of(predictor.model)  # for readers without halfpixel
    info = dataclasses.replace(predictor.info, settings=settings, size_finder=None)
    described = {DESCRIPTION: description_of(info), PRECISION: precision}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part = Path(folder) / path.name
        if to == "onnx":
            _write_onnx(graph, described, part)
        else:
            _write_openvino(graph, described, part, predictor, chosen)
        image = chosen[0] if chosen else touching_cells((256, 320), 40).picture
        agreement, compared = _compare(predictor, open_file(part), image)
        if agreement < (AGREEMENT[precision] if least_agreement is None else least_agreement):
            raise ModelFileError(
                f"{path}: not written, as the exported network finds something else than torch does: "
                f"{agreement:.0%} of {compared} objects agree"
            )
        written = sorted(Path(folder).iterdir(), reverse=True)
        size_bytes = sum(file.stat().st_size for file in written)
        for file in reversed(written):  # an .xml file appears after its .bin file
            file.replace(path.parent / file.name)
    return Exported(path, size_bytes, agreement, compared, len(chosen or ()))


def _write_onnx(graph: Any, described: Mapping[str, str], path: Path) -> None:
    for key, value in described.items():
        graph.metadata_props.add(key=key, value=value)
    path.write_bytes(graph.SerializeToString())


def _write_openvino(
    graph: Any, described: Mapping[str, str], path: Path, predictor: Predictor, int8_images: Sequence[Path] | None
) -> None:
    openvino = import_openvino(HINT)
    model = openvino.Core().read_model(graph.SerializeToString())
    if int8_images is not None:
        model = quantise(model, int8_images, inputs_of(predictor), predictor.model.output_layers)
    for key, value in described.items():
        model.set_rt_info(value, [key])
    openvino.save_model(model, path, compress_to_fp16=False)


def inputs_of(predictor: Predictor) -> Callable[[Path], Arrays]:
    """What a graph is given for an image file; of a large one, for its first tile."""
    info, limits = predictor.info, Limits.of(predictor.info.score_threshold, predictor.info.detection_limit)
    if info.input.scale is not None:
        rules = dataclasses.replace(info.input, longest_side=min(info.input.longest_side, CALIBRATION_SIDE))
        info = dataclasses.replace(info, input=rules)
    looking = Predictor(predictor.model, info, predictor.device, backend=predictor.backend)
    return lambda file: graph_inputs(next(looking.prepared(file)), 0, limits)


def _compare(predictor: Predictor, backend: Backend, image: AnyImage) -> tuple[float, int]:
    """How far torch and another backend agree, 0..1, and how many objects there are in both together."""
    pixels = read_image(image) if isinstance(image, Path) else image
    exact = Predictor(predictor.model, predictor.info, predictor.device)
    exact = exact.on(TorchBackend(predictor.model, predictor.device, "fp32"))
    # doubtful objects are as good as any to compare, and even an untrained network has them
    threshold = 0.0 if backend.precision == "fp32" else predictor.info.score_threshold
    one, other = (each.predict(pixels, threshold=threshold, limit=100) for each in (exact, exact.on(backend)))
    total = len(one) + len(other)
    if not total:
        return 1.0, 0
    if not len(one) or not len(other):
        return 0.0, total
    overlaps = boxes.iou(one.boxes_xyxy, other.boxes_xyxy)
    found = sum(int((overlaps.amax(dim) > 0.5).sum()) for dim in (0, 1))
    return found / total, total
