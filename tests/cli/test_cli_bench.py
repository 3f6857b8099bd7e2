import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from calling import Halfpixel
from networks import CLASSES, smallest

from halfpixel.cli.bench import advice
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import MissingDependencyError
from halfpixel.evaluation.detection.object_matching import DetectionCounts
from halfpixel.models import mask_rcnn
from halfpixel.report import speed
from halfpixel.report.speed import EXACT, Configuration, Measured, Quartiles
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo, read_info, save_described, save_model, settings_of

BF16 = Configuration("torch", "bf16")


@pytest.fixture
def torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing but torch were installed, on a processor with bf16."""
    really = speed.open_configuration

    def only_torch(predictor: Predictor, config: Configuration, calibration: object, folder: Path) -> Predictor:
        if config.backend != "torch":
            raise MissingDependencyError(
                f'{config.backend} is not installed: pip install "halfpixel[{config.backend}]"'
            )
        return really(predictor, config, (), folder)

    monkeypatch.setattr(speed, "open_configuration", only_torch)
    monkeypatch.setattr(speed, "native_precision", lambda device: "bf16")


@pytest.fixture(scope="module")
def quick_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and few regions to look at."""
    torch.manual_seed(0)
    network = smallest(mask_rcnn)
    torch.nn.init.ones_(network.mask_head.logits.bias)
    rules = InputRules(scale=1.0, longest_side=128)
    info = ModelInfo("mask_rcnn_lite", CLASSES, rules, settings_of(network), score_threshold=0.3, detection_limit=5)
    path = tmp_path_factory.mktemp("quick") / "quick.safetensors"
    save_model(path, network, info)
    return path


@pytest.mark.usefixtures("torch_alone")
def test_a_folder(halfpixel: Halfpixel, quick_model: Path, noise: Callable[..., Path], tmp_path: Path) -> None:
    for k in range(6):
        noise(tmp_path / "images" / f"{k}.png", (40 + k, 48), seed=k)
    ran = halfpixel("bench", tmp_path / "images", "--model", quick_model, "--rounds", 1, "--at-most", 2)
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert lines[0] == f"Model {quick_model}, 2 images of 48 x 40 to 48 x 43 pixels, 1 round after a first one."
    rows = {
        Configuration(*line.split()[:2]): line.split()
        for line in lines
        if line.startswith("torch ") and "--" not in line
    }
    assert list(rows) == [EXACT, BF16]
    assert [line.split()[1:3] for line in lines if line.startswith("torch ")][-1] == ["bf16", "--fast"]
    assert "exact" in " ".join(rows[EXACT])
    assert rows[EXACT][4] != "0"
    assert rows[BF16][-1] != "exact"
    assert 'Not timed: onnx fp32: onnx is not installed: pip install "halfpixel[onnx]"' in lines
    assert any(line.startswith("Not timed: openvino int8: ") and "--calibrate" in line for line in lines)
    assert lines[-1].startswith("Fastest here with the same objects")


@pytest.mark.usefixtures("torch_alone")
def test_at_another_size(halfpixel: Halfpixel, quick_model: Path, noise: Callable[..., Path], tmp_path: Path) -> None:
    image, sized = noise(tmp_path / "a.png"), tmp_path / "sized.safetensors"
    info = replace(read_info(quick_model), diameters=TrainedDiameters(15.0, 10.0, 20.0))
    save_described(sized, quick_model, info)
    words = ("bench", image, "--model", sized, "--rounds", 1, "--json")
    for size, fast in (("--diameter", True), ("--scale", False)):
        ran = halfpixel(*words, size, 40 if size == "--diameter" else 0.5)
        assert ran.code == 0
        content = json.loads(ran.out)
        assert content["looked_at"]["scale"] == [0.5, 0.5]
        assert any(one["fast"] for one in content["configurations"]) == fast  # two thirds is another scale
    ran = halfpixel("bench", "--model", sized, "--scale", 2)
    assert ran.code == 2
    assert "--diameter and --scale are for images of yours: give some" in ran.err


