"""Proposals and their losses."""

import dataclasses

import pytest
import torch
from networks import annotated
from torch import Tensor
from torchvision.ops import batched_nms

from halfpixel.nn.conv_blocks import conv_stack
from halfpixel.nn.losses import smooth_l1_sum
from halfpixel.nn.rpn import AnchorPlan, RegionProposalNetwork, ScoredAnchors
from halfpixel.ops import boxes
from halfpixel.structures.targets import Targets

SIZES_HW = torch.tensor([[64, 96], [50, 70]])


@pytest.fixture
def rpn() -> RegionProposalNetwork:
    torch.manual_seed(0)
    return RegionProposalNetwork(8, AnchorPlan((16, 32), (8, 16)), samples=32)


def scored(rpn: RegionProposalNetwork) -> ScoredAnchors:
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(2, 8, 8, 12, generator=generator), torch.randn(2, 8, 4, 6, generator=generator)]
    found = rpn(maps, torch.zeros(2, 3, 64, 96))
    return ScoredAnchors(found.anchors_xyxy, [x * 50 for x in found.logits], [x * 20 for x in found.deltas])


def test_every_anchor_is_scored(rpn: RegionProposalNetwork) -> None:
    found = scored(rpn)
    assert [len(anchors) for anchors in found.anchors_xyxy] == [8 * 12 * 3, 4 * 6 * 3]
    for anchors, logits, deltas in zip(*found, strict=True):
        assert logits.shape == (2, len(anchors))
        assert deltas.shape == (2, len(anchors), 4)


def test_proposals_against_the_same_steps_one_by_one(rpn: RegionProposalNetwork) -> None:
    found = scored(rpn)
    regions, counts = rpn.propose(found, SIZES_HW, per_level=100, most=40)
    for image in range(2):
        candidates, scores, levels = [], [], []
        for level, (anchors, logits, deltas) in enumerate(zip(*found, strict=True)):
            rows = logits[image].argsort(descending=True)[:100]
            decoded = boxes.decode(deltas[image, rows], anchors[rows], (1.0, 1.0))
            candidates.append(boxes.clip(decoded, SIZES_HW[image]))
            scores.append(logits[image, rows].sigmoid())
            levels.append(torch.full_like(rows, level))
        region, score, level_of = torch.cat(candidates), torch.cat(scores), torch.cat(levels)
        usable = ((region[:, 2:] - region[:, :2]) >= 1e-3).all(1)
        region, score, level_of = region[usable], score[usable], level_of[usable]
        kept = batched_nms(region, score, level_of, 0.7)
        assert int(counts[image]) == len(kept) > 40
        torch.testing.assert_close(regions[image], region[kept[:40]])
        assert not regions[image].requires_grad


def test_proposals_stay_inside_the_true_size(rpn: RegionProposalNetwork) -> None:
    regions, _ = rpn.propose(scored(rpn), SIZES_HW, 1000, 1000)
    assert regions[1][:, 2].max() == 70
    assert regions[1][:, 3].max() == 50
    assert regions[0][:, 2].max() == 96


def test_a_score_threshold(rpn: RegionProposalNetwork) -> None:
    _, every = rpn.propose(scored(rpn), SIZES_HW, 1000, 1000)
    rpn.score_threshold = 0.9
    _, good = rpn.propose(scored(rpn), SIZES_HW, 1000, 1000)
    assert (good > 0).all()
    assert (good < every).all()


