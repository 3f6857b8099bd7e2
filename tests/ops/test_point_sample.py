"""Sampling maps in points: a loop and torch's own, which goes through a range of -1 to 1, as oracles."""

import math

import torch
from torch import Tensor

from halfpixel.ops.point_sample import point_sample


def maps(height: int = 5, width: int = 7, images: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(images, 3, height, width, dtype=torch.float64, generator=generator)


def points(count: int = 50, height: int = 5, width: int = 7) -> Tensor:
    """Some of them beyond the maps."""
    generator = torch.Generator().manual_seed(1)
    spread = torch.rand(2, count, 2, dtype=torch.float64, generator=generator)
    return spread * torch.tensor([width + 2.0, height + 2.0]) - 1


def by_loop(values: Tensor, x: float, y: float) -> float:
    height, width = values.shape
    x, y = min(max(x - 0.5, 0), width - 1), min(max(y - 0.5, 0), height - 1)
    total = 0.0
    for i in range(height):
        for j in range(width):
            total += max(1 - abs(x - j), 0) * max(1 - abs(y - i), 0) * float(values[i, j])
    return total


def test_it_equals_a_loop() -> None:
    found = point_sample(maps(), points())
    for k in range(2):
        for channel in range(3):
            for n, (x, y) in enumerate(points()[k].tolist()):
                assert math.isclose(found[k, channel, n], by_loop(maps()[k, channel], x, y), abs_tol=1e-12)


def test_it_equals_torch_s_own() -> None:
    grid = 2 * points() / torch.tensor([7.0, 5.0]) - 1
    expected = torch.nn.functional.grid_sample(maps(), grid[:, None], padding_mode="border", align_corners=False)
    torch.testing.assert_close(point_sample(maps(), points()), expected[:, :, 0], atol=1e-12, rtol=0)


def test_cell_centres_give_the_cells_themselves() -> None:
    one = torch.randn(1, 4, 333, 1001)
    y, x = torch.meshgrid(torch.arange(333) + 0.5, torch.arange(1001) + 0.5, indexing="ij")
    found = point_sample(one, torch.stack([x, y], 2).reshape(1, -1, 2))
    assert torch.equal(found.unflatten(2, (333, 1001)), one)


def test_a_map_of_one_cell_is_the_same_everywhere() -> None:
    one = maps(1, 1)
    assert torch.equal(point_sample(one, points()), one[:, :, 0].expand(2, 3, 50))


def test_no_points() -> None:
    assert point_sample(maps(), points(0)).shape == (2, 3, 0)


def test_gradients() -> None:
    given = maps().requires_grad_(), points(10).requires_grad_()
    assert torch.autograd.gradcheck(point_sample, given)