@pytest.mark.usefixtures("torch_alone")
def test_the_same_as_json(halfpixel: Halfpixel, quick_model: Path, noise: Callable[..., Path], tmp_path: Path) -> None:
    image, broken = noise(tmp_path / "a.png"), tmp_path / "b.png"
    broken.write_bytes(b"nothing")
    ran = halfpixel("bench", image, broken, "--model", quick_model, "--rounds", 2, "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert told["images"] == [{"image": str(image), "size_hw": [40, 48]}]
    assert [one["path"] for one in told["failed"]] == [str(broken)]
    exact, fast, faster = told["configurations"]
    assert told["ways"] == told["configurations"]
    assert [one["fast"] for one in told["configurations"]] == [False, False, True]
    assert faster["count_differences"] == [faster["objects"] - exact["objects"]]
    assert (exact["backend"], exact["precision"], fast["precision"]) == ("torch", "fp32", "bf16")
    assert exact["objects"] > 0
    assert exact["same_objects"] == 1
    assert exact["times_as_fast"] == {"median": 1, "low": 1, "high": 1}
    assert [len(one["seconds"][0]) for one in told["configurations"]] == [2, 2, 2]
    ratios = [a / b for a, b in zip(exact["seconds"][0], fast["seconds"][0], strict=True)]
    assert fast["times_as_fast"]["median"] == pytest.approx(sum(ratios) / 2)
    assert [one["precision"] for one in told["left_out"]] == ["fp32", "fp32", "int8"]
    assert told["fastest"]["backend"] == "torch"
    assert told["machine"]["torch"]


@pytest.mark.usefixtures("torch_alone")
def test_without_images_there_is_an_example(halfpixel: Halfpixel, quick_model: Path) -> None:
    ran = halfpixel("bench", "--model", quick_model, "--rounds", 1)
    assert ran.code == 0
    assert ", an example (drawn cells) of 128 x 95 pixels, " in ran.out
    assert ran.out.splitlines()[-1].endswith("On your own images it may be otherwise: give some.")


def test_bad_input(halfpixel: Halfpixel, tmp_path: Path) -> None:
    for arguments in (
        ["--rounds", 0], ["--at-most", 0], [tmp_path / "none.png"], ["--calibrate", tmp_path / "none.png"],
        ["--model", tmp_path / "none.safetensors"],
    ):  # fmt: skip
        ran = halfpixel("bench", *arguments)
        assert ran.code == 2
        assert ran.err.startswith("halfpixel: error: ")
        assert len(ran.err.splitlines()) == 1


def measured(config: Configuration, seconds: float, tp: int, lost: int = 0) -> Measured:
    matching = DetectionCounts(0.9, tp, lost, lost, float(tp))
    times = Quartiles(2.0 / seconds, 2.0 / seconds, 2.0 / seconds)
    return Measured(config, np.full((1, 3), seconds), times, tp + lost, matching, (0,))


def test_advice() -> None:
    exact, bf16 = measured(EXACT, 2.0, 100), measured(BF16, 1.0, 98, lost=2)
    int8 = measured(Configuration("openvino", "int8"), 0.4, 80, lost=20)
    text = advice([exact, bf16, int8], bf16, EXACT)
    assert text == (
        "Fastest here with the same objects (98.0%): --backend torch --precision bf16, 2.0 times as fast as torch fp32 "
        "(1.00 s an image instead of 2.00). openvino int8 is faster still, but 80.0% of its objects are the same and "
        "counts are off by 0."
    )
    assert "(98.0%): no option, the default (torch bf16), 2.0 times" in advice([exact, bf16], bf16, BF16)
    assert advice([exact], exact, BF16) == (
        "Fastest here with the same objects: --backend torch --precision fp32, the exact configuration."
    )
    nothing = measured(EXACT, 2.0, 0)
    assert advice([nothing], nothing, EXACT).startswith("Nothing was found on these images")
