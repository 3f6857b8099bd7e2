"""Converting torchvision's Mask R-CNN: names, defaults, refusals. That it detects the same is shown in tests/parity."""

import argparse
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

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

from halfpixel.engine.load import from_torchvision, load
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


def frozen_state(module: MaskRCNN, smallest_variance: float) -> dict[str, Tensor]:
    """As torchvision's frozen normalisation is saved."""
    state = {key: t.clone() for key, t in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    state["backbone.body.bn1.running_var"][0] = smallest_variance
    return state


@pytest.mark.parametrize("eps", [None, 0.0, 1e-5])
def test_the_epsilon_of_frozen_weights_without_a_module_is_0_or_what_is_given(
    module: MaskRCNN, eps: float | None
) -> None:
    state = frozen_state(module, 1e-2)
    norm = convert(state, eps=eps)[0].backbone.bn1
    assert torch.allclose(norm.running_var + norm.eps, state["backbone.body.bn1.running_var"] + (eps or 0.0), atol=1e-9)


def test_a_doubtful_epsilon_is_warned_of_where_it_matters(module: MaskRCNN) -> None:
    state = frozen_state(module, 1e-6)
    with pytest.warns(UserWarning, match=r"from_torchvision\(state, eps=1e-5\)") as caught:
        from_torchvision(state)
    assert caught[0].filename == __file__
    for eps in (0.0, 1e-5):  # warnings are errors here
        convert(state, eps=eps)
    with pytest.raises(ArgumentError, match="eps must be from 0 to 1"):
        convert(state, eps=-1.0)
    with pytest.raises(ArgumentError, match="a module holds its own"):
        convert(module, eps=0.0)


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state.items()}


class Compiled(nn.Module):
    """What `torch.compile` returns holds the module under this name; making one takes seconds."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


WRAPPED: dict[str, Callable[[MaskRCNN], object]] = {
    "parallel": nn.DataParallel,
    "compiled": lambda m: Compiled(m),
    "a trainer's": lambda m: {"model": m.state_dict(), "optimizer": {"state": {}}, "epoch": 3},
    "another trainer's": lambda m: {"epoch": 1, "model_state_dict": m.state_dict(), "loss": 0.1},
    "Lightning's": lambda m: {"state_dict": prefixed("model.", m.state_dict()), "hyper_parameters": {}},
    "of a parallel one": lambda m: prefixed("module.", m.state_dict()),
    "of a compiled parallel one": lambda m: {"model": prefixed("_orig_mod.module.", m.state_dict())},
    "in half precision": lambda m: {k: t.half() if t.is_floating_point() else t for k, t in m.state_dict().items()},
}


@pytest.mark.parametrize("how", WRAPPED)
def test_weights_are_found_inside_of_what_wraps_them(how: str, module: MaskRCNN) -> None:
    found = convert(WRAPPED[how](module.eval()))[0].state_dict()  # type: ignore[arg-type]
    for name, tensor in convert(module)[0].state_dict().items():
        assert torch.allclose(found[name], tensor, rtol=1e-3, atol=1e-7), name


@pytest.mark.parametrize(
    "checkpoint", [{}, {"model": {}}, {"epoch": 3}, {"model": {"a": 1}}, {3: torch.zeros(1)}], ids=str
)
def test_what_holds_no_weights(checkpoint: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="no state dict"):
        convert(checkpoint)


def test_a_checkpoint_that_holds_itself() -> None:
    checkpoint: dict[str, object] = {}
    checkpoint["model"] = checkpoint
    with pytest.raises(ModelFileError, match="no state dict"):
        convert(checkpoint)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("evil",)


def test_the_file_of_torchvision_s_own_trainer(
    module: MaskRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = torch.optim.SGD(module.rpn.parameters(), lr=0.02, momentum=0.9)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [16, 22])
    arguments = argparse.Namespace(lr=0.02, lr_steps=[16, 22], data_path="coco", world_size=8)
    checkpoint = {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "args": arguments,
        "epoch": 3,
    }
    torch.save(checkpoint, tmp_path / "model_3.pth")
    assert torch.equal(load(tmp_path / "model_3.pth").model.rpn.deltas.bias, module.rpn.head.bbox_pred.bias)
    monkeypatch.chdir(tmp_path)
    arguments.callback = Evil()
    torch.save(checkpoint, tmp_path / "evil.pth")
    with pytest.raises(ModelFileError, match=r"evil\.pth: not a file of weights only"):
        load(tmp_path / "evil.pth")
    assert not (tmp_path / "evil").exists()


def test_a_published_file_has_no_epsilon(module: MaskRCNN, tmp_path: Path) -> None:
    state = frozen_state(module, 1e-6)
    torch.save(state, tmp_path / "maskrcnn_resnet50_fpn_coco-0123abcd.pth")
    norm = load(tmp_path / "maskrcnn_resnet50_fpn_coco-0123abcd.pth").model.backbone.bn1
    assert torch.allclose(norm.running_var + norm.eps, state["backbone.body.bn1.running_var"], atol=1e-9)


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
    with pytest.raises(ModelFileError, match=r"rpn\.anchor_generator\.sizes"):
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
