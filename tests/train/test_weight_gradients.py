"""Gradients of convolutions, as torch computes them."""

import pytest
import torch
from torch import Tensor, nn

from halfpixel.train import weight_gradients
from halfpixel.train.weight_gradients import WeightGradients

CONVOLUTIONS = {
    "3 x 3": nn.Conv2d(16, 24, 3, padding=1),
    "without bias": nn.Conv2d(16, 8, 3, bias=False),
    "strided": nn.Conv2d(16, 24, 3, 2, 1),
    "dilated": nn.Conv2d(16, 24, (3, 5), padding=(2, 4), dilation=2),
}
OTHERS = {
    "1 x 1": nn.Conv2d(16, 24, 1),
    "depthwise": nn.Conv2d(16, 16, 3, groups=16),
    "of an image": nn.Conv2d(3, 24, 3),
    "padded by name": nn.Conv2d(16, 24, 3, padding="same"),
}


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Results of the other way, which the test machine is made to want whatever it is."""
    results: list[Tensor] = []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    other_way = weight_gradients._Convolution.apply
    monkeypatch.setattr(
        weight_gradients._Convolution, "apply", lambda *given: results.append(other_way(*given)) or results[-1]
    )
    return results


def channels_last(channels: int) -> Tensor:
    return torch.randn(2, channels, 9, 12).to(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_values_and_gradients_are_torchs(name: str, counted: list[Tensor]) -> None:
    torch.manual_seed(0)
    conv, x = CONVOLUTIONS[name], channels_last(16)
    expected = conv(x)
    with WeightGradients():
        found = conv(x)
    assert len(counted) == 1
    assert torch.equal(found, expected)
    weights, inputs = torch.randn_like(expected), [x, *conv.parameters()]
    gradients = torch.autograd.grad((nn.functional.relu(found, inplace=True) * weights).sum(), inputs)
    expected = torch.autograd.grad((expected.relu() * weights).sum(), inputs)
    torch.testing.assert_close(gradients, expected, atol=1e-4, rtol=1e-5)


def test_what_has_no_gradient_gets_none() -> None:
    conv, x = nn.Conv2d(16, 8, 3), channels_last(16)
    conv.requires_grad_(False).weight.requires_grad_(True)
    with WeightGradients():
        conv(x.detach()).sum().backward()
    assert conv.weight.grad is not None
    assert x.grad is None
    assert conv.bias is not None
    assert conv.bias.grad is None


@pytest.mark.parametrize("name", OTHERS)
def test_other_convolutions_are_left_to_torch(name: str, counted: list[Tensor]) -> None:
    conv = OTHERS[name]
    with WeightGradients():
        conv(channels_last(conv.in_channels)).sum().backward()
    assert not counted


def test_torch_computes_all_else(counted: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gradients, in half precision, channels first, and on other processors."""
    conv, x = nn.Conv2d(16, 8, 3), channels_last(16)
    with WeightGradients():
        with torch.no_grad():
            conv(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert conv(x).dtype == torch.bfloat16
        conv(x.contiguous())
        conv.requires_grad_(False)(x)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
        conv.requires_grad_(True)(x)
    assert not counted
