"""YOLO files through our decoding, against masks that are half-planes in boxes, by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from yolo_files import STRIDE, Known, Made, ramps, save, usual_metadata, write, write_painted

import halfpixel
from halfpixel.engine.backends.exported_files import ForeignBackend
from halfpixel.engine.load import load
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.zoo.foreign import yolo_seg
from halfpixel.zoo.foreign.graph_file import Arrays, GraphFile, Port

CAT = Known((20.25, 10.5, 60.75, 40.25), (0.9, 0.1, 0.0), (3.1, -6.47, 0.33))
DOG = Known((62.5, 20.0, 88.0, 55.0), (0.05, 0.6, 0.3), (0.0, 0.0, 9.0))
AGAIN = Known((21.0, 10.0, 61.0, 41.0), (0.8, 0.0, 0.0), (0.0, 0.0, 9.0))
OTHER_CLASS = Known((20.0, 10.0, 61.0, 41.0), (0.0, 0.0, 0.7), (0.0, 0.0, -9.0))
WEAK = Known((5.0, 5.0, 15.0, 15.0), (0.2, 0.1, 0.0), (0.0, 0.0, 9.0))
OBJECTS = (WEAK, AGAIN, DOG, CAT, OTHER_CLASS)


def picture(size_hw: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def placed(size_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """By what an image is enlarged, and where it then begins in the canvas; both (x, y)."""
    factor = min(canvas_hw[0] / size_hw[0], canvas_hw[1] / size_hw[1])
    new = np.array([round(size_hw[1] * factor), round(size_hw[0] * factor)])
    return new / np.array(size_hw[::-1]), (np.array(canvas_hw[::-1]) - new) // 2


def expected_box(one: Known, size_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> np.ndarray:
    factor, origin = placed(size_hw, canvas_hw)
    corners = (np.array(one.box_xyxy).reshape(2, 2) - origin) / factor
    return corners.clip(0, np.array(size_hw[::-1])).ravel()


def expected_mask(one: Known, size_hw: tuple[int, int], canvas_hw: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie in the box, and on the right side of the line."""
    factor, origin = placed(size_hw, canvas_hw)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]] + 0.5
    x, y = x * factor[0] + origin[0], y * factor[1] + origin[1]
    x0, y0, x1, y1 = one.box_xyxy
    low_x, low_y = x.clip(STRIDE / 2, canvas_hw[1] - STRIDE / 2), y.clip(STRIDE / 2, canvas_hw[0] - STRIDE / 2)
    logits = one.weights[0] * low_x / 32 + one.weights[1] * low_y / 32 + one.weights[2]
    return (x >= x0) & (x < x1) & (y >= y0) & (y < y1) & (logits > 0)


def assert_found(found: Instances, expected: Sequence[Known], made: Made, size_hw: tuple[int, int]) -> None:
    exact = 1e-2 if made.half else 1e-5
    assert found.size_hw == size_hw
    assert found.labels.tolist() == [int(np.argmax(one.scores)) for one in expected]
    assert found.scores.numpy() == pytest.approx([max(one.scores) for one in expected], abs=exact)
    boxes = np.stack([expected_box(one, size_hw, made.canvas_hw) for one in expected])
    assert found.boxes_xyxy.numpy() == pytest.approx(boxes, abs=20 * exact)
    assert found.masks is not None
    for mask, one in zip(found.masks.dense().numpy(), expected, strict=True):
        truth = expected_mask(one, size_hw, made.canvas_hw)
        assert (mask ^ truth).sum() <= 3


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size_hw", [(64, 96), (50, 96), (200, 131), (33, 20)])
@pytest.mark.parametrize("chosen", [False, True])
def test_objects_are_where_they_are(tmp_path: Path, chosen: bool, size_hw: tuple[int, int], half: bool) -> None:
    made = Made(OBJECTS, chosen=chosen, half=half)
    predictor = load(write(tmp_path / "mine.onnx", made))
    assert (predictor.backend.name, predictor.backend.precision) == ("onnx", "fp16" if half else "fp32")
    found = predictor.predict(picture(size_hw))
    # of two that overlap one stays, where the graph has not chosen: not where the classes differ
    assert_found(found, [CAT, *[AGAIN] * chosen, OTHER_CLASS, DOG], made, size_hw)
    assert not found.saturated


