import math

import pytest
import torch

from halfpixel.ops.finite import all_finite, is_finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_one_of_many(bad: float, dtype: torch.dtype) -> None:
    values = torch.linspace(-6e4, 6e4, 60).reshape(3, 20).to(dtype)
    assert all_finite(values)
    values[1, 7] = bad
    assert not all_finite(values)


def test_nothing_and_whole_numbers_are_finite() -> None:
    assert all_finite(torch.zeros(0, 4))
    assert all_finite(torch.tensor([2**60, -1]))


@pytest.mark.parametrize(("bad", "expected"), [(0.0, True), (math.nan, False), (math.inf, False)])
def test_as_a_tensor(bad: float, expected: bool) -> None:
    assert bool(is_finite(torch.ones(3), torch.tensor([[1.0, bad]]))) is expected
    assert bool(is_finite(torch.zeros(0), torch.zeros(0, 4)))
