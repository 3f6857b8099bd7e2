"""Converting MMDetection's RTMDet-Ins: refusals. That it says the same is shown in tests/parity."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models.rtmdet import rtmdet_ins_tiny
from halfpixel.zoo.convert.mmdet_rtmdet import convert
from halfpixel.zoo.convert.state_dicts import names_for

State = dict[str, Tensor]

BACK = (
    (r"head\.tower\.(\d)\.conv\.weight", [f"bbox_head.{kind}_convs.{n}.\\1.conv.weight"
                                          for kind in ("cls", "reg") for n in range(3)]),
    (r"head\.tower\.(\d)\.norms\.(\d)\.(\w+)", [f"bbox_head.{kind}_convs.\\2.\\1.bn.\\3" for kind in ("cls", "reg")]),
    (r"head\.kernel_towers\.(.+)", [r"bbox_head.kernel_convs.\1"]),
    (r"head\.logits\.(.+)", [r"bbox_head.rtm_cls.\1"]),
    (r"head\.distances\.(.+)", [r"bbox_head.rtm_reg.\1"]),
    (r"head\.filters\.(.+)", [r"bbox_head.rtm_kernel.\1"]),
    (r"head\.fuse\.(.+)", [r"bbox_head.mask_head.fusion_conv.\1"]),
    (r"head\.mask_convs\.(.+)", [r"bbox_head.mask_head.stacked_convs.\1"]),
    (r"head\.maps\.(.+)", [r"bbox_head.mask_head.projection.\1"]),
    (r"(backbone|neck)\.(.+)", [r"\1.\2"]),
)  # fmt: skip
"""Our names and theirs, each of which stands for the same weights."""


@pytest.fixture(scope="module")
def theirs() -> State:
    """A small network's weights under their names, colours in their order."""
    torch.manual_seed(0)
    found = {}
    for name, tensor in rtmdet_ins_tiny(tuple("abc")).state_dict().items():
        pattern, names = next(one for one in BACK if re.fullmatch(one[0], name))
        for other in names:
            found[re.sub(pattern, other, name)] = tensor
            if name.endswith("running_var"):
                found[re.sub(pattern, other, name).replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    found["backbone.stem.0.conv.weight"] = found["backbone.stem.0.conv.weight"].flip(1)
    return found


def test_every_weight_arrives(theirs: State) -> None:
    torch.manual_seed(0)
    ours = rtmdet_ins_tiny(tuple("abc")).state_dict()
    model, info = convert(theirs)
    assert (info.variant, info.class_names) == ("rtmdet_ins_tiny", ("class 1", "class 2", "class 3"))
    assert (info.score_threshold, info.detection_limit, info.licence) == (0.05, 100, "")
    assert model.settings.cell_point == 0
    assert not model.training
    assert model.state_dict().keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in model.state_dict().items())


def test_a_published_file(theirs: State, tmp_path: Path) -> None:
    meta = {"dataset_meta": {"classes": ("x", "y", "z"), "palette": [(1, 2, 3)]}, "epoch": 300, "cfg": "model = ..."}
    torch.save({"meta": meta, "state_dict": theirs}, tmp_path / "rtmdet.pth")
    model, info = convert(torch.load(tmp_path / "rtmdet.pth", weights_only=True))
    assert model.class_names == info.class_names == ("x", "y", "z")
    assert convert({"state_dict": theirs, "meta": 3}, ["p", "q", "r"])[1].class_names == ("p", "q", "r")


def test_a_file_with_code_is_not_read(theirs: State, tmp_path: Path) -> None:
    """What a training run's file may hold beside tensors is refused by torch, and nothing of it runs."""
    torch.save({"meta": {"time": datetime.datetime(2022, 12, 14)}, "state_dict": theirs}, tmp_path / "run.pth")
    with pytest.raises(Exception, match="datetime"):
        torch.load(tmp_path / "run.pth", weights_only=True)


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def with_(name: str, tensor: Tensor) -> Callable[[State], State]:
    return lambda state: state | {name: tensor}


KERNEL = "bbox_head.rtm_kernel.1.bias"
SHARED = "bbox_head.reg_convs.2.1.conv.weight"
REFUSED: dict[str, tuple[Callable[[State], State], str]] = {
    "missing": (without("neck.out_convs.1.conv.weight"), r"neck\.out_convs\.1\.conv\.weight is missing"),
    "unexpected": (with_("neck.extra.weight", torch.zeros(1)), r"neck\.extra\.weight is unexpected"),
    "unheard of": (with_("roi_head.fc.weight", torch.zeros(1)), r"unexpected weights 'roi_head\.fc\.weight'"),
    "misshapen": (with_(KERNEL, torch.zeros(170)), r"head\.filters\.1\.bias is \[170\], expected \[169\]"),
    "not a number": (with_(KERNEL, torch.full((169,), torch.nan)), r"head\.filters\.1\.bias are not finite"),
    "not shared": (with_(SHARED, torch.ones(96, 96, 3, 3)), r"reg_convs\.2\.1\.conv\.weight are one weight there"),
    "no masks": (without("bbox_head.rtm_kernel.0.weight"), r"head\.filters\.0\.weight is missing"),
    "no classes": (without("bbox_head.rtm_cls.0.bias"), r"head\.logits\.0\.bias is missing"),
    "another width": (with_("backbone.stem.2.conv.weight", torch.zeros(40, 12, 3, 3)), "a stem of 40 channels"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_named(theirs: State, what: str) -> None:
    change, message = REFUSED[what]
    with pytest.raises(ModelFileError, match=message):
        convert(change(theirs))


def test_class_names(theirs: State) -> None:
    with pytest.raises(ArgumentError, match="2 class names for 3 classes"):
        convert(theirs, ["a", "b"])
    coco = names_for(None, None, 80)
    assert (len(set(coco)), coco[0], coco[-1]) == (80, "person", "toothbrush")
    assert names_for(None, ["a", "a"], 2) == ("class 1", "class 2")
    assert names_for(None, "ab", 2) == ("class 1", "class 2")
