"""The assignment against all permutations."""

from itertools import permutations

import pytest
import torch

from halfpixel.nn.hungarian import assign


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("queries", "objects"), [(5, 3), (4, 4), (3, 5)])
def test_no_permutation_costs_less(queries: int, objects: int, seed: int) -> None:
    cost = torch.randn(queries, objects, generator=torch.Generator().manual_seed(seed))
    rows, columns = assign(cost)
    fewer = min(queries, objects)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == fewer
    assert torch.equal(rows, rows.sort().values)
    wide = cost if queries <= objects else cost.T
    least = min(sum(wide[k, j].item() for k, j in enumerate(one)) for one in permutations(range(wide.shape[1]), fewer))
    assert cost[rows, columns].sum().item() == pytest.approx(least, abs=1e-5)


def test_nothing_to_assign() -> None:
    rows, columns = assign(torch.zeros(4, 0))
    assert rows.dtype == columns.dtype == torch.int64
    assert len(rows) == len(columns) == 0


def test_what_costs_no_number_is_paired_last() -> None:
    cost = torch.tensor([[float("nan"), 5.0], [3.0, float("inf")], [float("nan"), float("nan")]])
    rows, columns = assign(cost)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (1, 0)]


def test_no_gradient_flows_through_it() -> None:
    assign(torch.randn(3, 2, requires_grad=True))
