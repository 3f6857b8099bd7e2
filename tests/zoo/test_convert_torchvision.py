"""Converting torchvision's Mask R-CNN: names, defaults, refusals. That it detects the same is shown in tests/parity."""

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    fasterrcnn_resnet50_fpn,
    fasterrcnn_resnet50_fpn_v2,
    maskrcnn_resnet50_fpn,
)
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.zoo.convert.torchvision import convert, rename


def build(**options: object) -> MaskRCNN:
    torch.manual_seed(0)
    return maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, **options)


@pytest.fixture(scope="module")
def module() -> MaskRCNN:
    return build(num_classes=4)


def old_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The keys as torchvision wrote them when the first variant was published."""
    shorter = (
        (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.0\.", r"\1."),
        (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    )
    renamed = {}
    for key, tensor in state.items():
        if match := re.match(r"roi_heads\.mask_head\.(\d)\.0\.(\w+)", key):
            key = f"roi_heads.mask_head.mask_fcn{int(match[1]) + 1}.{match[2]}"
        for pattern, old in shorter:
            key = re.sub(pattern, old, key)
        renamed[key] = tensor
    return renamed


def test_every_weight_arrives_and_the_background_mask_does_not(module: MaskRCNN) -> None:
    model, info = convert(module)
    assert info.variant == "mask_rcnn_r50_fpn"
    assert model.class_names == ("class 1", "class 2", "class 3")
    ours, theirs = model.state_dict(), module.state_dict()
    assert len(ours) == sum(not key.endswith("num_batches_tracked") for key in theirs)
    for key, tensor in theirs.items():
        name = rename(key)
        if name is not None:
            expected = tensor[1:] if name.startswith("mask_head.logits") else tensor
            assert torch.equal(ours[name], expected), key


def test_a_state_dict_gets_the_published_defaults(module: MaskRCNN) -> None:
    model, info = convert(module.state_dict(), ["date", "fig", "hazelnut"])
    assert model.class_names == ("date", "fig", "hazelnut")
    assert (info.score_threshold, info.detection_limit) == (0.05, 100)
    assert (info.input.shortest_side, info.input.longest_side) == (800, 1333)
    settings = model.settings
    assert (settings.alignment, settings.box_iou) == ("torchvision", 0.5)
    assert (settings.proposals_per_level, settings.proposals, settings.proposal_iou) == (1000, 1000, 0.7)


def test_files_with_the_old_names_are_the_same(module: MaskRCNN) -> None:
    state = module.state_dict()
    old = old_names(state)
    assert set(old) != set(state)
    new_model, _ = convert(state)
    old_model, _ = convert(old)
    for name, tensor in new_model.state_dict().items():
        assert torch.equal(tensor, old_model.state_dict()[name])


@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_another_epsilon_is_absorbed(module: MaskRCNN, eps: float) -> None:
    theirs = build(num_classes=4)
    theirs.load_state_dict(module.state_dict())
    body = theirs.backbone.body
    assert isinstance(body, nn.Module)
    frozen = FrozenBatchNorm2d(64, eps)
    frozen.load_state_dict(body.bn1.state_dict())
    body.bn1 = frozen
    model, _ = convert(theirs)
    x = torch.randn(1, 64, 5, 6)
    backbone = model.backbone
    assert torch.allclose(backbone.bn1(x), frozen(x), atol=1e-6)


def test_frozen_weights_without_a_module_are_taken_as_published_with_no_epsilon(module: MaskRCNN) -> None:
    state = {key: tensor for key, tensor in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    model, _ = convert(state)
    norm = model.backbone.bn1
    assert torch.allclose(norm.running_var + norm.eps, state["backbone.body.bn1.running_var"])


def test_coco_names_for_91_outputs() -> None:
    model, _ = convert(build().state_dict())
    assert len(model.class_names) == len(set(model.class_names)) == 90
    assert model.class_names[0] == "person"
    assert model.class_names[89] == "toothbrush"


def test_other_architectures_are_refused(module: MaskRCNN) -> None:
    without_classes = {k: t for k, t in module.state_dict().items() if "box_predictor" not in k}
    with pytest.raises(ModelFileError, match=r"class predictor.*missing"):
        convert(without_classes)
    with pytest.raises(ModelFileError, match=r"unexpected.*weight"):
        convert(nn.Linear(2, 2))
    broken = dict(module.state_dict())
    del broken["backbone.body.layer1.0.conv1.weight"]
    with pytest.raises(ModelFileError, match=r"backbone\.layer1\.0\.conv1\.weight.*missing"):
        convert(broken)
    broken = dict(module.state_dict())
    broken["rpn.head.cls_logits.weight"] = torch.zeros(15, 256, 1, 1)
    with pytest.raises(ModelFileError, match=r"rpn\.objectness\.weight.*\[15.*\[3"):
        convert(broken)


def test_other_policies_are_refused() -> None:
    anchors = AnchorGenerator(((16,), (32,), (64,), (128,), (256,)), ((0.5, 1.0, 2.0),) * 5)
    with pytest.raises(ModelFileError, match="anchors of sizes"):
        convert(build(num_classes=3, rpn_anchor_generator=anchors))
    with pytest.raises(ArgumentError, match=r"3.*names.*2"):
        convert(build(num_classes=3), ["a", "b", "c"])


@pytest.mark.parametrize("build_one", [fasterrcnn_resnet50_fpn, fasterrcnn_resnet50_fpn_v2])
def test_faster_rcnn_is_a_variant(build_one: Callable[..., FasterRCNN]) -> None:
    theirs = build_one(weights=None, weights_backbone=None, num_classes=4, box_nms_thresh=0.4)
    model, info = convert(theirs)
    assert info.variant == build_one.__name__.replace("fasterrcnn_resnet50", "faster_rcnn_r50")
    assert model.mask_head is None
    assert model.settings.box_iou == 0.4
    assert convert(theirs.state_dict())[1].variant == info.variant