@pytest.mark.parametrize("names", [["one"], [f"class {k}" for k in range(91)]])
@pytest.mark.parametrize("chosen", [False, True])
def test_any_number_of_classes_and_weights(tmp_path: Path, names: list[str], chosen: bool) -> None:
    scores = np.zeros(len(names))
    scores[-1] = 0.9
    made = Made([replace(CAT, scores=tuple(scores))], names=names, chosen=chosen)
    predictor = load(write(tmp_path / "mine.onnx", made))
    assert predictor.class_names == tuple(names)
    assert_found(predictor.predict(picture((64, 96))), made.objects, made, (64, 96))


@pytest.mark.parametrize("chosen", [False, True])
def test_any_size_of_image(tmp_path: Path, chosen: bool) -> None:
    """A graph for any size gets the smallest canvas in multiples of 32, the longer side as its metadata says."""
    made = Made([CAT], canvas_hw=(64, 96), chosen=chosen, dynamic=True)
    predictor = load(write(tmp_path / "mine.onnx", made))
    assert predictor.info.input.longest_side == 96
    for size_hw, canvas_hw in (
        ((64, 96), (64, 96)),
        ((100, 192), (64, 96)),
        ((80, 60), (96, 96)),
        ((30, 48), (64, 96)),
    ):
        assert_found(predictor.predict(picture(size_hw)), [CAT], replace(made, canvas_hw=canvas_hw), size_hw)


