"""A user's own YOLO network with masks: an ONNX file in one of the two layouts that are usual for them.

    image [3, h, w] -> letterbox [1, 3, H, W], grey around it -> the file's graph -> rows, prototypes [1, k, H/s, W/s]
      rows [1, 4 + classes + k, n]: centre and size, class scores, k weights; overlapping ones are suppressed here
      rows [1, n, 6 + k]: corners, score, class, k weights; the graph has chosen, and no more than n can be found
    k weights . k prototypes -> logits in the object's box -> soft mask

Boxes are in pixels of the letterbox. What the letterbox did is undone without rounding: boxes stay fractions, and masks
are read from the prototypes where the boxes lie in the letterbox. The format is known from public descriptions of such
files and from the shapes of their tensors; no code of their makers was looked at.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.nn.decoding import Found, detections
from halfpixel.nn.kernel_network import KernelNetwork
from halfpixel.nn.network import Axis, Outputs
from halfpixel.ops.finite import is_finite
from halfpixel.structures.field_check import Share, check_fields
from halfpixel.structures.images import InputRules, Limits
from halfpixel.zoo.foreign.graph_file import GraphFile, Port
from halfpixel.zoo.foreign.predicts_only import PredictsOnly
from halfpixel.zoo.modelfile import ModelInfo

GREY = 114 / 255
"""Around the image in the letterbox."""

USUAL_SIDE = 640
"""Of the letterbox, where neither graph nor metadata say it."""

PROBE_SIDE = 4
"""So many steps of the network's stride along a side suffice to see what a graph for any size gives."""

THRESHOLD = 0.25
"""What is usual for these networks, which train their scores otherwise than ours."""

LONGEST_TEXT = 1_000_000
"""Characters of metadata that are read."""

TYPES: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}

