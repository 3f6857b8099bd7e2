"""Losses in points against those over all pixels, and the choice of points."""

import pytest
import torch
from torch import Tensor, nn

from halfpixel.nn.point_losses import PointPlan, in_crowds, point_mask_costs, point_mask_losses

HEIGHT, WIDTH = 24, 32


def masks(count: int, seed: int) -> Tensor:
    """Smooth logits on a canvas."""
    coarse = 4 * torch.randn(count, 1, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic")[:, 0]


def dense_terms(logits: Tensor, truth: Tensor) -> tuple[float, float]:
    """By the definitions, pixel by pixel."""
    share = 1 / (1 + torch.exp(-logits))
    cross = -(truth * share.log() + (1 - truth) * (1 - share).log()).mean()
    dice = 1 - (2 * (share * truth).sum() + 1) / (share.sum() + truth.sum() + 1)
    return float(cross), float(dice)


def test_costs_of_all_pairs_against_dense_masks() -> None:
    logits, truths = masks(5, 0), masks(3, 1).sigmoid()
    cross, dice = point_mask_costs(logits.flatten(1), truths.flatten(1))
    for q in range(5):
        for n in range(3):
            expected = dense_terms(logits[q], truths[n])
            assert cross[q, n].item() == pytest.approx(expected[0], abs=1e-9)
            assert dice[q, n].item() == pytest.approx(expected[1], abs=1e-9)


def test_losses_against_dense_masks() -> None:
    logits, truths = masks(4, 2), masks(4, 3).sigmoid()
    found = point_mask_losses(logits.flatten(1), truths.flatten(1))
    expected = torch.tensor([dense_terms(*pair) for pair in zip(logits, truths, strict=True)]).sum(0)
    torch.testing.assert_close(torch.stack(found), expected.double(), atol=1e-6, rtol=1e-6)


def test_random_points_estimate_the_dense_loss() -> None:
    plan = PointPlan(20_000, oversampling=1.0, important=0.0)
    places = plan.draw((HEIGHT, WIDTH), torch.Generator().manual_seed(0))
    assert places.shape == (40_000, 2)
    x, y = places.long().unbind(1)
    logits, truths = masks(2, 4), masks(2, 5).sigmoid()
    found = point_mask_losses(logits[:, y, x], truths[:, y, x])[0]
    expected = point_mask_losses(logits.flatten(1), truths.flatten(1))[0]
    assert found.item() == pytest.approx(expected.item(), rel=0.02)


def test_the_least_certain_points_are_chosen() -> None:
    plan = PointPlan(8, oversampling=3.0, important=0.75)
    assert plan.draw((HEIGHT, WIDTH), torch.Generator().manual_seed(0)).shape == (24 + 2, 2)
    logits = torch.randn(3, 26, generator=torch.Generator().manual_seed(1))
    for row, chosen in zip(logits, plan.choose(logits), strict=True):
        assert sorted(chosen[:6].tolist()) == sorted(row[:24].abs().argsort()[:6].tolist())
        assert chosen[6:].tolist() == [24, 25]


def test_points_are_all_over_the_image_and_follow_the_generator() -> None:
    plan = PointPlan(1000)
    first, second = (plan.draw((HEIGHT, WIDTH), torch.Generator().manual_seed(k)) for k in (0, 0))
    assert torch.equal(first, second)
    assert first.min() >= 0
    assert first[:, 0].max() <= WIDTH
    assert first[:, 1].max() <= HEIGHT
    torch.testing.assert_close(first.mean(0), torch.tensor([WIDTH / 2, HEIGHT / 2]), atol=0.6, rtol=0)


def test_without_objects_there_is_nothing_to_lose() -> None:
    logits = torch.zeros(0, 30, requires_grad=True)
    cross, dice = point_mask_losses(logits, torch.zeros(0, 30))
    (cross + dice).backward()
    assert cross == dice == 0
    assert [one.shape for one in point_mask_costs(torch.zeros(4, 30), torch.zeros(0, 30))] == [(4, 0), (4, 0)]


def test_masks_that_lie_in_crowds() -> None:
    points = torch.tensor([[1.0, 1.0], [2.0, 2.0], [8.0, 8.0], [9.0, 9.0]])
    logits = torch.tensor([[1.0, 1.0, 1.0, -1.0], [1.0, -1.0, 1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]])
    crowds = torch.tensor([[0.0, 0.0, 1.5, 1.5], [1.5, 1.5, 3.0, 3.0]])
    assert in_crowds(logits, points, crowds).tolist() == [True, False, False]
    assert in_crowds(logits, points, crowds[:0]).tolist() == [False, False, False]
