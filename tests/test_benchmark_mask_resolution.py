"""The benchmark of finer masks, for a moment."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from networks import annotated

from halfpixel.data.dataset import Dataset
from halfpixel.models.mask_rcnn import Settings
from halfpixel.structures.instances import Instances

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def resolution(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("mask_resolution")


def test_cog_wheels_have_cogs_and_do_not_touch(resolution: ModuleType) -> None:
    objects = resolution.cog_wheels(resolution.LARGE_PX, 3, seed=1).objects
    assert 1 <= len(objects) <= 3
    assert ((objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).amin(1) > 96).all()
    filled = objects.masks.areas_px() / (objects.boxes_xyxy[:, 2:] - objects.boxes_xyxy[:, :2]).prod(1)
    assert (filled < 0.75).all()  # a disc fills .785 of its box


def test_what_a_box_cuts_off(resolution: ModuleType, tmp_path: Path) -> None:
    """An object of 10 x 10 pixels whose predicted box is 1 short on the right, and one whose box is right."""
    dense = torch.zeros(2, 30, 60, dtype=torch.bool)
    dense[0, 5:15, 5:15], dense[1, 5:25, 30:50] = True, True
    truth = annotated(dense, torch.zeros(2).long())
    boxes = truth.boxes_xyxy.clone()
    boxes[0, 2] -= 1
    found = Instances(truth.size_hw, boxes, torch.ones(2), truth.labels, truth.class_names, None)
    sample = SimpleNamespace(path=tmp_path / "0.png", objects=truth)
    predictor = SimpleNamespace(model=SimpleNamespace(settings=Settings(mask_margin=0.125)), predict=lambda _: found)
    dataset = Dataset(tmp_path, truth.class_names, (1,), (sample,))  # type: ignore[arg-type]
    cut = resolution.clipped(dataset, predictor, 0.125)
    assert cut["objects"] == 2
    assert cut["tight_any"] == cut["tight_over_5%"] == 0.5
    assert cut["tight_mean_area"] == pytest.approx(0.05)
    assert cut["margin_any"] == 0
    assert predictor.model.settings.mask_margin == 0  # boxes stay what the box head says


def test_a_row_for_each_variant_and_size(
    resolution: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "--steps", "1", "--seeds", "0", "--training-images", "2", "--held-out-images", "1"]
    monkeypatch.setattr(sys, "argv", ["mask_resolution.py", *given])
    resolution.main()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [(row["variant"], row["objects"]) for row in rows] == [
        (variant, size) for variant in resolution.VARIANTS for size in ("large", "small")
    ]
    assert all(0 <= row["boundary_ap"] <= 100 for row in rows)