EXPECTED = (
    "not exported by halfpixel; expected a YOLO network with masks: one image [1, 3, h, w] in; out come rows "
    "[1, 4 + classes + k, n] or [1, n, 6 + k], and k prototypes [1, k, h/s, w/s]"
)


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        box_iou: of two rows of one class whose boxes overlap by more, the better stays; not where the graph chooses.
    """

    box_iou: Share = 0.7

    def __post_init__(self) -> None:
        check_fields(self)


class Form(NamedTuple):
    """How a graph says what it found.

    Attributes:
        image: name of the input.
        type: of its numbers.
        rows: name of the output with a row for each object.
        maps: name of the prototypes.
        classes: how many.
        chosen: the graph has chosen objects: rows are `[n, 6 + k]`, and there are never more of them.
    """

    image: str
    type: type[np.floating[Any]]
    rows: str
    maps: str
    classes: int
    chosen: bool


class YoloSeg(PredictsOnly, KernelNetwork):
    """The network: its weights are in the file.

    Args:
        class_names: class 0 is the first real one.
        file: its graph.
        form: how that says what it found.
        map_stride: of the prototypes.
        settings: see there.
    """

    layout: Mapping[str, Axis] = {**KernelNetwork.layout, "origin_xy": "image"}
    output_layers = ()
    only_predicts = "it is an ONNX file of another program, which ONNX Runtime runs as it is"

    def __init__(
        self, class_names: Sequence[str], file: GraphFile, form: Form, map_stride: int, settings: Settings | None = None
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings or Settings()
        self.map_stride = map_stride
        self._file, self._form = file, form
        height, width = file.inputs[form.image].shape[2:]
        self.exact_hw = None if height is None or width is None else (height, width)

    def forward(self, images: Tensor, sizes_hw: Tensor, limits: Limits) -> Outputs:
        """See `Network.forward`; each image goes through the graph on its own.

        Raises:
            ModelFileError: the graph cannot run, or gives something else than it should.
        """
        canvas_hw = self.exact_hw or (images.shape[2], images.shape[3])
        found, kernels, maps, origins = [], [], [], []
        for image, size_hw in zip(images.float().cpu(), sizes_hw, strict=True):
            height, width = size_hw.tolist()
            canvas, origin_xy = letterbox(image[:, :height, :width], canvas_hw)
            rows, prototypes = run(self._file, self._form, canvas)
            finite = is_finite(rows, prototypes)
            one, weights = self._objects(rows, origin_xy, size_hw.cpu(), limits, finite)
            found.append(one)
            kernels.append(weights[one.sources])
            maps.append(prototypes)
            origins.append(origin_xy)
        return {**self.as_outputs(found, kernels, torch.stack(maps)), "origin_xy": torch.stack(origins)}

    def _objects(
        self, rows: Tensor, origin_xy: Tensor, size_hw: Tensor, limits: Limits, finite: Tensor
    ) -> tuple[Found, Tensor]:
        """The detections of one image, and the weights of all rows."""
        classes = self._form.classes
        corner = origin_xy.repeat(2)
        if self._form.chosen:
            best, labels, weights = rows[:, 4], self._labels(rows, limits), rows[:, 6:]
            boxes_xyxy = rows[:, :4] - corner
        else:
            rows = rows.T
            best, labels = rows[:, 4 : 4 + classes].max(1)
            centres, half, weights = rows[:, :2], rows[:, 2:4] / 2, rows[:, 4 + classes :]
            boxes_xyxy = torch.cat([centres - half, centres + half], 1) - corner
        if bool((best < -1e-3).any() | (best > 1 + 1e-3).any()):
            low, high = best.min(), best.max()
            raise ModelFileError(f"{self._file.path}: expected scores from 0 to 1, got {low:.3g} to {high:.3g}")
        scores = torch.zeros(len(rows), classes).scatter(1, labels[:, None], best.clamp(0, 1)[:, None])
        box_iou = None if self._form.chosen else self.settings.box_iou
        one = detections(scores, boxes_xyxy, size_hw, limits, box_iou, finite)
        if self._form.chosen:  # a row more might have been an object, too
            one = one._replace(saturated=one.saturated | (best > limits.score_threshold).all())
        return one, weights

    def _labels(self, rows: Tensor, limits: Limits) -> Tensor:
        """Classes of the rows that the graph has chosen; those below the threshold may say anything."""
        said = rows[:, 5]
        counts = rows[:, 4] > limits.score_threshold
        wrong = counts & ((said < 0) | (said >= self._form.classes) | (said != said.round()))
        if bool(wrong.any()):
            raise ModelFileError(
                f"{self._file.path}: a row says class {said[wrong][0]:g}, but there are {self._form.classes}, "
                f"0 to {self._form.classes - 1}"
            )
        return torch.where(counts, said, 0.0).long()


def letterbox(image: Tensor, canvas_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """An image in the middle of a grey canvas, in whole pixels.

    Args:
        image: `[3, h, w]`, 0..1.
        canvas_hw: at least as large.

    Returns:
        `[1, 3, H, W]`, and where the image begins `(x, y)`.

    Raises:
        ArgumentError: the image is larger.
    """
    (height, width), (most_y, most_x) = image.shape[1:], canvas_hw
    if height > most_y or width > most_x:
        raise ArgumentError(f"this network takes {most_x} x {most_y} pixels, got {width} x {height}")
    top, left = (most_y - height) // 2, (most_x - width) // 2
    canvas = torch.full((1, 3, most_y, most_x), GREY)
    canvas[0, :, top : top + height, left : left + width] = image
    return canvas, torch.tensor([left, top])


def run(file: GraphFile, form: Form, canvas: Tensor) -> tuple[Tensor, Tensor]:
    """What a graph says of a canvas: rows and prototypes, in float32.

    Raises:
        ModelFileError: it cannot run, or has another form.
    """
    said = file.run({form.image: canvas.numpy().astype(form.type)})
    rows, maps = said[form.rows], said[form.maps]
    expected = form._replace(image="", type=np.float32)
    if form_of(file, {form.rows: rows, form.maps: maps}, form.classes) != expected:
        raise ModelFileError(f"{file.path}: {EXPECTED}; got {_shapes(said)}")
    return torch.from_numpy(rows[0].astype(np.float32)), torch.from_numpy(maps[0].astype(np.float32))


def form_of(file: GraphFile, said: Mapping[str, npt.NDArray[Any]], classes: int | None) -> Form:
    """Which output is what, by the shapes of what came out.

    Args:
        file: for messages.
        said: the outputs.
        classes: how many the metadata names; None where it says nothing.

    Raises:
        ModelFileError: it is neither form.
    """
    if len(said) != 2 or any(not isinstance(one, np.ndarray) or one.dtype.kind != "f" for one in said.values()):
        raise ModelFileError(f"{file.path}: {EXPECTED}; got {_shapes(said)}")
    for rows, maps in permutations(said):
        (one, middle, last), kernels = (*said[rows].shape, 0, 0, 0)[:3], (*said[maps].shape, 0, 0)[1]
        if said[rows].ndim != 3 or said[maps].ndim != 4 or one != 1 or said[maps].shape[0] != 1:
            continue
        in_columns, in_rows = middle - 4 - kernels, last == 6 + kernels and middle > 0
        if in_columns == classes or (classes is None and in_columns > 0 and not in_rows):
            return Form("", np.float32, rows, maps, in_columns, False)
        if in_rows and classes is not None:
            return Form("", np.float32, rows, maps, classes, True)
        if in_rows:
            raise ModelFileError(f"{file.path}: its rows say the number of a class: expected 'names' in its metadata")
        if in_columns > 0:
            raise ModelFileError(
                f"{file.path}: its metadata names {classes} classes, but its rows, {list(said[rows].shape)} beside "
                f"{kernels} prototypes, have scores of {in_columns}"
            )
    raise ModelFileError(f"{file.path}: {EXPECTED}; got {_shapes(said)}")


def _shapes(said: Mapping[str, npt.NDArray[Any]]) -> str:
    return ", ".join(
        f"{name:.60} {one.dtype} {list(one.shape)}" if isinstance(one, np.ndarray) else f"{name:.60} (no tensor)"
        for name, one in said.items()
    )


def open_yolo_seg(file: GraphFile) -> tuple[YoloSeg, ModelInfo]:
    """The network in a file, and its description. The graph runs once, to see what it gives.

    Raises:
        ModelFileError: it is something else, or its metadata is not what it should be.
    """
    image, port = _image_input(file)
    task = file.metadata.get("task", "segment")
    if task != "segment":
        raise ModelFileError(f"{file.path}: expected a network for the task 'segment', its metadata says {task[:60]!r}")
    names = class_names(file)
    rules = _input_rules(file, port)
    sides = rules.exact_hw or (PROBE_SIDE * rules.divisor, PROBE_SIDE * rules.divisor)
    canvas = np.full((1, 3, *sides), GREY, TYPES[port.type])
    said = file.run({image: canvas})
    form = form_of(file, said, None if names is None else len(names))
    maps_hw = said[form.maps].shape[2:]
    stride = sides[0] // max(maps_hw[0], 1)
    if stride < 1 or tuple(stride * side for side in maps_hw) != sides:
        raise ModelFileError(
            f"{file.path}: expected prototypes that divide the input, {list(sides)}, evenly; got {list(maps_hw)}"
        )
    names = names or tuple(f"class {k}" for k in range(1, form.classes + 1))
    try:
        info = ModelInfo(
            "yolo_seg",
            names,
            rules,
            score_threshold=THRESHOLD,
            source=_plain_text(file.metadata.get("description", "")) or f"{file.path.name}, an ONNX file",
            licence=_plain_text(file.metadata.get("license", "")),
        )
    except ArgumentError as error:
        raise ModelFileError(f"{file.path}: the names in its metadata: {error}") from error
    form = form._replace(image=image, type=TYPES[port.type])
    return YoloSeg(names, file, form, stride).eval(), info


def _image_input(file: GraphFile) -> tuple[str, Port]:
    """The one input, if an image fits into it."""
    if not file.inputs:
        raise ModelFileError(f"{file.path}: {EXPECTED}; it has no input")
    (name, port), *others = file.inputs.items()
    batch, channels = (*port.shape, None, None)[:2]
    if others or len(port.shape) != 4 or batch not in (1, None) or channels != 3 or port.type not in TYPES:
        came = ", ".join(f"{name:.60} {one}" for name, one in file.inputs.items())
        raise ModelFileError(f"{file.path}: {EXPECTED}; its inputs are {came}")
    if (port.shape[2] is None) != (port.shape[3] is None):
        raise ModelFileError(f"{file.path}: expected an input of one size or of any, got {port}")
    return name, port


def _input_rules(file: GraphFile, port: Port) -> InputRules:
    """A graph of one size gets a letterbox of that size; one of any size what the metadata says, else the usual."""
    height, width = port.shape[2:]
    by = ", by 'imgsz' and 'stride' in its metadata" if height is None else ""
    try:
        if height is not None and width is not None:
            return InputRules((0, 0, 0), (1, 1, 1), exact_hw=(height, width))
        side = max(_numbers(file, "imgsz", USUAL_SIDE))
        stride = max(_numbers(file, "stride", 32))
        divisor = math.lcm(32, stride)
        return InputRules((0, 0, 0), (1, 1, 1), shortest_side=side, longest_side=side, divisor=divisor)
    except ArgumentError as error:
        raise ModelFileError(f"{file.path}: the size of its input{by}: {error}") from error


def class_names(file: GraphFile) -> tuple[str, ...] | None:
    """The classes that the metadata names, None where it says nothing of them.

    Raises:
        ModelFileError: it says something else than names.
    """
    if "names" not in file.metadata:
        return None
    said = _literal(file, "names")
    if isinstance(said, dict):
        if set(said) != set(range(len(said))):
            first = ", ".join(f"{one!r:.30}" for one in list(said)[:5])
            raise ModelFileError(
                f"{file.path}: its metadata numbers the names of classes {first}...: expected 0 to {len(said) - 1}"
            )
        said = [said[k] for k in range(len(said))]
    if not isinstance(said, list | tuple) or not said or not all(isinstance(one, str) for one in said):
        raise ModelFileError(
            f"{file.path}: expected 'names' in its metadata to be like {{0: 'cat', 1: 'dog'}}, got {said!r:.80}"
        )
    return tuple(said)


def _numbers(file: GraphFile, key: str, usual: int) -> tuple[int, ...]:
    """A number in the metadata, or several."""
    if key not in file.metadata:
        return (usual,)
    said = _literal(file, key)
    several = said if isinstance(said, list | tuple) and said else [said]
    if not all(type(one) is int and one > 0 for one in several):
        raise ModelFileError(f"{file.path}: expected whole numbers as '{key}' in its metadata, got {said!r:.80}")
    return tuple(several)


def _literal(file: GraphFile, key: str) -> Any:
    """A value that is written as Python would write it; nothing in it is ever run."""
    text = file.metadata[key]
    try:
        if len(text) > LONGEST_TEXT:
            raise ValueError
        value = ast.literal_eval(text.strip())
        repr(value)  # a number of thousands of digits cannot be shown
        return value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelFileError(f"{file.path}: '{key}' in its metadata is no literal: {text[:60]!r}") from error


def _plain_text(text: str) -> str:
    """On one line, without what drives a terminal."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]+", " ", text)[:500].strip()
