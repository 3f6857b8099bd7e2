"""Convolutions in a few cells against whole maps."""

import pytest
import torch

from halfpixel.nn.backbones.cspnext import SiluConv
from halfpixel.nn.conv_blocks import ConvBlock, FrozenBatchNorm2d
from halfpixel.nn.few_cells import in_cells

BLOCKS = {
    "one": lambda: [ConvBlock(3, 4)],
    "three": lambda: [ConvBlock(3, 5), ConvBlock(5, 4, activation=False), ConvBlock(4, 6)],
    "normalised": lambda: [ConvBlock(3, 4, norm=FrozenBatchNorm2d), ConvBlock(4, 4, norm=FrozenBatchNorm2d)],
    "SiLU": lambda: [SiluConv(3, 4), SiluConv(4, 4, norm=None)],
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_values_and_gradients_are_those_of_whole_maps(kind: str) -> None:
    torch.manual_seed(0)
    blocks = torch.nn.Sequential(*BLOCKS[kind]()).double()
    for parameter in blocks.parameters():
        torch.nn.init.normal_(parameter)
    maps = torch.randn(2, 3, 5, 7, dtype=torch.float64, requires_grad=True)
    image, rows, columns = torch.tensor([[0, 0, 0], [0, 4, 6], [0, 4, 6], [1, 2, 3], [1, 0, 5], [1, 4, 0]]).T
    found = in_cells(blocks, maps, image, rows, columns)
    expected = blocks(maps)[image, :, rows, columns]
    torch.testing.assert_close(found, expected)
    weights, inputs = torch.randn_like(expected), [maps, *blocks.parameters()]
    gradients = torch.autograd.grad((found * weights).sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), inputs))


def test_no_cells_have_gradients_of_zero() -> None:
    """Which several processes want of every weight in every step."""
    blocks = torch.nn.Sequential(ConvBlock(3, 4), ConvBlock(4, 4))
    none = torch.zeros(0, dtype=torch.int64)
    found = in_cells(blocks, torch.randn(2, 3, 5, 7), none, none, none)
    assert found.shape == (0, 4)
    for gradient in torch.autograd.grad(found.sum(), list(blocks.parameters())):
        assert not gradient.any()
