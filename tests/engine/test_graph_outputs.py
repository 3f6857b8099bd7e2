"""Graphs that always say the same, described as a network that says something else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from halfpixel.engine.backends.base import Backend, run_checked
from halfpixel.engine.load import load
from halfpixel.errors import ModelFileError
from halfpixel.models import mask_rcnn, unet
from halfpixel.nn.network import Outputs
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.zoo.fitting import outline
from halfpixel.zoo.modelfile import ModelInfo, description_of

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

INPUTS = {"image": (1, 3, None, None), "size_hw": (1, 2), "score_threshold": (), "detection_limit": ()}
WHOLE = "size_hw", "detection_limit"

Said = dict[str, tuple[tuple[int, ...], Any]]
ROWS: Said = {
    "boxes_xyxy": ((3, 4), np.float32(1)),
    "scores": ((3,), np.float32(0.9)),
    "labels": ((3,), np.int64(0)),
    "image_index": ((3,), np.int64(0)),
    "masks": ((3, 28, 28), np.float32(0.9)),
    "candidates": ((1, 2), np.int64(3)),
    "saturated": ((1,), np.bool_(False)),
}
MAPS: Said = {"probabilities": ((1, 2, 128, 128), np.float32(0.5))}


def write(path: Path, said: Said, info: ModelInfo) -> Path:
    """A file of ONNX, or of OpenVINO, whose graph gives constants."""
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    types = {np.float32: onnx.TensorProto.FLOAT, np.int64: onnx.TensorProto.INT64, np.bool_: onnx.TensorProto.BOOL}
    arrays = {name: np.full(shape, value) for name, (shape, value) in said.items()}
    nodes = [helper.make_node("Identity", [f"{name} said"], [name]) for name in said]
    ports = [
        helper.make_tensor_value_info(name, types[np.int64 if name in WHOLE else np.float32], shape)
        for name, shape in INPUTS.items()
    ]
    outputs = [
        helper.make_tensor_value_info(name, types[array.dtype.type], array.shape) for name, array in arrays.items()
    ]
    constants = [numpy_helper.from_array(array, f"{name} said") for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "g", ports, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if path.suffix == ".onnx":
        model.metadata_props.add(key="halfpixel", value=description_of(info))
        onnx.save(model, path)
        return path
    openvino = pytest.importorskip("openvino")
    read = openvino.Core().read_model(model.SerializeToString())
    read.set_rt_info(description_of(info), ["halfpixel"])
    openvino.save_model(read, path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("name", ["cells.onnx", "cells.xml"])
def test_graphs_that_say_what_they_should(name: str, tmp_path: Path) -> None:
    rows = load(write(tmp_path / name, ROWS, ModelInfo("mask_rcnn_lite", ("cell",))))
    assert rows.backend.name == ("onnx" if name.endswith("onnx") else "openvino")
    maps = load(write(tmp_path / f"maps {name}", MAPS, ModelInfo("unet_lite", ("cell",))))
    assert (rows.class_names, maps.class_names) == (("cell",), ("cell",))


@pytest.mark.parametrize("name", ["cells.onnx", "cells.xml"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"boxes_xyxy": ((3, 7), np.float32(1))}, r"cannot make objects of boxes_xyxy \[3, 7\], scores \[3\], .* \("),
        ({"scores": ((5,), np.float32(0.9))}, r"gave scores \[5\] for image_index \[3\]"),
        ({"scores": ((), np.float32(0.9))}, "cannot make objects of what it gives"),
        ({"labels": ((3,), np.int64(99))}, "gave labels up to 99, expected 0 to 0"),
        ({"labels": ((3,), np.int64(-2))}, "not finite.*labels"),
        ({"image_index": ((3,), np.int64(5))}, "gave image_index up to 5, expected 0 to 0"),
        ({"masks": ((3, 1), np.float32(0.9))}, r"cannot make objects of .*masks \[3, 1\]"),
        ({"candidates": ((1, 1), np.int64(3))}, r"cannot make objects of .*candidates \[1, 1\]"),
        ({"scores": ((3,), np.float32(np.nan))}, "not finite.*scores"),
    ],
)
def test_rows_that_do_not_fit(name: str, change: Said, why: str, tmp_path: Path) -> None:
    file = write(tmp_path / name, ROWS | change, ModelInfo("mask_rcnn_lite", ("cell",)))
    with pytest.raises(ModelFileError, match=rf"{name}: not the graph of mask_rcnn_lite.*{why}") as caught:
        load(file)
    assert str(caught.value).count(name) == 1


@pytest.mark.parametrize("shape", [(1, 3, 128, 128), (1, 1, 128, 128), (1, 128, 128), (2, 2, 128, 128)])
def test_maps_that_do_not_fit(shape: tuple[int, ...], tmp_path: Path) -> None:
    said = {"probabilities": (shape, np.float32(0.5))}
    file = write(tmp_path / "maps.onnx", said, ModelInfo("unet_lite", ("cell",)))
    with pytest.raises(
        ModelFileError, match=r"maps\.onnx: not the graph of unet_lite(: prob|, which cannot make objects of)"
    ):
        load(file)
    info = ModelInfo("unet_lite", ("cell", "other"))
    with pytest.raises(ModelFileError, match=r"probabilities of 2 kinds of pixels, expected 3"):
        load(write(tmp_path / "maps.onnx", MAPS, info))


class Says(Backend):
    name, precision = "onnx", "fp32"

    def __init__(self, said: Mapping[str, torch.Tensor]) -> None:
        self.said = said

    def run(self, batch: ImageBatch, limits: Limits) -> Outputs:
        return dict(self.said)


def test_rows_are_looked_at_for_every_image() -> None:
    """What a graph said of the first image is no promise."""
    network = outline(lambda: mask_rcnn.mask_rcnn_lite(("a", "b"), None))
    said = {name: torch.from_numpy(np.full(shape, value)) for name, (shape, value) in ROWS.items()}
    batch, limits = ImageBatch(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]])), Limits.of(0.5, 3)
    assert run_checked(Says(said), network, batch, limits).keys() == ROWS.keys()
    none = {name: tensor[:0] if network.layout[name] == "row" else tensor for name, tensor in said.items()}
    assert len(run_checked(Says(none), network, batch, limits)["labels"]) == 0
    with pytest.raises(ModelFileError, match="gave labels up to 2, expected 0 to 1"):
        run_checked(Says(said | {"labels": torch.tensor([0, 2, 1])}), network, batch, limits)
    semantic = outline(lambda: unet.unet_lite(("a",), None))
    assert run_checked(Says({"probabilities": torch.zeros(1, 2, 64, 64)}), semantic, batch, limits)


@pytest.mark.parametrize("content", ["", "hello", "<html></html>", "node { name: 'a' }"])
def test_what_is_no_network_at_all(content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "a.xml").write_text(content)
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"a\.xml: not an OpenVINO model: expected XML"):
        load(tmp_path / "a.xml")
    assert capfd.readouterr() == ("", "")
