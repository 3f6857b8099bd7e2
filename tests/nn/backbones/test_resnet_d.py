"""ResNet-D against timm's, with timm's names and random weights."""

import pytest
import timm
import torch
from test_backbones import assert_close, image, wear
from torch import nn

from halfpixel.errors import ModelFileError
from halfpixel.nn.backbones.backbone import STRIDES
from halfpixel.nn.backbones.resnet_d import ResNetD

DEPTHS = {"basic": (2, 2, 2, 2), "bottleneck": (3, 4, 6, 3)}


def theirs(block: str) -> nn.Module:
    torch.manual_seed(0)
    name = {"basic": "resnet18d", "bottleneck": "resnet50d"}[block]
    return wear(timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4)))


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_resnet_d_equals_timm(block: str) -> None:
    """Also where the first shortcut is a layer here and nothing there."""
    partner, ours = theirs(block), ResNetD(DEPTHS[block], block).eval()  # type: ignore[arg-type]
    ours.load_imagenet(partner.state_dict())
    with torch.no_grad():
        found, expected = ours(image()), partner(image())
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b)
    assert [one.shape[1] for one in found] == list(ours.channels)
    assert [image().shape[2] // one.shape[2] for one in found] == list(STRIDES)


@pytest.mark.parametrize(("ours", "partner"), [("basic", "bottleneck"), ("bottleneck", "basic")])
def test_weights_of_the_other_are_refused(ours: str, partner: str) -> None:
    with pytest.raises(ModelFileError, match="not weights of this backbone"):
        ResNetD(DEPTHS[ours], ours).load_imagenet(theirs(partner).state_dict())  # type: ignore[arg-type]


def test_stages_hold_all_of_it() -> None:
    model = ResNetD(DEPTHS["basic"], "basic")
    held = {id(one) for stage in model.stages() for part in stage for one in part.parameters()}
    assert held == {id(one) for one in model.parameters()}
