import json
from pathlib import Path

import pytest
import torch
from calling import Halfpixel
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from halfpixel.zoo.modelfile import variant_names
from halfpixel.zoo.names import NAMED_MODELS


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFPIXEL_HOME", str(tmp_path / "cache"))


def test_the_list(halfpixel: Halfpixel) -> None:
    ran = halfpixel("models")
    assert (ran.code, ran.err) == (0, "")
    listed = json.loads(halfpixel("models", "--json").out)
    assert [one["name"] for one in listed] == [model.name for model in NAMED_MODELS]
    for model in NAMED_MODELS:
        for fact in (model.name, model.summary, model.licence, model.accuracy):
            assert fact in ran.out
    assert "170 MB, downloaded on first use" in ran.out
    assert 'needs "halfpixel[transformers]"' in ran.out
    assert max(len(line) for line in ran.out.partition("\ncoco ")[2].splitlines()) <= 100


def test_the_networks(halfpixel: Halfpixel) -> None:
    ran = halfpixel("models", "--networks")
    assert (ran.code, ran.err) == (0, "")
    listed = json.loads(halfpixel("models", "--networks", "--json").out)
    assert [one["name"] for one in listed] == list(variant_names())
    for one in listed:
        assert one["name"] in ran.out
        assert one["summary"].endswith(".")
        assert one["weights"] > 1000
    refused = halfpixel("models", "nuclei", "--networks")
    assert (refused.code, refused.err) == (2, "halfpixel: error: --networks lists them all: give no model\n")


def test_one_of_which_little_is_known(halfpixel: Halfpixel) -> None:
    facts = json.loads(halfpixel("models", "rf-detr-seg-nano", "--json").out)
    assert (facts["megabytes"], facts["sha256"], facts["needs"]) == (None, "", "transformers")
    assert facts["page"] == "rf-detr, docs/learn/run/segmentation.md"
    assert "megabytes" not in halfpixel("models", "rf-detr-seg-nano").out


def test_downloaded_models_are_known(halfpixel: Halfpixel, tmp_path: Path) -> None:
    before = json.loads(halfpixel("models", "coco", "--json").out)
    assert before["state"] == "downloaded on first use"
    file = Path(before["file"])
    assert file.is_relative_to(tmp_path / "cache")
    file.parent.mkdir()
    file.write_bytes(bytes(3_000_000))
    after = json.loads(halfpixel("models", "coco", "--json").out)
    assert (after["state"], after["megabytes"]) == ("downloaded", 3)


def test_a_file_describes_itself(halfpixel: Halfpixel, tiny_model: Path) -> None:
    ran = halfpixel("models", tiny_model)
    assert (ran.code, ran.err) == (0, "")
    assert ["variant", "mask_rcnn_lite"] in [line.split() for line in ran.out.splitlines()]
    content = json.loads(halfpixel("models", tiny_model, "--json").out)
    assert content["class_names"] == ["nucleus"]
    assert content["input"]["longest_side"] == 256
    assert content["score_threshold"] == 0.3
    assert content["licence"] == "CC0-1.0"


def test_a_file_of_torchvision_is_described_as_it_would_be_read(halfpixel: Halfpixel, tmp_path: Path) -> None:
    state = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3).state_dict()
    torch.save({"model": state, "epoch": 3}, tmp_path / "model_3.pth")
    content = json.loads(halfpixel("models", tmp_path / "model_3.pth", "--json").out)
    assert (content["variant"], content["class_names"]) == ("faster_rcnn_r50_fpn", ["class 1", "class 2"])


def test_neither_a_name_nor_a_file(halfpixel: Halfpixel) -> None:
    ran = halfpixel("models", "nowhere.safetensors")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("halfpixel: error: nowhere.safetensors: ")
