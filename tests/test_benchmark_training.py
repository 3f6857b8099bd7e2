"""The training benchmark, on a few generated pictures and with as little of everything as there can be."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models.detection import MaskRCNN

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.outputs.coco import write_coco
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
RULES = InputRules(scale=2.0, longest_side=500, stretch_below=0.3)


@pytest.fixture
def training(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which finds its peer beside itself."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("training")


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """A COCO file of two pictures 48 x 64 with six bright squares each."""
    images = []
    for k in range(2):
        pixels = np.random.default_rng(k).integers(0, 60, (48, 64, 3), dtype=np.uint8)
        dense = torch.zeros(6, 48, 64, dtype=torch.bool)
        for j in range(6):
            top, left = 5 + 22 * (j // 3), 4 + 20 * (j % 3)
            dense[j, top : top + 10 + j, left : left + 11] = True
        pixels[dense.any(0).numpy()] = 190
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
        masks = CropMasks.from_dense(dense)
        labels = torch.zeros(6, dtype=torch.int64)
        images.append((k, f"{k}.png", Instances((48, 64), masks.boxes_xyxy(), torch.ones(6), labels, ("a",), masks)))
    write_coco(tmp_path / "data.json", images, ("a",))
    return tmp_path / "data.json"


@pytest.fixture
def dataset(annotations: Path) -> Dataset:
    return read_coco(annotations)


def lessen(model: MaskRCNN) -> MaskRCNN:
    """Fewer regions in training, which is what takes the time."""
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 16
    model.rpn._pre_nms_top_n["training"] = model.rpn._post_nms_top_n["training"] = 50
    return model


@pytest.fixture
def light(training: ModuleType, tmp_path: Path) -> MaskRCNN:
    torch.manual_seed(0)
    save_file(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "lite0.safetensors")
    model: MaskRCNN = training.tutorial.lite(1, tmp_path / "lite0.safetensors", 64, True, 0)
    return lessen(model)


@pytest.mark.slow
def test_speed_is_measured_in_turns_and_written(
    training: ModuleType, annotations: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = training.tutorial.resnet50
    monkeypatch.setattr(training.tutorial, "resnet50", lambda *arguments: lessen(whole(*arguments)))
    out = annotations.with_name("numbers.json")
    sizes = ["--crop-px", "64", "--scale", "2", "--images-per-step", "1", "--steps", "1", "--repetitions", "1"]
    words = ["training.py", "speed", "--train", str(annotations), *sizes, "--workers", "0", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    training.main()

    report = json.loads(out.read_text())
    rows = {(row["network"], row["precision"]): row for row in report["speed"]}
    assert list(rows) == [(n, p) for n in ("torchvision", "halfpixel") for p in ("32-true", "bf16-mixed")]
    (base,) = rows["torchvision", "32-true"]["images_per_second"]
    for row in rows.values():
        (rate,), (ratio,) = row["images_per_second"], row["ratio"]
        assert rate > 0
        assert ratio == pytest.approx(rate / base)
    assert report["machine"]["torch"] == torch.__version__
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("| torchvision |", "| halfpixel |")) for line in lines) == 4


def test_both_networks_train_the_same_weights(training: ModuleType) -> None:
    ours, theirs = training.same_networks(("a", "b"), 64, 0, torch.device("cpu"))
    unused = 1 + 256  # torchvision draws a mask of the background, which nobody looks at
    trained = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in (ours, theirs)]
    assert trained[0] == trained[1] - unused
    assert torch.equal(ours.backbone.layer4[2].conv2.weight, theirs.backbone.body.layer4[2].conv2.weight)


def test_both_see_the_same_tiles(training: ModuleType, dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    cut = training.tiles(dataset, 32, 3, folder, seed=0)
    data = training.tutorial.TutorialData(cut.samples, RULES, 32)
    for sample, (image, target) in zip(cut.samples, (data[k] for k in range(3)), strict=True):
        assert sample.objects.masks is not None
        dense = sample.objects.masks.dense()
        with Image.open(sample.path) as picture:
            bright = torch.from_numpy(np.asarray(picture)[..., 0] == 190)
        assert torch.equal(dense.any(0), bright)
        as_it_was = target["masks"].bool().equal(dense)
        assert as_it_was or target["masks"].flip(2).bool().equal(dense)
        assert torch.equal(image[0].gt(0.7), target["masks"].bool().any(0))
        assert torch.equal(target["labels"], sample.objects.labels + 1)


def test_a_set_whose_images_are_all_too_small(training: ModuleType, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"data\.json: no image with objects is 49 pixels"):
        training.tiles(dataset, 49, 1, tmp_path, seed=0)


def test_the_tutorial_is_trained_for_the_time_given(training: ModuleType, light: MaskRCNN, dataset: Dataset) -> None:
    before = light.roi_heads.mask_predictor.mask_fcn_logits.weight.clone()
    data = training.tutorial.TutorialData(dataset.samples, RULES, 32)
    assert training.tutorial.train(light, data, 2, 0, 0.001) == 1
    assert not torch.equal(light.roi_heads.mask_predictor.mask_fcn_logits.weight, before)


def test_the_tutorials_objects_are_those_that_torchvision_returns(
    training: ModuleType, light: MaskRCNN, dataset: Dataset
) -> None:
    light.eval().roi_heads.score_thresh = 0.0
    light.roi_heads.detections_per_img = 70  # more than are pasted at once
    for predictor in (light.roi_heads.mask_predictor.mask_fcn_logits, light.roi_heads.box_predictor.cls_score):
        torch.nn.init.normal_(predictor.weight)
    sample = dataset.samples[0]
    found = training.tutorial.predict(light, sample, RULES, ("a",))
    image = training.tutorial.random_window(sample, 64, RULES.stretch_below)[0]
    with torch.inference_mode():
        (wanted,) = light([image])
    assert len(found) == len(wanted["boxes"]) > training.tutorial.PASTED_AT_ONCE
    assert torch.equal(found.boxes_xyxy, wanted["boxes"])
    assert torch.equal(found.scores, wanted["scores"])
    assert found.masks is not None
    assert torch.equal(found.masks.dense(), wanted["masks"][:, 0] > 0.5)
    assert found.masks.areas_px().sum() > 0


def test_a_row_says_what_was_measured(training: ModuleType, dataset: Dataset) -> None:
    perfect = [sample.objects for sample in dataset.samples]
    row = training.measured("perfect", 90.0, 12, dataset, perfect)
    assert row["mask_ap"] == row["accuracy_75"] == 1
    assert training.accuracy_line(row) == (
        "| perfect | 1.5 | 12 | 1.000 | 1.000 | 1.000 (1.000 to 1.000) | 1.000 | 0.0 (0.0 to 0.0) |"
    )
