import pytest
import torch
from torch import nn

from halfpixel.nn.conv_blocks import ConvBlock, FrozenBatchNorm2d, conv_stack


def worn_norm(channels: int) -> nn.BatchNorm2d:
    """A normalisation with statistics of its own."""
    norm = nn.BatchNorm2d(channels)
    generator = torch.Generator().manual_seed(channels)
    for tensor, low, high in (
        (norm.weight, 0.5, 1.5),
        (norm.bias, -1, 1),
        (norm.running_mean, -1, 1),
        (norm.running_var, 0.1, 2),
    ):
        assert tensor is not None
        tensor.data.uniform_(low, high, generator=generator)
    return norm


@pytest.mark.parametrize("training", [False, True])
def test_frozen_normalisation_equals_torch_s_in_evaluation(training: bool) -> None:
    norm = worn_norm(5).eval()
    frozen = FrozenBatchNorm2d(5).train(training)
    frozen.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "num_batches_tracked"})
    x = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(frozen(x), norm(x))


def test_frozen_statistics_stay_while_scale_and_shift_learn() -> None:
    frozen = FrozenBatchNorm2d(2).train()
    frozen(5 + torch.randn(4, 2, 3, 3)).square().sum().backward()
    assert frozen.running_mean.tolist() == [0, 0]
    assert frozen.running_var.tolist() == [1, 1]
    assert frozen.weight.grad is not None
    assert frozen.weight.grad.all()


def test_the_kind_of_number_stays() -> None:
    assert FrozenBatchNorm2d(2)(torch.randn(1, 2, 3, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_block_has_a_bias_only_without_normalisation() -> None:
    assert ConvBlock(3, 4).conv.bias is not None
    assert ConvBlock(3, 4, norm=FrozenBatchNorm2d).conv.bias is None
    x = torch.randn(1, 3, 5, 7)
    assert ConvBlock(3, 4)(x).min() == 0
    assert ConvBlock(3, 4, activation=False)(x).min() < 0
    assert ConvBlock(3, 4, kernel=1)(x).shape == (1, 4, 5, 7)


def test_a_stack_keeps_the_size_and_may_be_empty() -> None:
    stack = conv_stack(3, (8, 4, 2))
    assert [block.conv.out_channels for block in stack] == [8, 4, 2]
    assert stack(torch.randn(1, 3, 6, 5)).shape == (1, 2, 6, 5)
    x = torch.randn(1, 3, 2, 2)
    assert conv_stack(3, ())(x) is x
