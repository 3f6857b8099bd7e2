"""Assignment against a loop over points and objects, in plain Python."""

import math

import pytest
import torch
from torch import Tensor

from halfpixel.nn import dynamic_assignment
from halfpixel.nn.dynamic_assignment import assign

STRIDES = (8, 16)
SIDE = 64
CLASSES = 3


def points() -> tuple[Tensor, Tensor]:
    """Centres of the cells of two levels, and their strides."""
    found, strides = [], []
    for stride in STRIDES:
        steps = (torch.arange(SIDE // stride) + 0.5) * stride
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        found.append(torch.stack([x.flatten(), y.flatten()], 1))
        strides += [float(stride)] * len(found[-1])
    return torch.cat(found), torch.tensor(strides)


def said(points_xy: Tensor, strides: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Logits and boxes around the points."""
    generator = torch.Generator().manual_seed(seed)
    sides = torch.rand(len(points_xy), 4, generator=generator) * 2 * strides[:, None]
    boxes = torch.cat([points_xy - sides[:, :2], points_xy + sides[:, 2:]], 1)
    return 2 * torch.randn(len(points_xy), CLASSES, generator=generator) - 1, boxes


def objects(n: int, seed: int, largest: float = 30) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, centres somewhere inside of them, labels."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 2, generator=generator) * 40
    sides = 9 + torch.rand(n, 2, generator=generator) * largest
    centres = low + sides * (0.3 + 0.4 * torch.rand(n, 2, generator=generator))
    return torch.cat([low, low + sides], 1), centres, torch.randint(0, CLASSES, (n,), generator=generator)


def overlap(a: list[float], b: list[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def quality_loss(logit: float, wanted: float) -> float:
    score = 1 / (1 + math.exp(-logit))
    return -(wanted * math.log(score) + (1 - wanted) * math.log(1 - score)) * (wanted - score) ** 2


def assign_slowly(
    logits: Tensor, boxes: Tensor, points_xy: Tensor, strides: Tensor, truth: Tensor, centres: Tensor, labels: Tensor
) -> dict[int, int]:
    """Point to object."""
    n = len(truth)
    near = set()
    for k, (x0, y0, x1, y1) in enumerate(truth.tolist()):
        inside = [p for p, (x, y) in enumerate(points_xy.tolist()) if x0 < x < x1 and y0 < y < y1]
        finest = [p for p, stride in enumerate(strides.tolist()) if stride == min(strides.tolist())]
        near |= set(inside or [min(finest, key=lambda p: math.dist(points_xy[p].tolist(), centres[k].tolist()))])
    cost: dict[tuple[int, int], float] = {}
    ious: dict[tuple[int, int], float] = {}
    for p in near:
        for k in range(n):
            iou = ious[p, k] = overlap(boxes[p].tolist(), truth[k].tolist())
            said_ = logits[p].tolist()
            classes = sum(quality_loss(one, iou if c == labels[k] else 0.0) for c, one in enumerate(said_))
            away = math.dist(points_xy[p].tolist(), centres[k].tolist()) / float(strides[p])
            cost[p, k] = classes - 3 * math.log(iou + 1e-7) + 10 ** (away - 3)
    takers: dict[int, list[int]] = {}
    for k in range(n):
        wanted = max(int(sum(sorted((ious[p, k] for p in near), reverse=True)[:13])), 1)
        for p in sorted(near, key=lambda p: cost[p, k])[:wanted]:
            takers.setdefault(p, []).append(k)
    return {p: of[0] if len(of) == 1 else min(range(n), key=lambda k: cost[p, k]) for p, of in sorted(takers.items())}


@pytest.mark.parametrize("n", [1, 2, 9, 20])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop(n: int, seed: int) -> None:
    points_xy, strides = points()
    logits, boxes = said(points_xy, strides, seed)
    truth, centres, labels = objects(n, seed + 10)
    found = assign(logits, boxes, points_xy, strides, truth, centres, labels)
    expected = assign_slowly(logits, boxes, points_xy, strides, truth, centres, labels)
    assert dict(zip(found.points.tolist(), found.objects.tolist(), strict=True)) == expected
    for p, k, iou in zip(found.points.tolist(), found.objects.tolist(), found.overlaps.tolist(), strict=True):
        assert iou == pytest.approx(overlap(boxes[p].tolist(), truth[k].tolist()), abs=1e-5)


def test_an_object_that_says_well_what_it_is_gets_many_points() -> None:
    points_xy, strides = points()
    truth = torch.tensor([[8.0, 8, 56, 56]])
    logits = torch.zeros(len(points_xy), CLASSES)
    centre, label = torch.tensor([[32.0, 32]]), torch.tensor([1])
    right = assign(logits, truth.expand(len(points_xy), 4), points_xy, strides, truth, centre, label)
    assert len(right.points) == 13
    assert torch.equal(right.overlaps, torch.ones(13))
    wrong = assign(logits, points_xy.repeat(1, 2) + torch.tensor([-1.0, -1, 1, 1]), points_xy, strides, truth, centre,
                   label)  # fmt: skip
    assert len(wrong.points) == 1


def test_an_object_without_a_point_in_its_box_has_the_nearest() -> None:
    points_xy, strides = points()
    logits, boxes = said(points_xy, strides, 0)
    truth = torch.tensor([[21.0, 29.0, 23.0, 31.0]])  # the nearest centre of a cell is (20, 28)
    centre = torch.tensor([[22.0, 30.0]])
    found = assign(logits, boxes, points_xy, strides, truth, centre, torch.tensor([0]))
    assert points_xy[found.points].tolist() == [[20.0, 28.0]]
    assert strides[found.points].tolist() == [8.0]


def test_nothing_to_assign() -> None:
    points_xy, strides = points()
    found = assign(*said(points_xy, strides, 0), points_xy, strides, *objects(0, 0))
    assert [len(one) for one in found] == [0, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_crowded_images_are_looked_at_in_parts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points_xy, strides = points()
    told = (*said(points_xy, strides, seed), points_xy, strides, *objects(40, seed))
    whole = assign(*told)
    monkeypatch.setattr(dynamic_assignment, "PAIRS_AT_ONCE", 300)
    parts = assign(*told)
    assert len(whole.points) > 20
    assert len(set(whole.objects.tolist())) > 10
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one, other)
