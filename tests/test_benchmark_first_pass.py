"""The first-pass benchmark, on a small field and with brightness in place of what a U-Net would say."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from halfpixel import load
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.prefilter import Prefilter
from halfpixel.models.unet import unet_lite
from halfpixel.outputs.synthetic_cells import write_cells
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances, PrefilterPass
from halfpixel.structures.masks import CropMasks
from halfpixel.zoo.modelfile import ModelInfo, save_model, settings_of

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def first_pass(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which finds another one beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("first_pass")


def bright(_: Prefilter, pixels: npt.NDArray[np.uint8]) -> Tensor:
    image = torch.from_numpy(pixels[..., 0].astype(np.float32) / 255)[None, None]
    reduced = torch.nn.functional.interpolate(image, tuple(side // 2 for side in pixels.shape[:2]), mode="area")[0, 0]
    return (reduced > 0.3).float()


def test_from_fields_and_annotations_to_a_verdict(
    first_pass: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Prefilter, "foreground", bright)
    nuclei = load()  # enlarging less takes less time
    nuclei.info = replace(nuclei.info, input=replace(nuclei.info.input, scale=1.5), detection_limit=100)
    nuclei.save(tmp_path / "nuclei.safetensors")
    network = unet_lite(("nucleus",))
    info = ModelInfo("unet_lite", ("nucleus",), InputRules(scale=1.0), settings_of(network))
    save_model(tmp_path / "unet.safetensors", network, info)
    data = write_cells(tmp_path / "data", [touching_cells((100, 100), 12, seed=k) for k in range(2)])
    out = tmp_path / "numbers.json"
    words = ["--model", tmp_path / "nuclei.safetensors", "--first-pass", tmp_path / "unet.safetensors"]
    words += ["--fields", 1, "--side", 400, "--patches", 1, "--data", data, "--json", out]
    monkeypatch.setattr(sys, "argv", ["first_pass.py", *(str(one) for one in words)])
    first_pass.main()

    report = json.loads(out.read_text())
    assert report["machine"]["torch"] == torch.__version__
    assert report["total"] == report["fields"][0]
    total, annotated = report["total"], report["data"]
    assert total["cells"] > 5
    assert total["looked_at"] < 0.5
    assert total["not_looked_at"] == 0
    assert total["found"]["without"] >= total["hits"]["without"] > 0.8 * total["cells"]
    assert total["lost"] <= 1
    assert 0 < total["saved"] < 1
    assert total["saved"] == pytest.approx(1 - total["seconds"]["with"] / total["seconds"]["without"])
    # everywhere cells: all is as without a first pass
    assert (annotated["images"], annotated["objects"], annotated["looked_at_everywhere"]) == (2, 24, 2)
    assert annotated["mask_ap"]["with"] == annotated["mask_ap"]["without"] > 0.3
    assert annotated["count_mae_difference"] == 0
    printed = capsys.readouterr().out
    assert f"| {total['cells']} | {total['found']['without']} | {total['found']['with']} |" in printed
    assert f"| with | {annotated['mask_ap']['with']:.4f} |" in printed
    assert list(report["passed"].values())[2:] == [True, True]
    assert "yes  mask AP at most 0.001 lower" in printed


@pytest.mark.parametrize("count", [1, 4])
def test_patches_stay_within_their_share(first_pass: ModuleType, count: int) -> None:
    for seed in range(10):
        boxes = first_pass.patches(1000, 0.05, count, np.random.default_rng(seed))
        covered = np.zeros((1000, 1000), np.int64)
        for x0, y0, x1, y1 in boxes:
            assert 0 <= x0 < x1 <= 1000
            assert 0 <= y0 < y1 <= 1000
            covered[y0:y1, x0:x1] += 1
        assert len(boxes) == count
        assert covered.max() == 1
        assert 0.045 < covered.mean() <= 0.05


def test_patches_are_about_half_full(first_pass: ModuleType) -> None:
    cells = first_pass.draw_field(1000, 0.05, 2, seed=3)
    tissue_px = 0.05 * 1000**2
    assert 0.35 < int(cells.objects.masks.areas_px().sum()) / tissue_px < 0.55


def squares(lefts: list[int], size_hw: tuple[int, int] = (20, 100)) -> Instances:
    crops = tuple(torch.ones(10, 10, dtype=torch.bool) for _ in lefts)
    masks = CropMasks(crops, torch.tensor([[left, 5] for left in lefts]).reshape(-1, 2), size_hw)
    labels = torch.zeros(len(lefts), dtype=torch.int64)
    return Instances(size_hw, masks.boxes_xyxy(), torch.ones(len(lefts)), labels, ("nucleus",), masks)


def test_lost_objects_and_recall_by_hand(first_pass: ModuleType) -> None:
    cells = first_pass.Cells(np.zeros((20, 100, 3), np.uint8), squares([0, 20, 40, 60]))
    looked = replace(squares([0, 24, 80]), prefilter=PrefilterPass(((0, 0, 50, 20), (80, 0, 100, 20)), 1.0, 1.0))
    row = first_pass.compare(cells, {"without": (squares([0, 20, 40]), 4.0), "with": (looked, 1.0)})
    assert row["lost"] == 2  # that at 20 is found at an IoU of 60 / 140, that at 40 not at all
    assert row["not_looked_at"] == 1
    both = first_pass.with_ratios(first_pass.add_up([row, row]))
    assert both["saved"] == 0.75
    assert both["looked_at"] == 0.7
    assert both["lost_share"] == pytest.approx(2 / 3)
    assert both["recall"] == {"without": 0.75, "with": 0.25}
    verdict = first_pass.passed({"total": both})
    assert list(verdict.values()) == [True, False]
