"""A whole network as a file that runs without torch: image, size and limits in, objects with their small masks out."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from halfpixel.data.images.rgb8 import read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.backends.base import Backend, Precision
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.backends.exported_files import SUFFIXES, ExportFormat, check_weights, open_file
from halfpixel.engine.backends.graph_backend import PRECISION
from halfpixel.engine.backends.openvino import import_openvino
from halfpixel.engine.export.int8 import CALIBRATION_IMAGES, choose, quantise, silent
from halfpixel.engine.predictor import AnyImage, Predictor
from halfpixel.errors import ArgumentError, MissingDependencyError, ModelFileError
from halfpixel.nn.inference import folded
from halfpixel.nn.network import Network
from halfpixel.ops import boxes
from halfpixel.structures.images import Limits
from halfpixel.zoo.modelfile import DESCRIPTION, description_of, settings_of

MOST_CELLS = 4096
"""An image may be so many times the divisor high or wide: the exporter wants a bound."""

ALIKE: dict[Precision, float] = {"fp32": 0.95, "int8": 0.5}
"""The share of objects that a file must find as torch does in fp32, for it to be kept (see `export`)."""

HINT = 'exporting needs more libraries: pip install "halfpixel[export]"'


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: the file, or the `.xml` file of two.
        size_bytes: of all files.
        alike: the share of objects, 0..1, in one image that it finds as torch does in fp32 (boxes overlap by more
            than half), counted from both sides. 1 where there are none.
        compared: so many objects were compared.
        calibration_images: so many images int8 was calibrated on.
    """

    path: Path
    size_bytes: int
    alike: float
    compared: int
    calibration_images: int = 0


def export(
    predictor: Predictor,
    path: Path,
    to: ExportFormat,
    int8_images: Sequence[Path] | None = None,
    most_images: int = CALIBRATION_IMAGES,
    seed: int = 0,
    least_alike: float | None = None,
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
        least_alike: the share of objects, 0..1, that the file must find as torch does in fp32; default 0.95, and 0.5
            for int8. Random weights, as in benchmarks, do not stand rounding: 0 keeps their files.

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
    check_weights(predictor.model)
    chosen = None if int8_images is None else choose(int8_images, most_images, seed)
    precision: Precision = "fp32" if int8_images is None else "int8"
    graph = onnx_graph(predictor.model, predictor.info.input.divisor)
    info = dataclasses.replace(predictor.info, settings=settings_of(predictor.model))  # for readers without halfpixel
    described = {DESCRIPTION: description_of(info), PRECISION: precision}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part = Path(folder) / path.name
        if to == "onnx":
            for key, value in described.items():
                graph.metadata_props.add(key=key, value=value)
            part.write_bytes(graph.SerializeToString())
        else:
            openvino = import_openvino(HINT)
            model = openvino.Core().read_model(graph.SerializeToString())
            if chosen is not None:
                model = quantise(model, predictor, chosen)
            for key, value in described.items():
                model.set_rt_info(value, [key])
            openvino.save_model(model, part, compress_to_fp16=False)
        image = chosen[0] if chosen else touching_cells((256, 320), 40).picture
        alike, compared = _compare(predictor, open_file(part), image)
        if alike < (ALIKE[precision] if least_alike is None else least_alike):
            raise ModelFileError(
                f"{path}: not written, as the exported network finds something else than torch does: "
                f"{alike:.0%} of {compared} objects are alike"
            )
        written = sorted(Path(folder).iterdir(), reverse=True)
        size_bytes = sum(file.stat().st_size for file in written)
        for file in reversed(written):  # an .xml file appears after its .bin file
            file.replace(path.parent / file.name)
    return Exported(path, size_bytes, alike, compared, len(chosen or ()))


class Graph(nn.Module):
    """A network with tensors for all inputs and outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, size_hw: Tensor, score_threshold: Tensor, detection_limit: Tensor
    ) -> dict[str, Tensor]:
        """See `Network.forward`; the limits themselves are no outputs."""
        outputs = self.network(image, size_hw, Limits(score_threshold, detection_limit))
        return {name: tensor for name, tensor in outputs.items() if name not in Limits._fields}


def onnx_graph(network: Network, divisor: int) -> Any:
    """A network as an `onnx.ModelProto` for one image of any size.

    Its nodes are named after the module that they belong to, `network.backbone.conv_stem/...`.

    Args:
        network: its weights are copied.
        divisor: sides of images are multiples of this.

    Raises:
        MissingDependencyError: the exporter is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(HINT) from error
    graph = Graph(folded(network).to("cpu")).eval()
    given = (
        torch.zeros(1, 3, 8 * divisor, 10 * divisor),
        torch.tensor([[8 * divisor, 10 * divisor]]),
        torch.tensor(0.5),
        torch.tensor(100),
    )
    rows, columns = (torch.export.Dim(name, min=1, max=MOST_CELLS) for name in ("rows", "columns"))
    shapes = dict.fromkeys(("size_hw", "score_threshold", "detection_limit"))
    with _quiet(), torch.no_grad():
        names = list(graph(*given))
        dynamic = {"image": {2: divisor * rows, 3: divisor * columns}, **shapes}
        program = torch.export.export(graph, given, dynamic_shapes=dynamic, strict=False)
        exported = torch.onnx.export(program, dynamo=True, output_names=names, verbose=False, optimize=False)
        assert exported is not None
        _simplify(exported.model)
    for k, node in enumerate(exported.model.graph.all_nodes()):
        scopes = node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")
        module = [name for name in scopes.strip("[]").replace("'", "").split(", ") if name][:-1]
        node.name = f"{module[-1] if module else 'network'}/{node.op_type}_{k}"
        node.metadata_props.clear()  # they name files of the machine that it was exported on
    return exported.model_proto


def _simplify(model: Any) -> None:
    """What the exporter's own optimiser does, without looking for patterns, which takes it most of the time."""
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    common.InlinePass()(model)
    for _ in range(2):
        fold_constants(model)
        common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.DeduplicateInitializersPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters speak to their own developers: of deprecations, of what could not be folded."""
    with silent("onnxscript", "onnx_ir", "torch.onnx", "torch.export"), warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.simplefilter("ignore", kind)
        yield


def _compare(predictor: Predictor, backend: Backend, image: AnyImage) -> tuple[float, int]:
    """How alike the objects are that torch and another backend find, 0..1, and how many there are in both together."""
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
