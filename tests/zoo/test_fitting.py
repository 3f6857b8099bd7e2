"""Weights that do not fit are refused by name, before any memory is asked for."""

import json
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_mmdet_solov2 import theirs
from torch import Tensor

from halfpixel.engine.load import load
from halfpixel.errors import ModelFileError
from halfpixel.models.mask_rcnn import mask_rcnn_lite
from halfpixel.zoo.convert import mmdet_solov2
from halfpixel.zoo.convert.state_dicts import MOST_CLASSES, names_for
from halfpixel.zoo.modelfile import ModelInfo, description_of, load_model

State = dict[str, Tensor]
BIAS = "rpn.deltas.bias"


def packed(tensor: Tensor) -> Tensor:
    """Two numbers of 4 bits in a byte, with which torch can do nothing."""
    return torch.zeros(tensor.shape, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)


WRONG: dict[str, tuple[Callable[[State], object], str]] = {
    "missing": (lambda state: state.pop(BIAS), "rpn.deltas.bias is missing"),
    "unexpected": (lambda state: state.update(zzz=torch.zeros(1)), "zzz is unexpected"),
    "misshapen": (lambda state: state.update({BIAS: torch.zeros(5)}), r"rpn.deltas.bias is \[5\], expected \[12\]"),
    "complex": (lambda state: state.update({BIAS: state[BIAS].to(torch.complex64)}), f"{BIAS} are complex numbers"),
    "whole": (lambda state: state.update({BIAS: state[BIAS].long()}), f"{BIAS} are whole numbers, expected floating"),
    "packed": (lambda state: state.update({BIAS: packed(state[BIAS])}), f"{BIAS} are several in a byte, expected"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_told_apart(what: str, tmp_path: Path) -> None:
    change, message = WRONG[what]
    state = mask_rcnn_lite(("a",), None).state_dict()
    change(state)
    path = tmp_path / "m.safetensors"
    save_file(state, path, {"halfpixel": description_of(ModelInfo("mask_rcnn_lite", ("a",)))})
    with pytest.raises(ModelFileError, match=rf"m\.safetensors: not the weights of mask_rcnn_lite: .*{message}"):
        load_model(path)


def test_a_small_file_that_describes_a_huge_network_asks_for_no_memory(tmp_path: Path) -> None:
    description = json.loads(description_of(ModelInfo("mask2former_swin_l", ("a",))))
    path = tmp_path / "m.safetensors"
    for queries in (10**6, 10**9):
        description["settings"] = {"queries": queries}
        save_file({"w": torch.zeros(1)}, path, {"halfpixel": json.dumps(description)})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ModelFileError, match="not the weights of mask2former_swin_l"):
            load_model(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # the network has 800 MB, in KiB


ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "larger than what is there": (lambda t: t.flatten()[:1].expand(10**12), "only .* bytes are there"),
    "sparse": (lambda t: t.to_sparse(), "not plain numbers"),
    "not there": (lambda t: t.to("meta"), "not plain numbers"),
    "a single number": (lambda t: torch.tensor(1.0), "a single number"),
    "packed": (packed, "not plain numbers"),
    "complex": (lambda t: t.to(torch.complex64), "complex numbers"),
    "whole": (lambda t: t.long(), "whole numbers"),
    "without rows": (lambda t: t[:0], "0 classes|expected"),
}


@pytest.mark.parametrize("name", ["mask_head.conv_cls.bias", "mask_head.conv_cls.weight"])
@pytest.mark.parametrize("what", ODD)
def test_tensors_of_others_that_are_no_plain_numbers(what: str, name: str) -> None:
    change, message = ODD[what]
    state = theirs()
    state[name] = change(state[name])
    with pytest.raises(ModelFileError, match=message):
        mmdet_solov2.convert(state)


def test_an_expanded_tensor_in_a_file(tmp_path: Path) -> None:
    state = theirs()
    state["mask_head.conv_cls.bias"] = torch.zeros(1).expand(10**12)
    torch.save({"state_dict": state}, tmp_path / "s.pth")
    with pytest.raises(ModelFileError, match=r"s\.pth: .*conv_cls\.bias.*bytes are there"):
        load(tmp_path / "s.pth")


@pytest.mark.parametrize("classes", [-1, 0, MOST_CLASSES + 1, 30_000_000])
def test_as_many_classes_as_no_model_has(classes: int) -> None:
    with pytest.raises(ModelFileError, match="expected 1 to 100,000"):
        names_for(None, None, classes)
