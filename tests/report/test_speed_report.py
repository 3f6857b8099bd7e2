"""Timing configurations of a network, with a clock that only the networks move."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from halfpixel import load
from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.evaluation.detection.object_matching import DetectionCounts
from halfpixel.models.mask_rcnn import mask_rcnn_lite
from halfpixel.report import speed
from halfpixel.report.machine import describe_machine
from halfpixel.report.speed import EXACT, ON_THE_CPU, Configuration, LeftOut, Measured, Quartiles
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SIZE_HW = (20, 100)
CPU = torch.device("cpu")
OTHER = Configuration("onnx", "fp32")
IMAGES = [np.full((*SIZE_HW, 3), k, np.uint8) for k in range(2)]


def squares(*lefts: int) -> Instances:
    crops = tuple(torch.ones(10, 10, dtype=torch.bool) for _ in lefts)
    masks = CropMasks(crops, torch.tensor([[left, 5] for left in lefts]).reshape(-1, 2), SIZE_HW)
    labels = torch.zeros(len(lefts), dtype=torch.int64)
    return Instances(SIZE_HW, masks.boxes_xyxy(), torch.ones(len(lefts)), labels, ("nucleus",), masks)


class Clock:
    """What `time.perf_counter` says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[tuple[str, int]] = []


@dataclass
class Slow:
    """Takes so long for each image, much longer when it first sees one, and finds what it is told to."""

    name: str
    clock: Clock
    seconds: tuple[float, ...]
    objects: tuple[Instances, ...]

    def predict(self, image: np.ndarray) -> Instances:
        k = int(image[0, 0, 0])
        first = (self.name, k) not in self.clock.order
        self.clock.order.append((self.name, k))
        self.clock.now += 1000.0 if first else self.seconds[k]
        return self.objects[k]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


def test_seconds_ratios_and_agreement_by_hand(clock: Clock) -> None:
    exact = Slow("exact", clock, (4.0, 4.0), (squares(0, 20, 40), squares(60)))
    other = Slow("other", clock, (2.0, 1.0), (squares(0, 22, 40, 80), squares(60)))
    told: list[Configuration] = []
    first, second = speed.measure({EXACT: exact, OTHER: other}, IMAGES, 2, told.append)  # type: ignore[dict-item]

    assert (first.configuration, second.configuration) == (EXACT, OTHER)
    assert first.times_as_fast == (1, 1, 1)
    assert second.seconds.tolist() == [[2, 2], [1, 1]]  # the first look is not counted
    assert (first.seconds_an_image, second.seconds_an_image) == (4, 1.5)
    assert second.times_as_fast == (3, 2, 4)  # of 2, 2, 4, 4
    assert (first.objects, first.same_objects, first.agrees) == (4, 1, True)
    # the one moved by 2 of 10 pixels has an IoU of 2/3, the one at 80 nobody else found
    assert (second.objects, second.matching.tp, second.matching.fp, second.matching.fn) == (5, 3, 2, 1)
    assert second.same_objects == pytest.approx(6 / 9)
    assert second.count_differences == (1, 0)
    assert not second.agrees
    assert second.to_json()["same_objects"] == pytest.approx(6 / 9)
    assert len(told) == 2 * 2 * 3
    # who went last goes first the next time
    names = [name for name, _ in clock.order]
    assert names == ["exact", "other", "other", "exact", "exact", "other"] * 2


def test_nothing_to_time_is_refused() -> None:
    for images, rounds in (([], 1), (IMAGES, 0)):
        with pytest.raises(ArgumentError, match="at least one image and one round"):
            speed.measure({}, images, rounds)


def measured(config: Configuration, times: float, tp: int, fp: int, fn: int, off: int = 0) -> Measured:
    matching = DetectionCounts(0.9, tp, fp, fn, float(tp))
    return Measured(config, np.ones((1, 1)), Quartiles(times, times, times), tp + fp, matching, (off,))


def test_the_fastest_is_one_that_agrees() -> None:
    exact = measured(EXACT, 1.0, 100, 0, 0)
    good, poor = measured(OTHER, 2.0, 98, 2, 2), measured(Configuration("openvino", "int8"), 5.0, 89, 11, 11)
    assert speed.fastest([exact, good, poor]) is good
    assert speed.fastest([exact, poor]) is exact
    assert speed.fastest([exact, measured(OTHER, 1.02, 100, 0, 0)]) is exact  # not worth the trouble
    miscounts = measured(OTHER, 2.0, 97, 6, 3, off=3)  # 95.6% are the same, but 3 more of 100
    assert miscounts.same_objects > speed.SAME_SHARE
    assert speed.fastest([exact, miscounts]) is exact
    assert measured(OTHER, 2.0, 10, 1, 0, off=1).agrees  # one of few is not held against it
    assert measured(OTHER, 2.0, 0, 0, 0).agrees


def test_quartiles() -> None:
    assert Quartiles.of([5, 1, 4, 2, 3]) == (3, 2, 4)
    assert Quartiles.of([[7.0]]) == (7, 7, 7)


