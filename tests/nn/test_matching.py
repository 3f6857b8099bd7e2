"""Matching and sampling against torchvision's."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from halfpixel.nn import matching
from halfpixel.nn.matching import BACKGROUND, IGNORED, BalancedSampler, match

NONE = torch.zeros(0, 4)


def random_boxes(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, generator=generator) * 60
    return torch.cat([corners, corners + 8 + 40 * torch.rand(n, 2, generator=generator)], 1)


@pytest.mark.parametrize(
    ("foreground", "background", "low_quality"), [(0.7, 0.3, True), (0.5, 0.5, False), (0.7, 0.3, False)]
)
def test_equals_torchvision(foreground: float, background: float, low_quality: bool) -> None:
    references, objects = random_boxes(400, 0), random_boxes(12, 1)
    overlaps = box_iou(objects, references)
    assert (overlaps.amax(1) > 0).all()
    expected = Matcher(foreground, background, allow_low_quality_matches=low_quality)(overlaps)
    found = match(references, objects, NONE, foreground, background, low_quality)
    assert torch.equal(found, expected)
    assert (found >= 0).any()
    assert (found == BACKGROUND).any()
    assert low_quality is False or (overlaps.amax(0)[found >= 0] < foreground).any()


def test_thresholds_by_hand() -> None:
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    shares = torch.tensor([10.0, 7.0, 6.9, 3.0, 2.9])
    references = torch.stack([torch.tensor([0.0, 0.0, 10.0, float(h)]) for h in shares])
    assert match(references, objects, NONE, 0.7, 0.3).tolist() == [0, 0, IGNORED, IGNORED, BACKGROUND]


def test_the_best_boxes_of_a_neglected_object_are_low_qualityd_ties_included() -> None:
    objects = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    references = torch.tensor([[0.0, 0.0, 20.0, 20.0], [-16.0, -16.0, 4.0, 4.0], [2.0, 2.0, 22.0, 22.0]])
    assert match(references, objects, NONE, 0.7, 0.3, low_quality=True).tolist() == [0, 0, BACKGROUND]


def test_an_object_that_nothing_overlaps_low_qualitys_nothing() -> None:
    """torchvision makes every box positive here, because all of them share the best overlap, zero."""
    objects = torch.tensor([[500.0, 500.0, 510.0, 510.0]])
    assert match(random_boxes(20, 2), objects, NONE, 0.7, 0.3, low_quality=True).tolist() == [BACKGROUND] * 20


def test_no_objects_makes_all_background() -> None:
    assert match(random_boxes(5, 3), NONE, NONE, 0.7, 0.3, low_quality=True).tolist() == [BACKGROUND] * 5
    assert match(NONE, random_boxes(5, 3), NONE, 0.7, 0.3).tolist() == []


@pytest.mark.parametrize("objects", [0, 6])
def test_what_lies_in_a_crowd_is_never_background(objects: int) -> None:
    references, crowds = random_boxes(300, 4), torch.tensor([[10.0, 10.0, 50.0, 50.0], [70.0, 0.0, 110.0, 30.0]])
    annotated = random_boxes(objects, 5)
    plain = match(references, annotated, NONE, 0.5, 0.3)
    found = match(references, annotated, crowds, 0.5, 0.3)
    for reference, before, after in zip(references, plain.tolist(), found.tolist(), strict=True):
        low, high = torch.maximum(reference[:2], crowds[:, :2]), torch.minimum(reference[2:], crowds[:, 2:])
        inside = (high - low).clamp(min=0).prod(1).max() / (reference[2:] - reference[:2]).prod()
        assert after == (IGNORED if before == BACKGROUND and inside > 0.5 else before)
    assert (found != plain).any()


@pytest.mark.parametrize(("positives", "negatives"), [(50, 500), (3, 500), (50, 4), (0, 500), (0, 0), (50, 0)])
def test_the_sampler_s_counts(positives: int, negatives: int) -> None:
    matches = torch.cat([torch.arange(positives), torch.full((negatives,), BACKGROUND), torch.full((30,), IGNORED)])
    matches = matches[torch.randperm(len(matches), generator=torch.Generator().manual_seed(0))]
    positive, negative = BalancedSampler(64, 0.25)(matches, torch.Generator())
    assert len(positive) == min(positives, 16)
    assert len(negative) == min(negatives, 64 - len(positive))
    assert (matches[positive] >= 0).all()
    assert (matches[negative] == BACKGROUND).all()
    assert len(set(positive.tolist() + negative.tolist())) == len(positive) + len(negative)


def test_the_sampler_follows_the_seed_and_equals_torchvision() -> None:
    matches = torch.randint(-2, 3, (400,), generator=torch.Generator().manual_seed(1))
    chosen = []
    for seed in (7, 7, 8):
        torch.manual_seed(len(chosen))  # of no account
        generator = torch.Generator().manual_seed(seed)
        chosen.append([indices.tolist() for indices in BalancedSampler(64, 0.5)(matches, generator)])
    assert chosen[0] == chosen[1] != chosen[2]
    torch.manual_seed(7)
    labels = torch.where(matches == IGNORED, -1.0, (matches >= 0).float())
    positive, negative = BalancedPositiveNegativeSampler(64, 0.5)([labels])
    assert sorted(chosen[0][0]) == torch.nonzero(positive[0]).ravel().tolist()
    assert sorted(chosen[0][1]) == torch.nonzero(negative[0]).ravel().tolist()


@pytest.mark.parametrize("pairs", [1, 700, 4000])
def test_crowded_images_are_looked_at_in_parts(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties among them: the first object has a box that two overlap equally, wherever a part ends."""
    generator = torch.Generator().manual_seed(4)
    corners = torch.randint(0, 60, (330, 2), generator=generator).float()
    references = torch.cat([corners, corners + 12], 1)
    objects = torch.cat([references[:40] + 1, references[:40] + 1, references[40:60]])
    whole = [match(references, objects, NONE, 0.7, 0.3, low_quality=low) for low in (True, False)]
    monkeypatch.setattr(matching, "PAIRS_AT_ONCE", pairs)
    parts = [match(references, objects, NONE, 0.7, 0.3, low_quality=low) for low in (True, False)]
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])
    assert not ((whole[0] >= 40) & (whole[0] < 80)).any()
    assert (whole[0] >= 80).any()
