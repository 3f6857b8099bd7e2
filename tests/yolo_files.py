"""Small ONNX files with the outputs of YOLO networks with masks, whose objects are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STRIDE = 4


@dataclass(frozen=True)
class Known:
    """An object that a file finds on every image, wherever the image is in its canvas: in pixels of the canvas."""

    box_xyxy: tuple[float, float, float, float]
    scores: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Made:
    """What is in a file.

    Attributes:
        objects: what it finds.
        canvas_hw: its letterbox; for `dynamic` files the one that the prototypes are for.
        names: of the classes.
        chosen: the layout in which the graph has chosen.
        rows: so many in that layout; those that are left over score 0.
        dynamic: takes any size.
        half: in float16.
        metadata: instead of the usual.
    """

    objects: Sequence[Known]
    canvas_hw: tuple[int, int] = (64, 96)
    names: Sequence[str] = ("cat", "dog", "owl")
    chosen: bool = False
    rows: int = 12
    dynamic: bool = False
    half: bool = False
    metadata: Mapping[str, str] | None = None

    @property
    def kernels(self) -> int:
        return len(self.objects[0].weights)

    def table(self) -> np.ndarray:
        """The rows, as they leave the graph."""
        classes = len(self.names)
        if self.chosen:
            rows = np.zeros((self.rows, 6 + self.kernels), np.float32)
            for row, one in zip(rows, self.objects, strict=False):
                best = int(np.argmax(one.scores))
                row[:] = (*one.box_xyxy, one.scores[best], best, *one.weights)
            return rows[None]
        rows = np.zeros((4 + classes + self.kernels, max(len(self.objects), self.rows)), np.float32)
        for row, one in zip(rows.T, self.objects, strict=False):
            x0, y0, x1, y1 = one.box_xyxy
            row[:] = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, *one.scores, *one.weights)
        return rows[None]


def ramps(canvas_hw: tuple[int, int]) -> np.ndarray:
    """Prototypes `[1, 3, h, w]` at stride 4: x / 32 and y / 32 of the cells' centres in the canvas, and 1."""
    y, x = (STRIDE * (np.arange(side // STRIDE) + 0.5) / 32 for side in canvas_hw)
    return np.stack([*np.broadcast_arrays(x[None], y[:, None]), np.ones((len(y), len(x)))])[None].astype(np.float32)


def write(path: Path, made: Made) -> Path:
    """A graph whose rows are constants, and whose prototypes are `ramps`, whatever the image shows."""
    type_ = TensorProto.FLOAT16 if made.half else TensorProto.FLOAT
    dtype = np.float16 if made.half else np.float32
    sides = ("height", "width") if made.dynamic else made.canvas_hw
    table = made.table().astype(dtype)
    pool = {"kernel_shape": [STRIDE, STRIDE], "strides": [STRIDE, STRIDE]}
    nodes = [
        helper.make_node("Identity", ["table"], ["output0"]),
        helper.make_node("Cast", ["images"], ["exact"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["exact"], ["cells"], **pool),
        helper.make_node("Mul", ["cells", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("CumSum", ["ones", "axis_x"], ["count_x"]),
        helper.make_node("CumSum", ["ones", "axis_y"], ["count_y"]),
        helper.make_node("Mul", ["count_x", "of_x"], ["x"]),
        helper.make_node("Mul", ["count_y", "of_y"], ["y"]),
        helper.make_node("Sum", ["x", "y", "rest"], ["ramps"]),
        helper.make_node("Cast", ["ramps"], ["output1"], to=type_),
    ]
    step, channels = STRIDE / 32, np.eye(3, dtype=np.float32).reshape(3, 1, 3, 1, 1)
    constants = {
        "table": table,
        "nothing": np.array(0, np.float32),
        "one": np.array(1, np.float32),
        "axis_x": np.array(3),
        "axis_y": np.array(2),
        "of_x": step * channels[0],
        "of_y": step * channels[1],
        "rest": channels[2] - step / 2 * (channels[0] + channels[1]),
    }
    maps = ramps(made.canvas_hw).shape
    return save(
        path,
        nodes,
        constants,
        {"images": (type_, (1, 3, *sides))},
        {
            "output0": (type_, (1, "rows", "columns") if made.dynamic else table.shape),
            "output1": (type_, (1, 3, "h", "w") if made.dynamic else maps),
        },
        usual_metadata(made) if made.metadata is None else made.metadata,
    )


def usual_metadata(made: Made) -> dict[str, str]:
    return {
        "names": repr(dict(enumerate(made.names))),
        "task": "segment",
        "stride": "32",
        "imgsz": repr(list(made.canvas_hw)),
        "license": "CC0-1.0",
        "description": "a test of halfpixel's",
    }


Ports = Mapping[str, tuple[int, Sequence[int | str]]]


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    inputs: Ports,
    outputs: Ports,
    metadata: Mapping[str, str],
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, *port) for name, port in inputs.items()],
        [helper.make_tensor_value_info(name, *port) for name, port in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path


def write_painted(path: Path, canvas_hw: tuple[int, int]) -> Path:
    """A graph that finds one object, the whole canvas, whose mask is what is red."""
    nodes = [
        helper.make_node("AveragePool", ["images"], ["cells"], kernel_shape=[STRIDE, STRIDE], strides=[STRIDE, STRIDE]),
        helper.make_node("Mul", ["cells", "nothing"], ["zeros"]),
        helper.make_node("Add", ["zeros", "one"], ["ones"]),
        helper.make_node("Concat", ["cells", "ones"], ["output1"], axis=1),
        helper.make_node("Identity", ["table"], ["output0"]),
    ]
    height, width = canvas_hw
    row = [width / 2, height / 2, width, height, 0.9, 40.0, 0.0, -40.0, -20.0, 0.0, 0.0]
    maps_hw = height // STRIDE, width // STRIDE
    return save(
        path,
        nodes,
        {
            "table": np.array(row, np.float32).reshape(1, -1, 1),
            "nothing": np.array(0, np.float32),
            "one": np.array(1, np.float32),
        },
        {"images": (TensorProto.FLOAT, (1, 3, *canvas_hw))},
        {"output0": (TensorProto.FLOAT, (1, len(row), 1)), "output1": (TensorProto.FLOAT, (1, 6, *maps_hw))},
        {"names": "{0: 'red'}"},
    )
