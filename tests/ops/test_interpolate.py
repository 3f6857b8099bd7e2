import numpy as np
import pytest
import torch
from oracles.paste import interpolate_slowly

from halfpixel.ops.interpolate import linear_weights


def test_weights_interpolate_like_numpy_and_the_oracle() -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.rand(7, generator=generator, dtype=torch.float64)
    positions = torch.rand(50, generator=generator, dtype=torch.float64) * 10 - 2
    found = linear_weights(positions, 7) @ samples
    np.testing.assert_allclose(found, np.interp(positions, np.arange(7), samples), atol=1e-12)
    slow = [interpolate_slowly(samples.tolist(), position) for position in positions.tolist()]
    np.testing.assert_allclose(found, slow, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_each_row_sums_to_one(n: int) -> None:
    weights = linear_weights(torch.linspace(-3, 12, 101), n)
    assert weights.shape == (101, n)
    torch.testing.assert_close(weights.sum(1), torch.ones(101))
    assert (weights >= 0).all()


def test_whole_positions_pick_their_sample() -> None:
    assert torch.equal(linear_weights(torch.arange(4.0), 4), torch.eye(4))


def test_leading_dimensions_and_no_positions() -> None:
    positions = torch.rand(2, 3, 5) * 4
    assert torch.equal(linear_weights(positions, 6)[1, 2], linear_weights(positions[1, 2], 6))
    assert linear_weights(torch.zeros(0), 6).shape == (0, 6)


def test_gradient() -> None:
    positions = torch.tensor([0.3, 1.6, 2.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: linear_weights(p, 5), positions)