def test_what_the_graph_sees(tmp_path: Path) -> None:
    """Red, green, blue in 0..1, in the middle of grey 114, resized between the centres of pixels."""
    seen = []

    def run(inputs: Arrays) -> Arrays:
        seen.append(inputs["images"][0])
        return {"rows": Made([CAT]).table(), "maps": ramps((64, 96))}

    ports = {"images": Port((1, 3, 64, 96), "tensor(float)")}
    network, info = yolo_seg.open_yolo_seg(GraphFile(tmp_path / "x", ports, {}, {"names": "['a', 'b', 'c']"}, run))
    image = picture((25, 48))
    backend = ForeignBackend(network, "onnx", "fp32")
    Predictor(network, info, torch.device("cpu"), backend=backend).predict(image)
    canvas = seen[-1]
    assert canvas.shape == (3, 64, 96)
    assert (canvas[:, :7] == np.float32(114 / 255)).all()
    assert (canvas[:, 57:] == np.float32(114 / 255)).all()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    resized = torch.nn.functional.interpolate(pixels, size=(50, 96), mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(canvas[:, 7:57], resized.numpy(), atol=1e-6)


@pytest.mark.parametrize("size_hw", [(64, 96), (123, 77), (40, 300)])
def test_masks_come_back_to_what_is_in_the_image(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    image = np.full((*size_hw, 3), 114, np.uint8)
    image[size_hw[0] // 4 : size_hw[0] // 2, size_hw[1] // 3 : size_hw[1] // 3 * 2] = (255, 0, 0)
    found = load(write_painted(tmp_path / "mine.onnx", (160, 160))).predict(image)
    assert found.boxes_xyxy[0].tolist() == pytest.approx([0, 0, size_hw[1], size_hw[0]], abs=1e-4)
    assert found.masks is not None
    box = found.masks.boxes_xyxy()[0]
    truth = torch.tensor([size_hw[1] // 3, size_hw[0] // 4, size_hw[1] // 3 * 2, size_hw[0] // 2]).float()
    a_cell = STRIDE * max(max(size_hw) / 160, 1)
    assert (box - truth).abs().max() <= 0.5 * a_cell + 1
    assert (box - truth).reshape(2, 2).sum(0).abs().max() <= 2  # no shift


def test_full_rows_are_a_saturation(tmp_path: Path) -> None:
    several = [replace(DOG, box_xyxy=(x, 20.0, x + 4, 30.0)) for x in np.linspace(2, 90, 12).tolist()]
    full = load(write(tmp_path / "full.onnx", Made(several, chosen=True, rows=12)))
    assert full.predict(picture((64, 96))).saturated
    assert len(full.predict(picture((64, 96)))) == 12
    assert not full.predict(picture((64, 96)), threshold=0.7).saturated
    room = load(write(tmp_path / "room.onnx", Made(several, chosen=True, rows=13)))
    assert not room.predict(picture((64, 96))).saturated
    raw = load(write(tmp_path / "raw.onnx", Made(several)))
    assert not raw.predict(picture((64, 96))).saturated
    limited = raw.predict(picture((64, 96)), limit=5)
    assert (len(limited), limited.saturated, limited.candidates) == (5, True, {"detections": 12})


def test_tiles(tmp_path: Path) -> None:
    """With a scale instead of sides, a large image goes through in tiles, as with every other model."""
    file = write_painted(tmp_path / "mine.onnx", (160, 160))
    predictor = load(file)
    rules = replace(predictor.info.input, scale=1.0, longest_side=160)
    tiled = Predictor(
        predictor.model, replace(predictor.info, input=rules), predictor.device, backend=predictor.backend
    )
    image = np.full((200, 420, 3), 114, np.uint8)
    image[60:100, 250:290] = (255, 0, 0)
    found = tiled.predict(image)
    assert found.masks is not None
    together = found.masks.dense().any(0)
    truth = torch.zeros(200, 420, dtype=torch.bool)
    truth[60:100, 250:290] = True
    assert (together & truth).sum() > 0.9 * (together | truth).sum() > 0


def test_it_says_what_it_is(tmp_path: Path) -> None:
    predictor = load(write(tmp_path / "mine.onnx", Made(OBJECTS)))
    info = predictor.info
    assert (info.licence, info.source, info.score_threshold) == ("CC0-1.0", "a test of halfpixel's", 0.25)
    assert info.input == InputRules((0, 0, 0), (1, 1, 1), exact_hw=(64, 96))
    assert "yolo_seg, classes: cat, dog, owl" in repr(predictor)


def test_without_metadata(tmp_path: Path) -> None:
    """Rows of scores tell how many classes there are; rows that say the number of a class do not."""
    found = load(write(tmp_path / "mine.onnx", Made(OBJECTS, metadata={}))).predict(picture((64, 96)))
    assert found.class_names == ("class 1", "class 2", "class 3")
    with pytest.raises(ModelFileError, match=r"mine\.onnx: .*expected .names. in its metadata"):
        load(write(tmp_path / "mine.onnx", Made(OBJECTS, chosen=True, metadata={})))


def test_what_only_our_own_models_can(tmp_path: Path) -> None:
    predictor = load(write(tmp_path / "mine.onnx", Made(OBJECTS)))
    for wanted in (
        lambda: predictor.with_classes(["a"]),
        lambda: predictor.save(tmp_path / "mine.safetensors"),
        lambda: halfpixel.open_backend(predictor, "openvino"),
        lambda: halfpixel.open_backend(predictor, "torch"),
        lambda: predictor.model.losses(None, []),  # type: ignore[arg-type]
        lambda: predictor.model.set_classes(3),
    ):
        with pytest.raises(ArgumentError, match=r"it cannot .*: it is an ONNX file of another program"):
            wanted()
    with pytest.raises(ArgumentError, match="96 x 64 pixels, and nothing smaller"):
        predictor.fast()
    assert load(write(tmp_path / "any.onnx", Made([CAT], dynamic=True))).fast().info.input.longest_side == 64


# Files that are something else -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("{0: 'cat', 1: 'dog'}", "names 2 classes, but its rows, .* beside 3 prototypes, have scores of 3"),
        ("{0: 'cat', 1: 'dog', 3: 'owl'}", "numbers the names of classes 0, 1, 3"),
        ("{'0': 'cat', '1': 'dog', '2': 'owl'}", "numbers the names of classes '0', '1', '2'"),
        ("{0: 'cat', 1: 'dog', 2: 3}", "expected 'names'"),
        ("{}", "expected 'names'"),
        ("'cat'", "expected 'names'"),
        ("{0: 'cat', 1: 'cat', 2: 'owl'}", "'cat' is there twice"),
        ("{0: 'cat', 1: '', 2: 'owl'}", "class_names"),
        ("{0: 'cat', 1: '\\x1b[31m', 2: 'owl'}", "class_names"),
        ("__import__('os').mkdir('gone')", "is no literal"),
        ("{0: open('/etc/passwd').read()}", "is no literal"),
        ("(" * 5000, "is no literal"),
        ("-" * 200_000 + "1", "is no literal"),
        ("", "is no literal"),
        ("{[]: 1}", "is no literal"),
        ("{0x" + "f" * 5000 + ": 'cat'}", "is no literal"),
        ("{'" + "k" * 500 + "': 'cat'}", "numbers the names of classes 'k{29}\\.\\.\\."),
    ],
)
def test_forged_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str, why: str) -> None:
    monkeypatch.chdir(tmp_path)
    made = Made(OBJECTS)
    file = write(tmp_path / "mine.onnx", replace(made, metadata={**usual_metadata(made), "names": names}))
    with pytest.raises(ModelFileError, match=why) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("task", "detect", "task 'segment', its metadata says 'detect'"),
        ("imgsz", "'large'", "expected whole numbers as .imgsz."),
        ("imgsz", "[0, 640]", "expected whole numbers as .imgsz."),
        ("imgsz", "[99999999, 640]", "size of its input"),
        ("stride", "7777", "size of its input, by 'imgsz' and 'stride' in its metadata"),
        ("stride", str(10**30), "by 'imgsz' and 'stride'"),
        ("stride", "0x" + "f" * 5000, "'stride' in its metadata is no literal"),
        ("imgsz", str(10**30), "by 'imgsz' and 'stride'"),
    ],
)
def test_forged_metadata(tmp_path: Path, key: str, value: str, why: str) -> None:
    made = Made(OBJECTS, dynamic=True)
    with pytest.raises(ModelFileError, match=why):
        load(write(tmp_path / "mine.onnx", replace(made, metadata={**usual_metadata(made), key: value})))


