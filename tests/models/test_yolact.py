"""What is particular to YOLACT; what every model promises is in test_model_contract.py."""

import dataclasses
import math

import pytest
import torch
from networks import CLASSES, annotated, batch_of, dense_masks, enliven, few, scene
from torch import Tensor, nn

from halfpixel.models import yolact
from halfpixel.models.yolact import YOLACT, Settings, class_shares, hardest, masked_entropy, yolact_lite, yolact_r50
from halfpixel.nn.box_head import BOX_WEIGHTS
from halfpixel.nn.matching import BACKGROUND, IGNORED
from halfpixel.nn.prototypes import AnchorOutputs
from halfpixel.ops import boxes
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.targets import Targets


@pytest.fixture(scope="module")
def model() -> YOLACT:
    torch.manual_seed(0)
    return enliven(yolact_lite(CLASSES, few(yolact)).eval(), scene(64, seed=1)[0][None])


# No caps

SIDE, STEP, ROWS, COLUMNS = 576, 14, 40, 38
DISCS = ROWS * COLUMNS


class Knowing(nn.Module):
    """In place of the head and the protonet: knows a scene of discs, and several anchors say each of them."""

    def __init__(self, boxes_xyxy: Tensor, colours: Tensor, anchors: Tensor, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        square = (anchors[:, 2] - anchors[:, 0] - 24).abs() < 1e-3
        away = torch.cdist((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, centres)
        nearest = away.masked_fill(~square, torch.inf).topk(3, largest=False).indices  # [n, 3]
        logits = torch.tensor([8.0, -8.0]).repeat(len(anchors), 1)
        deltas, kernels = torch.zeros(len(anchors), 4), torch.zeros(len(anchors), 5)
        for k, place in enumerate(nearest.T):
            logits[place, 1] = 9.0 - k
            deltas[place] = boxes.encode(boxes_xyxy, anchors[place], BOX_WEIGHTS)
            kernels[place, colours], kernels[place, 4] = 1.0, -1.0
        self.said = AnchorOutputs(logits[None], deltas[None], kernels[None])

    def forward(self, features: Tensor | list[Tensor]) -> Tensor | AnchorOutputs:
        return self.maps if isinstance(features, Tensor) else self.said


@pytest.fixture(scope="module")
def crowd() -> tuple[YOLACT, Tensor]:
    """A network that knows discs of 9 pixels, and which of them (from 1) each pixel shows.

    Neighbours are in different prototypes.
    """
    model = yolact_lite(("disc",), Settings(box_iou=0.5, mask_iou=0.4, mask_margin=0.125)).eval()
    row, column = (one.flatten() for one in torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij"))
    centres, pixels = STEP * torch.stack([column, row], 1) + 8.3, torch.arange(SIDE) + 0.5
    nearest = ((pixels - 8.3) / STEP).round()
    off = (pixels - 8.3 - STEP * nearest) ** 2
    y, x = nearest.clamp(max=ROWS - 1).long(), nearest.clamp(max=COLUMNS - 1).long()
    shown = (off + off[:, None] < 4.5**2) & (nearest < COLUMNS) & (nearest[:, None] < ROWS)
    labels = (y[:, None] * COLUMNS + x + 1) * shown
    colours = row % 2 * 2 + column % 2
    fine = torch.stack([shown & (y[:, None] % 2 * 2 + x % 2 == k) for k in range(4)]).float()
    maps = torch.cat([10 * nn.functional.avg_pool2d(fine, 2), torch.full((1, SIDE // 2, SIDE // 2), 5.0)])[None]
    images = torch.zeros(1, 3, SIDE, SIDE)
    with torch.no_grad():
        anchors = model._anchors(model._features(images), images)
    knowing = Knowing(torch.cat([centres - 4.5, centres + 4.5], 1), colours, anchors, maps)
    model.head, model.protonet = knowing, knowing  # type: ignore[assignment]
    return model, labels


@pytest.mark.parametrize(("limit", "saturated"), [(1520, False), (3000, False), (1000, True)])
def test_none_of_1500_objects_is_lost_silently(crowd: tuple[YOLACT, Tensor], limit: int, saturated: bool) -> None:
    model, truth = crowd
    limits = Limits.of(0.3, limit)
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE]]), limits)
    (found,) = model.decode(outputs, [Resized((SIDE, SIDE), (SIDE, SIDE))], limits)
    assert len(found) == min(limit, DISCS)
    assert found.saturated == saturated
    assert outputs["candidates"].tolist() == [[DISCS]]
    if not saturated:
        assert found.masks is not None
        n, drawn = DISCS + 1, torch.zeros(SIDE, SIDE, dtype=torch.int64)
        for k, (crop, (x, y)) in enumerate(found.masks.placed()):
            drawn[y : y + crop.shape[0], x : x + crop.shape[1]][crop] = k + 1
        joint = torch.bincount((truth * n + drawn).flatten(), minlength=n * n).reshape(n, n)
        ious = joint[1:, 1:] / (joint.sum(1)[1:, None] + joint.sum(0)[1:] - joint[1:, 1:])
        assert ious.max(1).values.min() > 0.7
        assert len(ious.argmax(1).unique()) == DISCS


def test_anchors_that_are_not_compared_are_told_and_follow_the_area(
    crowd: tuple[YOLACT, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = crowd
    monkeypatch.setattr(model, "settings", dataclasses.replace(model.settings, considered=1000, mask_iou=None))
    for side, compared in [(SIDE, 1000), (SIDE // 2, 4000)]:
        monkeypatch.setattr(yolact, "PUBLISHED_HW", (side, side))
        with torch.no_grad():
            outputs = model(torch.zeros(1, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE]]), Limits.of(0.3, 100_000))
        assert outputs["saturated"].tolist() == [compared < DISCS]
        assert len(outputs["scores"]) == min(compared, DISCS)


def test_nan_shows(model: YOLACT) -> None:
    image, _ = scene(64, seed=1)
    image[1, 30, 30] = torch.nan
    with torch.no_grad():
        outputs = model(torch.stack([image, scene(64, seed=2)[0]]), torch.tensor([[64, 64]] * 2), Limits.of(0.2, 20))
    assert int(outputs["candidates"][0, 0]) == -1
    assert int(outputs["candidates"][1, 0]) > 0


# Anchors


def test_anchors_of_the_published_weights(model: YOLACT) -> None:
    """Squares, centred as on an input whose side strides do not divide."""
    images = torch.zeros(1, 3, 64, 96)
    pyramid = [torch.zeros(1, 1, 64 // stride, 96 // stride) for stride in model.plan.strides]
    usual = model._anchors(pyramid, images)
    settings = model.settings
    try:
        model.settings = dataclasses.replace(settings, square_anchors=True)
        square = model._anchors(pyramid, images)
        model.settings = dataclasses.replace(settings, anchor_side=550)
        moved = model._anchors(pyramid, images)
    finally:
        model.settings = settings
    width, height = (square[:, 2:] - square[:, :2]).unbind(1)
    torch.testing.assert_close(width, height)
    torch.testing.assert_close(square[:, [0, 2]], usual[:, [0, 2]])
    torch.testing.assert_close(square[:, [1, 3]].mean(1), usual[:, [1, 3]].mean(1))
    ratios = width.reshape(-1, 3)[0] / 24
    torch.testing.assert_close(ratios, torch.tensor([math.sqrt(2), 1.0, math.sqrt(0.5)]))
    torch.testing.assert_close(moved[1, :2] + 12, torch.full((2,), 0.5 * 550 / 138))  # 138 cells of stride 4 in 550
    last = 24 * 16 * 3 - 2  # the finest level's last cell, its square
    torch.testing.assert_close(moved[last, :2] + 12, torch.tensor([23.5, 15.5]) * 550 / 138)


# Losses


def test_hard_negatives_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    levels, negatives, fewest = (40, 12, 3), 3, 2
    logits = 3 * torch.randn(2, 55, 4, generator=generator)
    matches = torch.randint(-2, 9, (2, 55), generator=generator)
    matches[matches > 1] = BACKGROUND
    assert (matches == IGNORED).any()
    chosen = hardest(logits, matches, levels, negatives, fewest)
    doubts = []
    for i in range(2):
        for k in range(55):
            if matches[i, k] == BACKGROUND:
                doubts.append((1 - float(logits[i, k].softmax(0)[0]), i, k))
    hard = sorted(doubts, reverse=True)[: negatives * int((matches >= 0).sum())]
    expected = {(i, k) for _, i, k in hard}
    for i in range(2):
        for first, size in zip((0, 40, 52), levels, strict=True):
            of_level = [one for one in sorted(doubts, reverse=True) if one[1] == i and first <= one[2] < first + size]
            expected |= {(i, k) for _, i, k in of_level[:fewest]}
    assert {(i, k) for i, k in torch.nonzero(chosen).tolist()} == expected
    assert len(hard) < len(expected) < len(doubts)


def test_without_objects_some_background_is_learnt_and_no_ignored_anchor() -> None:
    matches = torch.full((3, 20), BACKGROUND)
    matches[1] = IGNORED
    chosen = hardest(torch.zeros(3, 20, 2), matches, (16, 4), 3, 5)
    assert chosen.sum(1).tolist() == [9, 0, 9]


def neighbours() -> Targets:
    """Two squares that share a side: the left one's widened crop shows a strip of the right one."""
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 16:48, 8:32] = True
    masks[1, 16:48, 32:56] = True
    return Targets.from_instances(annotated(masks, torch.tensor([0, 1])))


def test_a_leaking_mask_costs_more_and_a_tight_one_does_not() -> None:
    target, grid = neighbours(), 28
    crops = boxes.expand(target.boxes_xyxy, 0.125)
    truth = target.mask_grids(torch.tensor([0, 1]), crops, grid)
    others = target.other_grids(torch.tensor([0, 1]), crops, grid)
    assert others.sum() > 0
    assert (others * truth).max() < 0.51  # a cell may show both
    strip, seen = others.round(), torch.ones_like(truth, dtype=torch.bool)
    logits = {"tight": truth, "leaking": truth + strip, "spilling": truth + strip.flip(2)}  # there is background
    given = truth, others, seen
    costs = {
        name: [float(masked_entropy(20 * shown.clamp(max=1) - 10, *given, weight)) for weight in (0.0, 4.0)]
        for name, shown in logits.items()
    }
    assert costs["leaking"][0] == pytest.approx(costs["spilling"][0], rel=0.1)
    assert costs["leaking"][1] > 2.5 * costs["leaking"][0]
    assert costs["spilling"][1] < costs["spilling"][0]
    assert costs["tight"][1] < 0.1 * costs["leaking"][1]


def test_the_leak_loss_equals_a_loop_and_is_the_papers_at_0() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, truth, others = torch.randn(3, 5, 5, generator=generator), *torch.rand(2, 3, 5, 5, generator=generator)
    plain = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    seen = torch.ones_like(truth, dtype=torch.bool)
    seen[0, :, 3:] = False
    torch.testing.assert_close(masked_entropy(logits, truth, others, seen | True, 0.0), plain.mean((1, 2)).sum())
    total = 0.0
    for n in range(3):
        costs, weights = 0.0, 0.0
        for i in range(5):
            for j in range(3 if n == 0 else 5):
                p, t = float(logits[n, i, j].sigmoid()), float(truth[n, i, j])
                weight = 1 + 2.5 * float(others[n, i, j]) * (1 - t)
                costs += weight * (-t * math.log(p) - (1 - t) * math.log(1 - p))
                weights += weight
        total += costs / weights
    assert float(masked_entropy(logits, truth, others, seen, 2.5)) == pytest.approx(total, rel=1e-5)


def test_the_setting_reaches_the_mask_term_alone(model: YOLACT) -> None:
    image, target = scene(64, seed=1)[0], neighbours()
    settings, found = model.settings, []
    try:
        for weight in (0.0, 4.0):
            model.settings = dataclasses.replace(settings, leak_weight=weight, mask_margin=0.125)
            with torch.no_grad():
                found.append(model.losses(batch_of(image), [target]))
    finally:
        model.settings = settings
    assert found[1]["mask"] != found[0]["mask"]
    assert all(torch.equal(found[0][name], found[1][name]) for name in ("class", "box", "semantic"))


def test_shares_of_classes_equal_dense_pooling() -> None:
    _, target = scene(64, objects=4, seed=3)
    target = dataclasses.replace(target, ignored_xyxy=torch.tensor([[40.0, 0.0, 64.0, 24.0]]))
    shares, known = class_shares(target, 2, (12, 16), 8)  # the padded input is 96 x 128
    dense = torch.zeros(2, 96, 128)
    for mask, label in zip(dense_masks(target), target.labels.tolist(), strict=True):
        dense[label, :64, :64][mask] = 1
    torch.testing.assert_close(shares, nn.functional.avg_pool2d(dense, 8))
    expected = torch.zeros(12, 16, dtype=torch.bool)
    expected[:8, :8] = True
    expected[:3, 5:8] = False
    assert torch.equal(known, expected)
    nothing = Targets.from_instances(annotated(torch.zeros(0, 64, 64, dtype=torch.bool), torch.zeros(0).long()))
    assert class_shares(nothing, 2, (8, 8), 8)[0].sum() == 0


def test_crowds_are_neither_objects_nor_background(model: YOLACT) -> None:
    image, target = scene(64, seed=1)
    with torch.no_grad():
        plain = model.losses(batch_of(image), [target[[]]])
        ignored = dataclasses.replace(target[[]], ignored_xyxy=torch.tensor([[-99.0, -99.0, 199.0, 199.0]]))
        losses = model.losses(batch_of(image), [ignored])
    assert plain["class"] > 0
    assert all(float(value) == 0 for value in losses.values())


# Sizes


def test_the_small_one_is_small() -> None:
    assert sum(p.numel() for p in yolact_lite(CLASSES).parameters()) < 6e6
    assert yolact_lite(CLASSES).map_stride == 2


def test_the_papers_levels() -> None:
    with torch.device("meta"):
        model = yolact_r50(CLASSES)
        pyramid = model._features(torch.zeros(1, 3, 256, 384))
        assert [tuple(one.shape[2:]) for one in pyramid] == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
        assert model.protonet(pyramid[0]).shape == (1, 32, 64, 96)
    assert model.map_stride == 4