def test_what_is_missing_is_left_out_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    predictor, really, asked = load(), speed.open_configuration, []

    def some(predictor: Predictor, config: Configuration, calibration: object, folder: Path) -> Predictor:
        asked.append((config, calibration, folder))
        if config.backend == "onnx":
            raise MissingDependencyError('ONNX Runtime is not installed: pip install "halfpixel[onnx]"')
        if config.precision == "int8":
            raise RuntimeError("\ncannot quantise\nlong story")
        return really(predictor, EXACT, (), folder)

    monkeypatch.setattr(speed, "open_configuration", some)
    monkeypatch.setattr(speed, "native_precision", lambda device: "fp32")
    configs = speed.all_configurations(predictor)
    assert configs == (EXACT, *ON_THE_CPU, Configuration("torch", "fp32", fast=True))
    opened, left_out = speed.open_configurations(predictor, configs, (), tmp_path)
    assert list(opened) == [EXACT, Configuration("openvino", "fp32"), Configuration("torch", "fp32", fast=True)]
    onnx, int8 = left_out
    assert onnx == LeftOut(
        Configuration("onnx", "fp32"), 'ONNX Runtime is not installed: pip install "halfpixel[onnx]"'
    )
    assert (int8.configuration.precision, "`calibrate`" in int8.reason) == ("int8", True)

    monkeypatch.setattr(speed, "native_precision", lambda device: "bf16")
    configs, told = speed.all_configurations(predictor), list[Configuration]()
    opened, left_out = speed.open_configurations(predictor, configs, [Path("a.png")], tmp_path, told.append)
    bf16 = [Configuration("torch", "bf16"), Configuration("torch", "bf16", fast=True)]
    assert list(opened) == [EXACT, bf16[0], Configuration("openvino", "fp32"), bf16[1]]
    assert left_out[1] == LeftOut(Configuration("openvino", "int8"), "cannot quantise")
    assert told == [EXACT, bf16[0], *ON_THE_CPU, bf16[1]]
    assert asked[-2] == (Configuration("openvino", "int8"), [Path("a.png")], tmp_path)

    predictor.device = torch.device("cuda")
    monkeypatch.setattr(speed, "open_configuration", lambda predictor, *_: predictor)  # there may be no GPU here
    opened, left_out = speed.open_configurations(predictor, configs, [Path("a.png")], tmp_path)
    assert list(opened) == [EXACT, *bf16]
    assert [one.configuration for one in left_out] == list(ON_THE_CPU)


def test_each_way_has_the_precision_it_says(tmp_path: Path) -> None:
    predictor = load()
    for precision in ("fp32", "bf16"):
        backend = speed.open_configuration(predictor, Configuration("torch", precision), (), tmp_path).backend  # type: ignore[arg-type]
        assert isinstance(backend, TorchBackend)
        assert backend.precision == precision
    fast = speed.open_configuration(predictor, Configuration("torch", "fp32", fast=True), (), tmp_path)
    assert fast.backend.precision == "fp32"
    assert fast.info.input.scale == pytest.approx(2 / 3 * predictor.info.input.scale)
    assert Configuration("torch", "bf16", fast=True).options == "--backend torch --precision bf16 --fast"
    assert Configuration("openvino", "bf16").options == "--backend openvino --precision bf16"
    assert "halfpixel export MODEL --to openvino --int8" in Configuration("openvino", "int8").options


def test_an_exported_file_has_no_other_ways() -> None:
    with torch.device("meta"):
        network = mask_rcnn_lite(("nucleus",))
    network.only_predicts = "the file was exported"
    predictor = load()
    predictor.model = network
    with pytest.raises(ArgumentError, match="it cannot be timed in several configurations: the file was exported"):
        speed.all_configurations(predictor)


def test_int8_is_exported_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    predictor, exported = load(), []

    def export(given: Predictor, path: Path, to: str, int8_images: list[Path], least_agreement: float) -> None:
        assert given is predictor
        exported.append((to, int8_images))
        path.write_text("a network")

    backend = TorchBackend(predictor.model, CPU, "fp32")
    monkeypatch.setattr("halfpixel.engine.export.exporter.export", export)
    monkeypatch.setattr("halfpixel.engine.backends.exported_files.open_file", lambda path: backend)
    for _ in range(2):
        opened = speed.open_configuration(predictor, Configuration("openvino", "int8"), [Path("a.png")], tmp_path)
        assert opened.backend is backend
    assert exported == [("openvino", [Path("a.png")])]


@pytest.mark.parametrize(
    ("rules", "shown", "size_hw"),
    [
        (InputRules(scale=3.0, longest_side=4200), "drawn cells", (520, 696)),
        (InputRules(scale=2.0, longest_side=348), "drawn cells", (130, 174)),  # what the network takes at once
        (InputRules(), "a photograph of a cup of coffee", (400, 600)),
    ],
)
def test_an_example_suits_the_model(rules: InputRules, shown: str, size_hw: tuple[int, int]) -> None:
    name, image = speed.example_image(rules)
    assert name == shown
    assert (image.shape, image.dtype) == ((*size_hw, 3), np.uint8)
    assert image.std() > 10  # there is something on it


def test_the_machine_says_what_it_is() -> None:
    facts = describe_machine(torch.device("cpu"))
    assert facts["torch"] == torch.__version__
    assert int(facts["cores"]) >= 1
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts["processor"]
    assert "accelerator" not in facts
    assert describe_machine(torch.device("mps"))["accelerator"] == "mps"