def passed_on(
    path: Path, inputs: dict[str, Any], outputs: dict[str, tuple[int, ...]], type_: int = TensorProto.FLOAT
) -> Path:
    """A graph that does nothing with what it is given."""
    arrays = {
        f"c{k}": np.zeros(shape, helper.tensor_dtype_to_np_dtype(type_)) for k, shape in enumerate(outputs.values())
    }
    nodes = [helper.make_node("Identity", [f"c{k}"], [name]) for k, name in enumerate(outputs)]
    nodes += [helper.make_node("Identity", [name], [f"unused {name}"]) for name in inputs]
    ports = {name: (type_, shape) for name, shape in outputs.items()}
    return save(path, nodes, arrays, inputs, ports, {"names": "{0: 'a', 1: 'b'}"})


IMAGE = {"images": (TensorProto.FLOAT, (1, 3, 64, 64))}
ROWS, MAPS = (1, 4 + 2 + 8, 84), (1, 8, 16, 16)


@pytest.mark.parametrize(
    ("inputs", "outputs", "came"),
    [
        ({"x": (TensorProto.FLOAT, (1, 64, 64, 3))}, {"a": ROWS, "b": MAPS}, r"inputs are x tensor\(float\) \[1, 64,"),
        ({"x": (TensorProto.FLOAT, (2, 3, 64, 64))}, {"a": ROWS, "b": MAPS}, "inputs are x"),
        ({"x": (TensorProto.UINT8, (1, 3, 64, 64))}, {"a": ROWS, "b": MAPS}, r"inputs are x tensor\(uint8\)"),
        ({"x": (TensorProto.FLOAT, (1, 10))}, {"a": ROWS, "b": MAPS}, "inputs are x"),
        ({**IMAGE, "y": (TensorProto.FLOAT, (1,))}, {"a": ROWS, "b": MAPS}, r"y tensor\(float\) \[1\]"),
        (IMAGE, {"a": (1, 6, 84)}, r"got a float32 \[1, 6, 84\]"),
        (IMAGE, {"a": (1, 1000)}, r"got a float32 \[1, 1000\]"),
        (IMAGE, {"a": ROWS, "b": MAPS, "c": MAPS}, "got a float32 .*c float32"),
        (IMAGE, {"a": (1, 5, 84), "b": MAPS}, r"got a float32 \[1, 5, 84\], b float32 \[1, 8, 16, 16\]"),
        (IMAGE, {"a": (1, 84, 6), "b": MAPS}, "names 2 classes, but its rows"),
        (IMAGE, {"a": ROWS, "b": (1, 8, 16, 15)}, r"divide the input, \[64, 64\], evenly; got \[16, 15\]"),
        (IMAGE, {"a": ROWS, "b": (1, 8, 0, 0)}, "divide the input"),
        (IMAGE, {"a": (2, 14, 84), "b": MAPS}, r"got a float32 \[2, 14, 84\]"),
    ],
)
def test_another_network(
    tmp_path: Path, inputs: dict[str, Any], outputs: dict[str, tuple[int, ...]], came: str
) -> None:
    file = passed_on(tmp_path / "other.onnx", inputs, outputs)
    with pytest.raises(ModelFileError, match=came) as caught:
        load(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="got a int64"):
        load(passed_on(tmp_path / "other.onnx", IMAGE, {"a": ROWS, "b": MAPS}, TensorProto.INT64))


