import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder

import pytest
import torch
import torchvision
from torch import Tensor

from halfpixel.ops import boxes, nms


def crowd(n: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes and scores of a crowded image; no two scores are the same."""
    generator = torch.Generator().manual_seed(n)
    corners = 600 * torch.rand(n, 2, generator=generator)
    sides = 20 + 60 * torch.rand(n, 2, generator=generator)
    scores = (torch.randperm(n, generator=generator) + 1) / (n + 1)
    return torch.cat([corners, corners + sides], 1), scores, torch.randint(groups, (n,), generator=generator)


def group_by_group(some: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for group in range(int(groups.max()) + 1):
        members = (groups == group).nonzero()[:, 0]
        kept += members[torchvision.ops.nms(some[members], scores[members], threshold)].tolist()
    return sorted(kept, key=lambda row: -float(scores[row]))


Suppress = Callable[[Tensor, Tensor, Tensor, float], Tensor]
WAYS = (boxes.suppress, boxes._suppress_at_once, boxes._suppress_in_blocks)


@pytest.mark.parametrize("suppress", WAYS)
@pytest.mark.parametrize(("n", "groups"), [(300, 1), (300, 80), (boxes.FEW, 3), (boxes.FEW + 1, 3), (2500, 5)])
def test_every_way_keeps_what_torchvision_keeps_in_each_group(suppress: Suppress, n: int, groups: int) -> None:
    some, scores, group = crowd(n, groups)
    kept = suppress(some, scores, group, 0.5).tolist()
    assert kept == group_by_group(some, scores, group, 0.5)
    assert groups == 80 or len(kept) < n


@pytest.mark.parametrize("suppress", WAYS)
def test_many_groups_round_no_coordinate(suppress: Suppress) -> None:
    """Pairs that overlap a hair more or less than the threshold: 80 groups apart, float32 is 1/32 pixel coarse."""
    corners = torch.arange(80) * 50.0
    first = torch.stack([corners, corners, corners + 30, corners + 30], dim=1)
    shift = torch.where(torch.arange(80) % 2 == 0, 9.998, 10.002)  # at 10 of 30 pixels the IoU is one half
    second = first + torch.stack([shift, 0 * shift, shift, 0 * shift], dim=1)
    scores = torch.cat([torch.full((80,), 0.9), torch.full((80,), 0.8)])
    kept = suppress(torch.cat([first, second]), scores, torch.arange(80).repeat(2), 0.5)
    assert sorted(kept.tolist()) == [*range(80), *range(81, 160, 2)]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_boxes_of_all_sizes_in_more_than_one_block(threshold: float) -> None:
    generator = torch.Generator().manual_seed(1)
    sides = (6 * torch.rand(3000, 2, generator=generator)).exp()
    corners = 900 * torch.rand(3000, 2, generator=generator)
    some, groups = torch.cat([corners, corners + sides], 1), torch.randint(2, (3000,), generator=generator)
    scores = torch.rand(3000, generator=generator).mul(200).round() / 200  # of many that score the same the first
    kept = boxes.suppress(some, scores, groups, threshold)
    expected = torchvision.ops.nms(some + 2000 * groups[:, None], scores, threshold)
    assert torch.equal(kept, expected)
    assert len(kept) > boxes.FEW or threshold == 0


def test_where_all_boxes_are_one_it_is_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[int] = []
    at_once = boxes._suppress_at_once
    monkeypatch.setattr(boxes, "_suppress_at_once", lambda *given: blocks.append(len(given[0])) or at_once(*given))
    some, scores = torch.tensor([[3.0, 4.0, 40.0, 50.0]]).repeat(20_000, 1), torch.linspace(1, 0, 20_000)
    assert boxes.suppress(some, scores, torch.zeros(20_000, dtype=torch.int64), 0.7).tolist() == [0]
    assert sum(blocks) == boxes.FEW


@pytest.mark.parametrize("suppress", WAYS[:2])
def test_no_boxes(suppress: Suppress) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert suppress(torch.zeros(0, 4), torch.zeros(0), none, 0.5).shape == (0,)


@pytest.mark.parametrize("n", [200, 2000])
def test_scores_may_be_coarser_than_boxes(n: int) -> None:
    some, scores, groups = crowd(n, 2)
    coarse = scores.bfloat16()
    assert torch.equal(boxes.suppress(some, coarse, groups, 0.5), boxes.suppress(some, coarse.float(), groups, 0.5))


def nothing(*_: object) -> None:
    return None


def broken(*_: object) -> None:
    raise OSError("undefined symbol")


@pytest.mark.parametrize(
    ("owner", "name", "fails"),
    [(nms, "find_spec", nothing), (PathFinder, "find_spec", nothing), (torch.ops, "load_library", broken)],
)
def test_where_the_library_is_not_found_torchvision_is_asked(
    owner: object, name: str, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("torchvision")
    monkeypatch.setattr(nms, "find_spec", lambda _: spec)
    monkeypatch.setattr(owner, name, fails)
    nms._load_operators()  # torchvision is here
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match="torchvision"):
        nms._load_operators()
