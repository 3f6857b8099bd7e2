"""The benchmark of all models, on two generated pictures and with as little of everything as there can be."""

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from networks import annotated
from PIL import Image
from safetensors.torch import save_file

from halfpixel.data.formats.coco import read_coco
from halfpixel.outputs.coco import write_coco
from halfpixel.structures.instances import Instances

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which finds its neighbour beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("models")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A COCO file of two pictures with two bright squares each, one of them small."""
    dense = torch.zeros(2, 48, 64, dtype=torch.bool)
    dense[0, 5:15, 5:15], dense[1, 20:40, 20:50] = True, True
    objects = annotated(dense, torch.zeros(2, dtype=torch.int64))
    pixels = np.random.default_rng(0).integers(0, 60, (48, 64, 3), dtype=np.uint8)
    pixels[dense.any(0).numpy()] = 190
    for k in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    write_coco(tmp_path / "data.json", [(k, f"{k}.png", objects) for k in range(2)], objects.class_names)
    return tmp_path / "data.json"


def test_a_model_is_trained_and_measured_once(
    benchmark: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    backbone, rows = data.with_name("lite0.safetensors"), data.with_name("rows.json")
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), backbone)
    words = ["models.py", "unet_lite", "--train", str(data), "--val", str(data), "--backbone", str(backbone)]
    words += ["--rows", str(rows), "--runs", str(data.with_name("runs")), "--minutes", "0.001", "--crop-px", "64"]
    monkeypatch.setattr(sys, "argv", [*words, "--only-plan"])
    monkeypatch.setattr(benchmark, "PLANNING_STEPS", 1)
    benchmark.main()
    assert json.loads(rows.read_text())["rows"] == []
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    kept = json.loads(rows.read_text())
    (row,) = kept["rows"]
    assert kept["plans"]["unet_lite"]["steps"] == row["steps"]
    assert row["variant"] == "unet_lite"
    assert row["steps"] >= 1
    assert row["seconds_per_image"] > 0
    assert row["seconds_per_image_of_nuclei"] > 0
    saved = (data.with_name("runs") / "unet_lite-0" / "model.safetensors").stat().st_size / 1e6
    assert row["megabytes"] == pytest.approx(saved / 2, rel=0.05)  # the file holds 32 bits of each number
    assert row["lines"] == len(benchmark.source_of("unet_lite").read_text().splitlines())
    assert capsys.readouterr().out.count("| unet_lite | 0 |") == 2

    monkeypatch.setattr(benchmark, "row_of", lambda *_: pytest.fail("it is there already"))
    monkeypatch.setattr(benchmark.Bench, "plan", lambda *_: pytest.fail("planned already"))
    sheet = data.with_name("sheet.png")
    monkeypatch.setattr(sys, "argv", [*words, "--draw", str(data.with_name("0.png")), str(sheet)])
    benchmark.main()
    assert json.loads(rows.read_text()) == kept
    with Image.open(sheet) as drawn:
        assert drawn.height > 320


def test_a_row_says_what_was_measured(benchmark: ModuleType, data: Path) -> None:
    dataset = read_coco(data)
    perfect = [sample.objects for sample in dataset.samples]
    row = benchmark.measured(dataset, perfect, 0.5)
    assert row["mask_ap"] == row["mask_ap_small"] == row["accuracy_50"] == row["accuracy_85"] == 1
    assert row["count_mae"] == row["merges"] == row["splits"] == 0
    without_small = benchmark.measured(dataset, [objects[1:] for objects in perfect], 0.5)
    assert without_small["mask_ap_small"] == 0
    assert without_small["count_mae"] == 1


def test_the_best_comes_first(benchmark: ModuleType) -> None:
    names = [*(name for _, name, _ in benchmark.COLUMNS), "seconds_per_image_of_nuclei"]
    rows = [dict.fromkeys(names, 0.5) | {"variant": "a", "seconds_per_image_int8": None}]
    rows.append(rows[0] | {"variant": "b", "mask_ap": 0.75})
    lines = benchmark.table(rows).splitlines()
    assert lines[2].startswith("| b | 0.5 | 0.750 |")
    assert lines[3].startswith("| a |")
    assert "| - |" in lines[3]


def test_the_threshold_leaves_out_what_is_not_there(benchmark: ModuleType, data: Path) -> None:
    """Of four objects two are true; these score .7, the others .3."""
    dataset = benchmark.some(read_coco(data), 1)
    (sample,) = dataset.samples

    class Predicts:
        def predict(self, paths: list[Path], threshold: float, limit: int) -> list[Instances]:
            assert paths == [sample.path]
            return [found]

    true = sample.objects
    dense = torch.zeros(2, 48, 64, dtype=torch.bool)
    dense[0, 30:40, 5:15], dense[1, 2:10, 40:50] = True, True
    false = dataclasses.replace(annotated(dense, true.labels), scores=torch.full((2,), 0.3))
    found = Instances.concatenate([dataclasses.replace(true, scores=torch.full((2,), 0.7)), false])
    assert benchmark.best_threshold(Predicts(), dataset) == pytest.approx(0.5, abs=0.1)


def test_an_unknown_model(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["models.py", "--rows", "rows.json", "mask_rcn"])
    with pytest.raises(SystemExit):
        benchmark.main()