def test_no_input(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="it has no input"):
        load(passed_on(tmp_path / "other.onnx", {}, {"a": ROWS, "b": MAPS}))


def test_what_is_no_tensor(tmp_path: Path) -> None:
    def run(inputs: Arrays) -> Arrays:
        return {"rows": np.zeros(ROWS, np.float32), "maps": [np.zeros(MAPS, np.float32)]}  # type: ignore[dict-item]

    ports = {"images": Port((1, 3, 64, 64), "tensor(float)")}
    with pytest.raises(ModelFileError, match=r"maps \(no tensor\)"):
        yolo_seg.open_yolo_seg(GraphFile(tmp_path / "x", ports, {}, {}, run))


def test_a_graph_that_says_something_else_later(tmp_path: Path) -> None:
    """What it gave for the first image is no promise."""
    rows = iter([Made([CAT]).table(), Made([replace(CAT, scores=(0.9,))], names=["cat"]).table()])

    def run(inputs: Arrays) -> Arrays:
        return {"rows": next(rows), "maps": ramps((64, 96))}

    ports = {"images": Port((1, 3, 64, 96), "tensor(float)")}
    network, info = yolo_seg.open_yolo_seg(GraphFile(tmp_path / "x", ports, {}, {}, run))
    backend = ForeignBackend(network, "onnx", "fp32")
    with pytest.raises(ModelFileError, match="names 3 classes, but its rows"):
        Predictor(network, info, torch.device("cpu"), backend=backend).predict(picture((64, 96)))


def test_not_onnx_at_all(tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    file.write_bytes(b"no graph")
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot open it"):
        load(file)


def changed(tmp_path: Path, made: Made, row: int, value: float) -> Predictor:
    """A file whose first object says something else in one place."""
    file = write(tmp_path / "mine.onnx", made)
    model = onnx.load(file)
    table = next(one for one in model.graph.initializer if one.name == "table")
    values = onnx.numpy_helper.to_array(table).copy()
    values[0, 0 if made.chosen else row, row if made.chosen else 0] = value
    table.CopyFrom(onnx.numpy_helper.from_array(values, "table"))
    onnx.save(model, file)
    return load(file)


@pytest.mark.parametrize(
    ("chosen", "row", "value", "why"),
    [
        (False, 4, 7.5, "scores from 0 to 1, got 0 to 7.5"),
        (False, 4, np.nan, "not finite"),
        (False, 2, np.inf, "not finite"),
        (True, 4, -3.0, "scores from 0 to 1, got -3 to"),
        (True, 5, 3.0, "class 3, but there are 3, 0 to 2"),
        (True, 5, -1.0, "class -1"),
        (True, 5, 0.5, "class 0.5"),
        (True, 8, np.nan, "not finite"),
    ],
)
def test_rows_that_make_no_sense(tmp_path: Path, chosen: bool, row: int, value: float, why: str) -> None:
    with pytest.raises(ModelFileError, match=why):
        changed(tmp_path, Made([CAT, DOG], chosen=chosen), row, value).predict(picture((64, 96)))
