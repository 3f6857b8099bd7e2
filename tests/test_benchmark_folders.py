"""The benchmarks of folders and of memory, on next to nothing."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from halfpixel import load
from halfpixel.engine.predictor import Predictor

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

linux_only = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="asks the Linux kernel")


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which finds another one beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("folders")


@pytest.fixture
def memory(folders: ModuleType) -> ModuleType:
    return importlib.import_module("memory")


@pytest.fixture(scope="module")
def nuclei() -> Predictor:
    return load("nuclei")


@linux_only
def test_a_folder(
    folders: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(folders, "DRAWN_HW", (48, 56))
    command = ["folders.py", "throughput", "--number", "3", "--rounds", "1", "--json", str(tmp_path / "n.json")]
    monkeypatch.setattr(sys, "argv", command)
    folders.main()
    row = json.loads((tmp_path / "n.json").read_text())["throughput"]
    assert row["images"] == 3
    took = row["seconds"]
    assert row["times_as_fast"]["median"] == pytest.approx(took["one by one"][0] / took["together"][0])
    assert row["agreement"]["other_counts"] == 0
    assert row["agreement"]["worst_score"] < 0.01
    assert "times as fast" in capsys.readouterr().out


def test_both_ways_find_the_same(folders: ModuleType, nuclei: Predictor, tmp_path: Path) -> None:
    files = folders.drawn(tmp_path, 3, (48, 48), 4)
    by_configuration = [list(find(nuclei, files)) for find in folders.CONFIGURATIONS.values()]
    for (path, pixels, objects), (other_path, other_pixels, others) in zip(*by_configuration, strict=True):
        assert path == other_path
        assert np.array_equal(pixels, other_pixels)
        assert len(objects) == len(others) > 0
    some = [objects for _, _, objects in by_configuration[0]]
    assert folders.agreement(some, some)["identical"] == 3
    assert folders.agreement(some, [one[:-1] for one in some])["other_counts"] == 3


@linux_only
def test_memory_is_told_along_the_way(
    folders: ModuleType, nuclei: Predictor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folders, "EVERY", 2)
    rows = folders.memory(nuclei, folders.drawn(tmp_path, 2, (32, 32), 1), 5)
    assert [row["images"] for row in rows] == [2, 4, 5]
    assert all(100 < row["mb"] < 20_000 for row in rows)


def test_small_images_are_chosen(folders: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = folders.drawn(tmp_path, 6, (30, 40), 1)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"images": [{"file_name": f"images/{path.name}"} for path in files[1:]]}))
    assert folders.small(tmp_path, names, 9) == files[1:]
    assert folders.small(tmp_path, None, 3) == files[::2]
    monkeypatch.setattr(folders, "LONGEST_PX", 35)
    assert folders.small(tmp_path, None, 3) == []


def test_boxes_add_up_to_the_image(memory: ModuleType) -> None:
    outputs = memory.drawn_outputs(40, (300, 500))
    boxes = outputs["boxes_xyxy"]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    assert float(areas.sum()) == pytest.approx(300 * 500, rel=1e-4)
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([500, 300, 500, 300])).all()


@linux_only
@pytest.mark.parametrize("variant", ["mask_rcnn_r50_fpn", "mask_rcnn_lite"])
def test_results_are_measured(memory: ModuleType, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    monkeypatch.setattr(memory, "RESULTS_HW", (200, 300))
    monkeypatch.setattr(memory, "RESULTS_OBJECTS", 40)
    row: dict[str, Any] = memory.measure_results(variant)
    assert 20 < row["objects"] <= 40
    assert "label image" in row["steps"]


@linux_only
def test_the_peak_is_the_peak(memory: ModuleType) -> None:
    memory.forget_peak()
    before = memory.resident_mb("VmHWM")
    large = np.ones(30_000_000, dtype=np.uint8)
    del large
    assert 25 < memory.resident_mb("VmHWM") - before < 60
    memory.forget_peak()
    assert memory.resident_mb("VmHWM") - before < 25