def target(boxes_xyxy: list[tuple[int, int, int, int]]) -> Targets:
    dense = torch.zeros(len(boxes_xyxy), 64, 96, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(dense, boxes_xyxy, strict=True):
        mask[y0:y1, x0:x1] = True
    return Targets.from_instances(annotated(dense, torch.zeros(len(dense), dtype=torch.int64)))


def losses_of(rpn: RegionProposalNetwork, scored: ScoredAnchors, targets: list[Targets]) -> dict[str, Tensor]:
    chosen = rpn.choose(scored.anchors_xyxy, targets)
    logits, deltas = (torch.cat(of_levels, 1)[chosen.image_index, chosen.rows] for of_levels in scored[1:])
    return rpn.losses(logits, deltas, chosen)


def test_chosen_anchors_are_told_what_all_are_told(rpn: RegionProposalNetwork) -> None:
    """And every gradient is that of all anchors' maps."""
    rpn.convs = conv_stack(8, (8, 8))
    for layer in (rpn.objectness, rpn.deltas):
        torch.nn.init.normal_(layer.weight)
    maps = [torch.randn(2, 8, 8, 12, requires_grad=True), torch.randn(2, 8, 4, 6, requires_grad=True)]
    found = rpn(maps, torch.zeros(2, 3, 64, 96))
    targets = [target([(10, 10, 30, 26)]), target([(40, 20, 70, 60), (80, 40, 96, 64)])]
    chosen = rpn.choose(found.anchors_xyxy, targets)
    assert (chosen.rows < 8 * 12 * 3).any()
    assert (chosen.rows >= 8 * 12 * 3).any()
    logits, deltas = rpn.say_again(maps, chosen)
    dense = [torch.cat(of_levels, 1)[chosen.image_index, chosen.rows] for of_levels in found[1:]]
    torch.testing.assert_close([logits, deltas], dense)
    inputs = [*maps, *rpn.parameters()]
    gradients = torch.autograd.grad(sum(rpn.losses(logits, deltas, chosen).values()), inputs)
    expected = torch.autograd.grad(sum(losses_of(rpn, found, targets).values()), inputs)
    torch.testing.assert_close(gradients, expected)
    assert all(one.abs().sum() > 0 for one in gradients)


def test_losses_without_objects(rpn: RegionProposalNetwork) -> None:
    losses = losses_of(rpn, scored(rpn), [target([]), target([])])
    assert losses["rpn_box"] == 0
    assert losses["rpn_objectness"] > 0
    torch.stack(list(losses.values())).sum().backward()
    assert rpn.deltas.weight.grad is not None


def test_perfect_anchors_cost_nothing(rpn: RegionProposalNetwork) -> None:
    found = scored(rpn)
    objects = [target([(10, 10, 30, 26)]), target([(40, 20, 70, 60), (4, 4, 20, 20)])]

    def perfect(flaw: float) -> dict[str, Tensor]:
        logits, deltas = [], []
        for anchors in found.anchors_xyxy:
            best = torch.stack([boxes.iou(t.boxes_xyxy, anchors).amax(0) for t in objects])
            nearest = [t.boxes_xyxy[boxes.iou(t.boxes_xyxy, anchors).argmax(0)] for t in objects]
            deltas.append(torch.stack([boxes.encode(n, anchors, (1.0, 1.0)) for n in nearest]) + flaw)
            logits.append(torch.where(best >= 0.3, 50.0, -50.0))
        return losses_of(rpn, ScoredAnchors(found.anchors_xyxy, logits, deltas), objects)

    assert perfect(0.0)["rpn_objectness"] < 1e-6
    assert perfect(0.0)["rpn_box"] < 1e-6
    assert perfect(0.5)["rpn_box"] > 1e-3


def test_smooth_l1_by_hand() -> None:
    # quadratic up to 1/9: 0.5 d^2 * 9, beyond d - 1/18
    found = smooth_l1_sum(torch.tensor([[0.1, 1.0, 0.0, -2.0]]), torch.zeros(1, 4))
    assert found.item() == pytest.approx(0.045 + (1 - 1 / 18) + (2 - 1 / 18))


def test_anchors_are_chosen_by_the_targets_seeds_alone(rpn: RegionProposalNetwork) -> None:
    """Whatever the global generator does, and whichever images share a batch."""
    found = scored(rpn)
    objects = [target([(10, 10, 30, 26)]), target([(40, 20, 70, 60), (4, 4, 20, 20)])]
    objects = [dataclasses.replace(one, seed=seed) for one, seed in zip(objects, (3, 4), strict=True)]

    def losses(images: list[int], seed: int = 0) -> Tensor:
        torch.manual_seed(seed)
        some = ScoredAnchors(found.anchors_xyxy, [x[images] for x in found.logits], [x[images] for x in found.deltas])
        return torch.stack(list(losses_of(rpn, some, [objects[k] for k in images]).values()))

    together = losses([0, 1])
    assert torch.equal(losses([0, 1], seed=1), together)
    torch.testing.assert_close((losses([0]) + losses([1])) / 2, together)  # both have as many anchors
    objects[0] = dataclasses.replace(objects[0], seed=5)
    assert not torch.allclose(losses([0, 1]), together)
