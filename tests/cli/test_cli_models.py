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
        row = next(line for line in ran.out.splitlines() if line.startswith(f"{model.name} "))
        assert row.split() == f"{model.name} {model.summary} {model.coco_ap} {model.licence}".split()
        assert len(row) <= 80
    assert "Here already: nuclei, nuclei-unet, nuclei-unet-boundary." in ran.out
    assert 'With pip install "halfpixel[transformers]" only: rf-detr-seg-nano, ' in ran.out


def test_the_networks(halfpixel: Halfpixel) -> None:
    ran = halfpixel("models", "--networks")
    assert (ran.code, ran.err) == (0, "")
    listed = json.loads(halfpixel("models", "--networks", "--json").out)
    assert [one["name"] for one in listed] == list(variant_names())
    for one in listed:
        row = next(line for line in ran.out.splitlines() if line.startswith(f"{one['name']} "))
        assert row.split()[1:5] == [f"{one['parameters'] / 1e6:.1f}", "M", one["finds"], one["paper"]]
        assert len(row) <= 120
        assert one["summary"].endswith(".")
        assert one["parameters"] > 1000
    finds = {one["name"]: (one["finds"], one["paper"]) for one in listed}
    assert finds["faster_rcnn_r50_fpn"] == ("boxes", "1506.01497")
    assert finds["mask_rcnn_r50_fpn"] == ("masks", "1703.06870")
    assert finds["point_rend_lite"] == ("masks", "1912.08193")
    assert finds["unet_lite"] == ("masks", "1505.04597")
    refused = halfpixel("models", "nuclei", "--networks")
    assert (refused.code, refused.err) == (2, "halfpixel: error: --networks lists them all: give no model\n")


def test_one_of_which_little_is_known(halfpixel: Halfpixel) -> None:
    facts = json.loads(halfpixel("models", "rf-detr-seg-nano", "--json").out)
    assert (facts["megabytes"], facts["sha256"], facts["needs"]) == (None, "", "transformers")
    assert facts["page"].startswith("https://github.com/roboflow/rf-detr/")
    assert facts["quality"] == facts["accuracy"]
    told = halfpixel("models", "rf-detr-seg-nano").out
    assert 'pip install "halfpixel[transformers]"' in told
    assert not {"size", "quality", "sha256"} & {line.split()[0] for line in told.splitlines()}


def test_what_is_not_here_yet_is_told_as_such(halfpixel: Halfpixel) -> None:
    told = [line.split(maxsplit=1) for line in halfpixel("models", "coco").out.splitlines()]
    facts = {name: value.strip() for name, value in told}
    assert facts["size"] == "about 170 MB"
    assert facts["sha256"] == "begins with bf2d0c1e, as its publisher states"
    assert facts["file"].startswith("will be /")
    assert facts["variant"] == "mask_rcnn_r50_fpn"
    assert facts["stated"].startswith("at   https://github.com/pytorch/vision/")


def test_downloaded_models_are_known(halfpixel: Halfpixel, tmp_path: Path) -> None:
    before = json.loads(halfpixel("models", "coco", "--json").out)
    assert before["state"] == "downloaded on first use"
    file = Path(before["file"])
    assert file.is_relative_to(tmp_path / "cache")
    file.parent.mkdir()
    file.write_bytes(bytes(3_000_000))
    after = json.loads(halfpixel("models", "coco", "--json").out)
    assert (after["state"], after["megabytes"]) == ("downloaded; checked whenever it is loaded", 3)
    assert " 3 MB\n" in halfpixel("models", "coco").out
    assert ", coco." in halfpixel("models").out


def test_the_first_download_is_told_of(halfpixel: Halfpixel, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "rt-detr-r18"
    folder.mkdir(parents=True)
    record = {"sha256": "0" * 64, "revision": "a" * 40}
    (folder / "model.safetensors.sha256.json").write_text(json.dumps(record))
    assert json.loads(halfpixel("models", "rt-detr-r18", "--json").out)["recorded"] == record
    assert record["revision"] in halfpixel("models", "rt-detr-r18").out
    (folder / "model.safetensors.sha256.json").write_text("{")
    assert halfpixel("models", "rt-detr-r18").code == 2
    assert halfpixel("models").code == 0


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
