"""The network that finds sizes, in model files: there and back, and everything that may be wrong with it."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from calling import always
from safetensors import safe_open
from safetensors.torch import save_file
from test_modelfile import DIAMETERS, info, model, written

from halfpixel.errors import ModelFileError
from halfpixel.models.mask_rcnn import MaskRCNN
from halfpixel.structures.diameters import SizeFinderInfo
from halfpixel.zoo.modelfile import (
    ModelInfo,
    description_of,
    load_model,
    load_size_network,
    parse_info,
    read_info,
    save_described,
    save_model,
)

__all__ = ["info", "model", "written"]
"""Fixtures that are used here, too."""

SIZE_FINDER = SizeFinderInfo(0.31, 0.3, "a test", "CC0-1.0")


@pytest.fixture
def finding(model: MaskRCNN, info: ModelInfo, tmp_path: Path) -> Path:
    """A file with a network that finds sizes."""
    finds = dataclasses.replace(info, diameters=DIAMETERS, size_finder=SIZE_FINDER)
    save_model(tmp_path / "finding.safetensors", model, finds, size_network=always(3))
    return tmp_path / "finding.safetensors"


def test_what_finds_sizes_comes_along(model: MaskRCNN, info: ModelInfo, written: Path, finding: Path) -> None:
    loaded, read = load_model(finding)
    assert read.size_finder == SIZE_FINDER
    assert loaded.state_dict().keys() == model.state_dict().keys()
    network = load_size_network(finding, read)
    assert network is not None
    assert not network.training
    assert torch.equal(network.logits.bias, always(3).logits.bias)
    assert load_size_network(written, info) is None
    assert "size_finder" not in json.loads(description_of(info))  # older versions would not know what it is


def test_one_goes_with_the_other(model: MaskRCNN, finding: Path, tmp_path: Path) -> None:
    """A description without the weights is left out, and weights go where their description is taken away."""
    info = read_info(finding)
    save_model(tmp_path / "without.safetensors", model, info)
    assert read_info(tmp_path / "without.safetensors").size_finder is None
    copy = tmp_path / "copy.safetensors"
    save_described(copy, finding, dataclasses.replace(info, score_threshold=0.4))
    assert load_size_network(copy, read_info(copy)) is not None
    save_described(copy, finding, dataclasses.replace(info, size_finder=None))
    assert load_model(copy)[1].size_finder is None
    assert copy.stat().st_size < finding.stat().st_size


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


BIAS = "size_finder.logits.bias"
SPOILT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda state: state.pop(BIAS), f"not the weights of the size finder: {BIAS} is missing"),
    "unexpected": (lambda state: state.update({"size_finder.x": torch.ones(1)}), "size_finder.x is unexpected"),
    "shape": (lambda state: state.update({BIAS: torch.ones(3)}), rf"{BIAS} is \[3\], expected \[14\]"),
    "NaN": (lambda state: state[BIAS].fill_(math.nan), f"the weights {BIAS} are not finite"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_spoilt_weights_of_what_finds_sizes(finding: Path, tmp_path: Path, what: str) -> None:
    change, message = SPOILT[what]
    state, path = tensors_of(finding), tmp_path / "spoilt.safetensors"
    change(state)
    save_file(state, path, {"halfpixel": description_of(read_info(finding))})
    with pytest.raises(ModelFileError, match=f"spoilt.safetensors: .*{message}"):
        load_size_network(path, read_info(path))


def test_weights_that_nothing_is_said_of(finding: Path, info: ModelInfo, tmp_path: Path) -> None:
    save_file(tensors_of(finding), tmp_path / "m.safetensors", {"halfpixel": description_of(info)})
    with pytest.raises(ModelFileError, match=r"size_finder\..* is unexpected"):
        load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"error_octaves": -1}, "size_finder: error_octaves"),
        ({}, "size_finder: .*error_octaves"),
        ({"error_octaves": 0.3, "x": 1}, "size_finder: there is no field 'x'"),
        (3, "size_finder: "),
    ],
)
def test_a_broken_description_of_what_finds_sizes(info: ModelInfo, said: object, message: str) -> None:
    description = json.loads(description_of(info)) | {"size_finder": said}
    with pytest.raises(ModelFileError, match=message):
        parse_info(json.dumps(description), Path("m.safetensors"))
