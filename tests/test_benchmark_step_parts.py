"""The benchmark of a training step's parts, on two generated pictures."""

import importlib
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

from halfpixel.outputs.coco import write_coco

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which finds its neighbours beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("step_parts")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A COCO file of two pictures with two bright squares each."""
    dense = torch.zeros(2, 48, 64, dtype=torch.bool)
    dense[0, 5:15, 5:15], dense[1, 20:40, 20:50] = True, True
    objects = annotated(dense, torch.zeros(2, dtype=torch.int64))
    pixels = np.where(dense.any(0).numpy()[..., None], 190, 30).repeat(3, 2).astype(np.uint8)
    for k in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    write_coco(tmp_path / "data.json", [(k, f"{k}.png", objects) for k in range(2)], objects.class_names)
    return tmp_path / "data.json"


@pytest.mark.parametrize(("variant", "named"), [("rtmdet_lite", "neck"), ("mask_rcnn_lite", "rpn")])
def test_parts_make_up_the_step(
    parts: ModuleType,
    data: Path,
    variant: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    backbone = data.with_name("lite0.safetensors")
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), backbone)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    words = [variant, "--train", str(data), "--backbone", str(backbone), "--steps", "1", "--crop-px", "64"]
    monkeypatch.setattr(sys, "argv", ["step_parts.py", *words])
    parts.main()
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    seconds = {line[0]: float(line[1]) for line in lines[3:]}
    whole, backward = seconds.pop("whole step"), seconds["backward"]
    kinds = {name: took for name, took in seconds.items() if name.startswith("backward: ")}
    assert sum(kinds.values()) == pytest.approx(backward, abs=0.01)
    assert sum(seconds.values()) - sum(kinds.values()) == pytest.approx(whole, rel=0.05, abs=0.02)
    assert {f"forward: {named}", "backward: convolutions 3 x 3, depthwise", "data"} <= seconds.keys()
    assert min(seconds.values()) >= 0
