"""The converter that knows the names of the weights takes them."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_mmdet_solov2 import theirs
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from halfpixel.engine.load import load
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.zoo import converters, names
from halfpixel.zoo.coco_classes import coco_classes
from halfpixel.zoo.convert.state_dicts import classes_in, names_for
from halfpixel.zoo.published import NamedModel


def test_a_file_of_others_is_read_by_whoever_knows_it(tmp_path: Path) -> None:
    torch.save({"meta": {"epoch": 1}, "state_dict": theirs()}, tmp_path / "solo.pth")
    predictor = load(tmp_path / "solo.pth")
    assert predictor.info.variant == "solov2_light_r50"
    assert (predictor.info.licence, predictor.info.source) == ("", "weights in MMDetection's naming")
    torch.save(
        fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3).state_dict(), tmp_path / "f.pth"
    )
    assert load(tmp_path / "f.pth").info.variant == "faster_rcnn_r50_fpn"


def test_of_a_published_model_source_and_licence_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALFPIXEL_HOME", str(tmp_path))
    torch.save(theirs(80), tmp_path / "solo.pth")
    sha256 = hashlib.sha256((tmp_path / "solo.pth").read_bytes()).hexdigest()
    url = "https://example.org/solo.pth"
    solo = NamedModel("solo", "a test", "Apache-2.0", url=url, sha256=sha256, reader="mmdet_solov2")
    monkeypatch.setattr(names, "NAMED_MODELS", (solo,))
    info = load("solo").info
    assert (info.licence, info.source) == ("Apache-2.0", url)
    assert load(tmp_path / "solo.pth").info.licence == ""


def test_what_converters_share_is_no_converter() -> None:
    assert {"mmdet_solov2", "torchvision", "detectron2"} <= set(converters.CONVERTERS)
    assert not {"state_dicts", "region_heads", "pickle_reader"} & set(converters.CONVERTERS)
    assert {model.reader for model in names.NAMED_MODELS} - {""} <= set(converters.CONVERTERS)


def test_the_nearest_says_what_does_not_fit(tmp_path: Path) -> None:
    state = theirs()
    del state["mask_head.conv_kernel.bias"]
    with pytest.raises(ModelFileError, match=r"head\.kernels\.bias is missing; docs/models\.md lists the networks"):
        converters.convert(state)
    state = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3).state_dict()
    state["more"] = torch.zeros(1)
    torch.save(state, tmp_path / "f.pth")
    with pytest.raises(ModelFileError, match=r"f\.pth: not torchvision's .*'more'; docs/models\.md"):
        load(tmp_path / "f.pth")


def test_who_reads_a_file_may_be_known() -> None:
    model, info = converters.convert(theirs(80), coco_classes(), "mmdet_solov2")
    assert info.class_names == model.class_names == coco_classes()
    assert (len(coco_classes()), coco_classes()[0], coco_classes()[79]) == (80, "person", "toothbrush")
    with pytest.raises(ModelFileError, match="not torchvision's") as caught:
        converters.convert(theirs(), None, "torchvision")
    assert "docs" not in str(caught.value)


@pytest.mark.parametrize("nothing", [{}, {"a": 1}, {"state_dict": {"a": "b"}}, {3: torch.zeros(1)}])
def test_no_weights_at_all(nothing: dict[object, object]) -> None:
    with pytest.raises(ModelFileError, match="no state dict") as caught:
        converters.convert(nothing)  # type: ignore[arg-type]
    assert "docs" not in str(caught.value)


def test_weights_of_nobody() -> None:
    with pytest.raises(
        ModelFileError, match=r"^no network that is read has weights of such names \('a'\); docs/models"
    ):
        converters.convert({"a": torch.zeros(1)})


def rt_detr() -> torch.nn.Module:
    """A small one of transformers."""
    transformers = pytest.importorskip("transformers")
    backbone = transformers.RTDetrResNetConfig(
        out_indices=[2, 3, 4], hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic"
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], hidden_expansion=0.5, decoder_layers=3,
        id2label={0: "cat", 1: "dog"},
    )  # fmt: skip
    made: torch.nn.Module = transformers.RTDetrForObjectDetection(config)
    return made


def test_a_folder_of_transformers_may_be_converted(tmp_path: Path) -> None:
    model = rt_detr()
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    predictor = load(tmp_path)
    assert (predictor.info.variant, predictor.class_names) == ("rt_detr_r18", ("cat", "dog"))
    assert predictor.model.only_predicts == ""
    for state in (model.state_dict(), load_file(tmp_path / "model.safetensors")):
        del state["model.enc_score_head.bias"]
        with pytest.raises(ModelFileError, match=r"^not transformers' RT-DETR: model\.enc_score_head\.bias is missing"):
            converters.convert(state)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "cat"}}))
    with pytest.raises(ModelFileError, match=r"model\.safetensors: .*1 class names for 2 classes"):
        load(tmp_path)


def test_names_of_classes() -> None:
    assert names_for(("a", "b"), ["c", "d"], 2) == ("a", "b")
    assert names_for(None, ["c", "d"], 2) == ("c", "d")
    assert names_for(None, ["c", "c"], 2) == names_for(None, "cd", 2) == ("class 1", "class 2")
    coco = names_for(None, None, 80)
    assert (len(coco), coco[0], coco[79]) == (80, "person", "toothbrush")
    with pytest.raises(ArgumentError, match="3 class names for 2 classes"):
        names_for(("a", "b", "c"), None, 2)


@pytest.mark.parametrize(
    ("meta", "known"),
    [
        ({"dataset_meta": {"classes": ("a",)}}, ("a",)),
        ({"dataset_meta": {"CLASSES": ("a",)}}, ("a",)),
        ({"CLASSES": ("a",)}, ("a",)),
        ({}, None),
        ("text", None),
    ],
)
def test_what_mmdetection_says_of_its_classes(meta: object, known: object) -> None:
    assert classes_in({"meta": meta, "state_dict": {}}) == known
