"""Against torch's own convolution, computed in float64."""

import pytest
import torch

from halfpixel.ops import winograd
from halfpixel.ops.winograd import winograd_conv2d, winograd_kernels


def example(
    b: int, c: int, d: int, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(b + c + d + height + width)
    x, weight, bias = (
        torch.randn(*shape, generator=generator) for shape in ((b, c, height, width), (d, c, 3, 3), (d,))
    )
    expected = torch.nn.functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    return x, weight, bias, expected


@pytest.mark.parametrize(
    "shape", [(1, 16, 8, 40, 28), (2, 5, 7, 13, 18), (3, 4, 6, 4, 5), (1, 2, 3, 1, 1), (2, 3, 3, 2, 9)]
)
@pytest.mark.parametrize("cache_bytes", [1, 20_000, 1 << 24])
def test_equals_the_sum_of_products(
    shape: tuple[int, int, int, int, int], cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "CACHE_BYTES", cache_bytes)
    x, weight, bias, expected = example(*shape)
    found = winograd_conv2d(x.contiguous(memory_format=torch.channels_last), winograd_kernels(weight), bias)
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_the_groups_of_tiles_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias, _ = example(3, 4, 8, 30, 22)
    kernels = winograd_kernels(weight)
    at_once = winograd_conv2d(x, kernels, bias)
    monkeypatch.setattr(winograd, "CACHE_BYTES", 1)
    torch.testing.assert_close(winograd_conv2d(x, kernels, bias), at_once, rtol=1e-6, atol=1e-6)


def test_the_layout_of_the_input_does_not_matter_and_a_bias_may_be_missing() -> None:
    x, weight, bias, expected = example(2, 3, 4, 9, 10)
    found = winograd_conv2d(x, winograd_kernels(weight), None) + bias[:, None, None]
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
