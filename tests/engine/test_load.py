"""Weights from files that are no model files."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import maskrcnn_resnet50_fpn

from halfpixel import load
from halfpixel.errors import ModelFileError


def test_weights_of_torchvision_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    torch.save(module.state_dict(), tmp_path / "theirs.pth")
    loaded = load(tmp_path / "theirs.pth")
    assert loaded.info.variant == "mask_rcnn_r50_fpn"
    assert loaded.info.detection_limit == 100
    assert loaded.class_names == ("class 1", "class 2")
    assert loaded.model.settings.alignment == "torchvision"
    assert torch.equal(loaded.model.backbone.conv1.weight.cpu(), module.backbone.body.conv1.weight)


class Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_malicious_file_is_refused_and_does_nothing(writer: str, tmp_path: Path) -> None:
    path, trace = tmp_path / "evil.pth", tmp_path / "executed"
    payload = {"weight": Malicious(f"touch '{trace}'")}
    if writer == "torch":
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    with pytest.raises(ModelFileError, match=r"evil\.pth: not a file of weights only"):
        load(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if writer == "torch" else pickle.loads(path.read_bytes())
    assert trace.exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"no weights", torch.zeros(3), {"epoch": 3}, {"other": torch.zeros(3)}])
def test_an_unusable_pth_file(content: object, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelFileError) as caught:
        load(path)
    assert "odd.pth" in str(caught.value)
