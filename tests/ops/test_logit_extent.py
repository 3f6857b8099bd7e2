"""Boxes of masks on maps, against the same masks drawn very finely."""

import torch
from torch import Tensor, nn

from halfpixel.ops.logit_extent import logit_extents
from halfpixel.ops.point_sample import point_sample

FINE = 64


def maps(count: int = 40, height: int = 7, width: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, height, width, generator=generator) - 1.5
    return torch.where(logits > 0, logits + 0.2, logits)  # no spots that a drawing misses


def drawn(logits: Tensor, seen_wh: tuple[float, float]) -> Tensor:
    """Box of the points above 0 among very many, of those that are seen."""
    height, width = logits.shape
    y, x = ((torch.arange(side * FINE) + 0.5) / FINE for side in (height, width))
    points = torch.cartesian_prod(y, x).flip(1)
    above = point_sample(logits[None, None], points[None]).reshape(len(y), len(x)) > 0
    across, down = x[above[y < seen_wh[1]].any(0)], y[above[:, x < seen_wh[0]].any(1)]
    if len(across) == 0 or len(down) == 0:
        return torch.zeros(4)
    return torch.stack([across[0], down[0], across[-1], down[-1]])


def test_against_fine_drawings() -> None:
    logits = maps()
    found = logit_extents(logits, torch.tensor([9.0, 7.0]))
    expected = torch.stack([drawn(one, (9, 7)) for one in logits])
    assert (expected[:, 2] > 0).float().mean() > 0.9
    assert (found - expected).abs().max() < 3 / FINE  # thin tips lie between the points


def test_what_counts_may_end_between_centres() -> None:
    logits, seen_wh = maps(), torch.tensor([6.3, 4.8])
    found = logit_extents(logits, seen_wh).minimum(seen_wh.repeat(2))
    expected = torch.stack([drawn(one, (6.3, 4.8)).minimum(seen_wh.repeat(2)) for one in logits])
    apart = (found - expected).abs() > 3 / FINE
    assert apart.sum() <= 1  # one begins between the last points and the edge


def test_one_cell_reaches_as_far_as_its_logit() -> None:
    logits = torch.full((1, 5, 6), -1.0)
    logits[0, 2, 3] = 3.0
    assert logit_extents(logits, torch.tensor([6.0, 5.0]))[0].tolist() == [2.75, 1.75, 4.25, 3.25]


def test_the_edge_goes_on() -> None:
    logits = torch.full((2, 3, 4), -1.0)
    logits[0, :, 0], logits[1, 2, 3] = 1.0, 1.0
    found = logit_extents(logits, torch.tensor([4.0, 3.0])).tolist()
    assert found == [[0.0, 0.0, 1.0, 3.0], [3.0, 2.0, 4.0, 3.0]]


def test_nothing_above_0_and_a_map_of_one_cell() -> None:
    assert logit_extents(-torch.ones(2, 3, 4), torch.tensor([4.0, 3.0])).tolist() == [[0.0] * 4] * 2
    assert logit_extents(torch.ones(1, 1, 1), torch.tensor([1.0, 1.0])).tolist() == [[0.0, 0.0, 1.0, 1.0]]
    assert logit_extents(torch.ones(0, 3, 4), torch.tensor([4.0, 3.0])).shape == (0, 4)


def test_what_lies_beyond_the_image_does_not_widen_a_box() -> None:
    logits = nn.functional.pad(torch.full((1, 3, 3), -1.0), (0, 3, 0, 3), value=-1.0)
    logits[0, 1, 1] = 1.0
    logits[0, 4, :] = 1.0  # below what is seen
    left, top, right, bottom = logit_extents(logits, torch.tensor([3.0, 3.0]))[0].tolist()
    assert (left, right) == (1.0, 2.0)
    assert (top, bottom) == (1.0, 5.0)  # to be cut there
