"""The inference benchmark, on a network whose images are small."""

import importlib
import json
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from parity.compare import Comparison, lively_torchvision
from skimage import data
from torchvision.models.detection import MaskRCNN

from halfpixel.engine.backends.eager import TorchBackend
from halfpixel.engine.load import from_torchvision
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.detection.object_matching import DetectionCounts
from halfpixel.report.machine import describe_machine
from halfpixel.report.speed import EXACT, Configuration

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def inference() -> ModuleType:
    """The benchmark, which finds others beside itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("inference")


PHOTOGRAPH = np.asarray(data.astronaut())[::4, ::4].copy()


@pytest.fixture(scope="module")
def module() -> MaskRCNN:
    few = {"rpn_pre_nms_top_n_test": 300, "rpn_post_nms_top_n_test": 60, "box_detections_per_img": 12}
    image = torch.tensor(PHOTOGRAPH).permute(2, 0, 1).float() / 255
    return lively_torchvision("v1", 4, image, seed=0, min_size=96, max_size=160, box_score_thresh=0.1, **few)


@pytest.fixture(scope="module")
def predictors(module: MaskRCNN) -> dict[Configuration, Predictor]:
    predictor = from_torchvision(module)
    cpu = Predictor(predictor.model, predictor.info, torch.device("cpu"))
    return {EXACT: cpu.on(TorchBackend(cpu.model, cpu.device, "fp32"))}


def test_ours_finds_what_torchvision_finds(
    inference: ModuleType, module: MaskRCNN, predictors: dict[Configuration, Predictor]
) -> None:
    peers = {inference.BASE: inference.Torchvision(module), "autocast": inference.Torchvision(module, True, True)}
    base, autocast, ours = inference.end_to_end(peers, predictors, [PHOTOGRAPH, PHOTOGRAPH[:, ::-1].copy()], 2)
    assert [base["name"], autocast["name"], ours["name"]] == [inference.BASE, "autocast", "halfpixel torch fp32"]
    assert base["objects"] > 4
    assert base["same_objects"] == 1
    assert base["times_as_fast"] == {"median": 1, "low": 1, "high": 1}
    assert ours["objects"] == base["objects"]
    assert ours["same_objects"] > 0.95
    parity = ours["parity"]
    assert parity["faults"] == []
    assert parity["theirs"] == parity["ours"] == base["objects"]
    assert parity["theirs"] - parity["paired"] <= len(parity["explained"])
    assert parity["worst_box_px"] < 0.02
    assert "parity" not in autocast
    assert np.shape(ours["seconds"]) == (2, 2)
    assert (np.array(ours["seconds"]) > 0).all()
    assert not next(module.parameters()).is_contiguous(memory_format=torch.channels_last)  # a copy was brought to it


def test_stages_add_up(inference: ModuleType, module: MaskRCNN, predictors: dict[Configuration, Predictor]) -> None:
    stages = importlib.import_module("stages")
    theirs = inference.Torchvision(module)
    start = time.perf_counter()
    rows = stages.stage_seconds(theirs, predictors, [PHOTOGRAPH], 1)
    passed = time.perf_counter() - start
    assert [row["stage"] for row in rows] == list(stages.STAGES)
    for name in (inference.BASE, "halfpixel torch fp32"):
        seconds = {row["stage"]: row[name] for row in rows}
        assert all(value > 0 for value in seconds.values()), seconds
        assert sum(seconds.values()) < passed
    assert "forward" not in vars(module)  # nobody watches any more
    assert "find" not in vars(theirs)


def test_time_inside_a_watched_method_counts_once(inference: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = importlib.import_module("stages")
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Network:
        def inner(self) -> None:
            now[0] += 3

        def outer(self) -> None:
            now[0] += 1
            self.inner()
            self.inner()
            now[0] += 1

    network, watch = Network(), stages.Stopwatch()
    with watch.on([(network, "inner", "backbone"), (network, "outer", "everything else")]):
        network.outer()
    network.outer()
    assert {name: took for name, took in watch.seconds.items() if took} == {"backbone": 6, "everything else": 2}


def test_agreement_in_words(inference: ModuleType) -> None:
    counts = [DetectionCounts(0.9, 8, 1, 1, 8.0), DetectionCounts(0.9, 10, 1, 1, 10.0)]
    row = inference.Agreement(counts).to_json()
    assert (row["objects"], row["same_objects"]) == (20, pytest.approx(0.9))
    assert inference.agreement(row) == "90.0% the same"
    both = [Comparison(9, 9, 8, 0.001, 1e-5, explained=["close"] * 2), Comparison(11, 11, 11, 0.004, faults=["mask"])]
    told = inference.agreement(inference.Agreement(counts, both).to_json())
    assert told == "19 of 20 paired, boxes within 0.0040 px; 2 close calls, 1 faults"
    assert inference.agreement(inference.Agreement([DetectionCounts(0.9, 0, 0, 0, 0.0)]).to_json()) == "nothing found"


def test_images_to_calibrate_on_are_not_timed(
    inference: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [np.full((8, 8, 3), k, np.uint8) for k in range(10)]
    paths = inference.save_all(pictures, tmp_path / "some")
    timed, calibration, whose = inference.photographs(tmp_path / "some", 3, tmp_path)
    assert timed == [paths[0], paths[3], paths[6]]
    assert sorted(timed + calibration) == paths
    assert whose == f"{tmp_path.name}/some"
    monkeypatch.setattr(inference, "touching_cells", lambda size_hw, n, **_: SimpleNamespace(picture=pictures[0]))
    timed, calibration, whose = inference.photographs(tmp_path / "none", 2, tmp_path)
    assert (len(timed), len(calibration), whose) == (2, 10, "drawn cells, no photographs")
    assert not set(timed) & set(calibration)


def test_only_what_is_asked_for(
    inference: ModuleType, predictors: dict[Configuration, Predictor], tmp_path: Path
) -> None:
    configs = [EXACT, Configuration("torch", "bf16"), Configuration("openvino", "int8")]
    opened, left_out = inference.open_wanted(predictors[EXACT], configs, ["openvino int8"], [], tmp_path / "new")
    assert list(opened) == [EXACT]
    assert [one.configuration for one in left_out] == [Configuration("openvino", "int8")]
    assert inference.wanted("torchvision fp32, channels last", ["channels"])
    assert inference.wanted("anything", [])
    assert not inference.wanted("torchvision fp32", ["halfpixel", "bf16"])


def test_the_most_memory_of_a_process(inference: ModuleType, tmp_path: Path) -> None:
    own_peak_mb = importlib.import_module("peak_memory").own_peak_mb
    (tmp_path / "status").write_text("VmPeak:\t  999 kB\nVmHWM:\t  250000 kB\nVmRSS:\t  100 kB\n")
    assert own_peak_mb(tmp_path / "status") == 256
    assert own_peak_mb(tmp_path / "none") is None
    if (peak := own_peak_mb()) is not None:
        assert peak > 100  # torch alone is more


def test_from_the_command_line(
    inference: ModuleType, module: MaskRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("HALFPIXEL_HOME", str(tmp_path))  # is set once more, and is to be as before in the end
    monkeypatch.setattr(inference, "lively_torchvision", lambda *_: module)
    monkeypatch.setattr(inference, "peak_memory_mb", lambda name, *_: 1234.5)
    monkeypatch.setattr(inference, "all_configurations", lambda predictor: (EXACT, Configuration("openvino", "int8")))
    inference.save_all([PHOTOGRAPH], tmp_path / "images")
    words = ["end-to-end", "memory", "stages", "--photographs", tmp_path / "images", "--rounds", 1]
    words += ["--only", "int8", "--json", tmp_path / "out.json"]
    monkeypatch.setattr(sys, "argv", ["inference.py", *(str(word) for word in words)])
    inference.main()
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["machine"] == describe_machine()
    assert [row["name"] for row in report["end-to-end"]] == [inference.BASE, "halfpixel torch fp32"]
    assert [row["peak_mb"] for row in report["end-to-end"]] == [1234.5] * 2
    printed = capsys.readouterr().out
    assert "| halfpixel torch fp32 | " in printed
    assert "0 faults | 1,234 |" in printed
    assert "left out: openvino int8: int8 is calibrated" in printed
    assert "| all | " in printed
