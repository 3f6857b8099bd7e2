"""Pairs that may overlap, against all pairs."""

import pytest
import torch
from torch import Tensor

from halfpixel.ops import boxes
from halfpixel.ops.box_grid import BoxGrid


def crowd(n: int, side_px: float, sizes_px: tuple[float, float], seed: int = 0) -> Tensor:
    """Boxes whose sides are spread evenly over octaves."""
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(sizes_px).log()
    sides = (low + (high - low) * torch.rand(n, 2, generator=generator)).exp()
    corners = side_px * torch.rand(n, 2, generator=generator) - 100
    return torch.cat([corners, corners + sides], 1)


def pairs_of(grid: BoxGrid, rows: Tensor) -> set[tuple[int, int]]:
    first, second = grid.near(rows)
    return set(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("sizes_px", [(0.01, 400.0), (20.0, 60.0), (32.0, 32.0)])
@pytest.mark.parametrize("groups", [1, 4])
def test_no_pair_that_overlaps_is_left_out(threshold: float, sizes_px: tuple[float, float], groups: int) -> None:
    some = crowd(400, 300, sizes_px, groups)
    some[200:] = some[:200] + torch.rand(200, 4, generator=torch.Generator().manual_seed(1))  # near the first half
    group = torch.arange(400) // 2 % groups
    rows = torch.arange(0, 400, 3)
    over = (boxes.iou(some, some) > threshold) & (group[:, None] == group)
    expected = {(int(i), int(j)) for i, j in over.nonzero() if i % 3 == 0}
    assert expected <= pairs_of(BoxGrid(some, group, threshold), rows)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
def test_each_pair_comes_once_and_groups_do_not_meet(threshold: float) -> None:
    some, group = crowd(300, 200, (5, 90)), torch.arange(300) % 3
    first, second = BoxGrid(some, group, threshold).near(torch.arange(300))
    assert len(first) == len(set(zip(first.tolist(), second.tolist(), strict=True)))
    assert torch.equal(group[first], group[second])


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
def test_four_times_the_boxes_on_four_times_the_area_are_four_times_the_pairs(threshold: float) -> None:
    numbers = []
    for n, side_px in ((2000, 1000), (8000, 2000), (32000, 4000)):
        grid = BoxGrid(crowd(n, side_px, (10, 70)), torch.zeros(n, dtype=torch.int64), threshold)
        numbers.append(len(grid.near(torch.arange(n))[0]))
    assert numbers[1] / numbers[0] < 5
    assert numbers[2] / numbers[1] < 4.5
    assert numbers[2] < 32000 * (60 if threshold else 400)


def test_far_from_the_origin_and_of_many_classes() -> None:
    some = crowd(50, 20, (1, 30)) + 1e5
    group = torch.arange(50) % 2 * 99_999
    expected = ((boxes.iou(some.double(), some.double()) > 0.3) & (group[:, None] == group)).nonzero().tolist()
    assert {(i, j) for i, j in expected} <= pairs_of(BoxGrid(some, group, 0.3), torch.arange(50))
