"""Shapes of CSPNeXt and its pyramid; that they compute what MMDetection's do is shown in tests/parity."""

import pytest
import torch
from torch import nn

from halfpixel.nn.backbones.cspnext import ChannelAttention, CSPNeXt, CSPNeXtPAFPN
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, Norm


def test_the_backbone_has_the_promised_shapes() -> None:
    torch.manual_seed(0)
    model = CSPNeXt(0.167, 0.375)
    assert (model.channels, model.strides) == ((96, 192, 384), (8, 16, 32))
    with torch.no_grad():
        found = [tuple(one.shape) for one in model(torch.randn(2, 3, 64, 96))]
    assert found == [(2, 96, 8, 12), (2, 192, 4, 6), (2, 384, 2, 3)]


def test_the_backbone_s_stages_are_all_of_it() -> None:
    model = CSPNeXt(0.167, 0.25)
    stages = model.stages()
    assert len(stages) == 5  # a stem and strides 4, 8, 16, 32
    parts = {id(p) for stage in stages for part in stage for p in part.parameters()}
    assert parts == {id(p) for p in model.parameters()}


def test_weights_of_imagenet_have_the_names_of_the_backbone() -> None:
    torch.manual_seed(0)
    model, other = CSPNeXt(0.167, 0.25), CSPNeXt(0.167, 0.25)
    other.load_imagenet(model.state_dict() | {"head.fc.weight": torch.zeros(1)})
    assert all(torch.equal(one, other.state_dict()[name]) for name, one in model.state_dict().items())


@pytest.mark.parametrize("widths", [None, (16, 24, 32)])
@pytest.mark.parametrize("norm", [None, FrozenBatchNorm2d])
def test_the_pyramid_has_one_width(widths: tuple[int, ...] | None, norm: Norm | None) -> None:
    torch.manual_seed(0)
    model = CSPNeXtPAFPN((8, 12, 32), 20, 1, widths, norm)
    maps = [torch.randn(1, c, 32 >> k, 48 >> k) for k, c in enumerate((8, 12, 32))]
    with torch.no_grad():
        found = [tuple(one.shape) for one in model(maps)]
    assert found == [(1, 20, 32, 48), (1, 20, 16, 24), (1, 20, 8, 12)]
    assert any(isinstance(one, FrozenBatchNorm2d) for one in model.modules()) == (norm is not None)


def test_every_level_hears_of_every_other() -> None:
    torch.manual_seed(0)
    model = CSPNeXtPAFPN((8, 8, 8), 8, 1)
    for k in range(3):
        maps = [torch.randn(1, 8, 16 >> j, 16 >> j, requires_grad=j == k) for j in range(3)]
        for out in model(maps):
            (gradient,) = torch.autograd.grad(out.sum(), maps[k], retain_graph=True)
            assert gradient.abs().max() > 0


def test_attention_weighs_channels_by_all_means() -> None:
    model = ChannelAttention(2)
    nn.init.zeros_(model.fc.weight)
    model.fc.weight.data[0, 1] = 6.0  # the first follows from the second channel's mean
    model.fc.bias.data = torch.tensor([0.0, -9.0])
    x = torch.ones(1, 2, 4, 4)
    x[:, 1, :2] = 0.5
    with torch.no_grad():
        found = model(x)  # hardsigmoid: (x + 3) / 6, cut to 0..1
    torch.testing.assert_close(found[0, 0], torch.ones(4, 4))
    assert found[0, 1].abs().max() == 0
