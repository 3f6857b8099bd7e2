"""Refining masks in points: against deciding every cell, and against a loop over cells and points."""

import torch
from networks import scene
from torch import Tensor, nn

from halfpixel.nn.point_head import CoarseMaskHead, PointHead, in_masks, in_pixels
from halfpixel.nn.point_losses import PointPlan
from halfpixel.ops.roi_align import FeatureTable

BOXES = torch.tensor([[9.3, 12.1, 40.7, 50.9], [20.5, 16.2, 51.9, 31.0]])
INDEX, LABELS = torch.tensor([1, 0]), torch.tensor([1, 0])


def pyramid() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 5, 64 >> k, 64 >> k, generator=generator) for k in range(2, 6)]


def head(side: int = 28, points: int = 784, classes: int = 2) -> PointHead:
    torch.manual_seed(0)
    made = PointHead(5, classes, width=8, side=side, points=points, plan=PointPlan(20))
    nn.init.normal_(made.logits.weight)
    return made


def coarse(side: int = 7) -> Tensor:
    return 3 * torch.randn(2, 2, side, side, generator=torch.Generator().manual_seed(1))


def decided(one: PointHead, k: int, x: float, y: float, masks: Tensor) -> Tensor:
    """What the head says at a share (x, y) of the k-th box, from torch's own interpolation."""
    left, top, right, bottom = BOXES[k].tolist()
    place = torch.tensor([left + x * (right - left), top + y * (bottom - top)]) / 4  # cells
    grid = (2 * place / 16 - 1).reshape(1, 1, 1, 2)
    fine = nn.functional.grid_sample(pyramid()[0][INDEX[k]][None], grid, align_corners=False).flatten()
    seen = torch.tensor([2 * x - 1, 2 * y - 1]).reshape(1, 1, 1, 2)
    guess = nn.functional.grid_sample(masks[k][None], seen, align_corners=False).flatten()
    hidden = fine
    for fc in one.fcs:
        hidden = fc(torch.cat([hidden, guess])).relu()
    logits: Tensor = one.logits(torch.cat([hidden, guess]))
    return logits[LABELS[k]]


def refined(one: PointHead, masks: Tensor) -> Tensor:
    with torch.no_grad():
        return one.refined(masks, LABELS, BOXES, INDEX, FeatureTable.of(pyramid()))


def test_with_points_enough_every_cell_is_decided() -> None:
    one, masks = head(side=28), coarse()
    found = refined(one, masks)
    assert found.shape == (2, 28, 28)
    for k, row, column in [(0, 0, 0), (0, 13, 27), (1, 5, 6), (1, 27, 27)]:
        with torch.no_grad():
            expected = decided(one, k, (column + 0.5) / 28, (row + 0.5) / 28, masks)
        torch.testing.assert_close(found[k, row, column], expected, atol=1e-4, rtol=1e-4)


def test_the_least_certain_cells_are_decided_and_the_others_enlarged() -> None:
    one, masks = head(side=28, points=40), coarse(14)
    found = refined(one, masks)
    for k in range(2):
        enlarged = nn.functional.interpolate(masks[k : k + 1], scale_factor=2, mode="bilinear")[0, LABELS[k]]
        changed = found[k] != enlarged
        assert int(changed.sum()) == 40
        assert enlarged[changed].abs().max() <= enlarged[~changed].abs().min()
        for row, column in torch.nonzero(changed)[:5].tolist():
            with torch.no_grad():
                expected = decided(one, k, (column + 0.5) / 28, (row + 0.5) / 28, masks)
            torch.testing.assert_close(found[k, row, column], expected, atol=1e-4, rtol=1e-4)


def test_steps_that_would_be_overwritten_are_skipped() -> None:
    """From 7 to 224 cells the head looks at 28, 56, 112 and 224 of them along a side."""
    one, looked = head(side=224), []
    one.register_forward_hook(lambda _, given, __: looked.append(len(given[0])))
    assert refined(one, coarse()).shape == (2, 224, 224)
    assert looked == [2 * 784] * 4


def test_a_region_s_mask_does_not_depend_on_the_others() -> None:
    one, masks = head(side=56, points=100), coarse(14)
    together = refined(one, masks)
    alone = one.refined(masks[1:], LABELS[1:], BOXES[1:], INDEX[1:], FeatureTable.of(pyramid()))
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=0)
    assert one.refined(masks[:0], LABELS[:0], BOXES[:0], INDEX[:0], FeatureTable.of(pyramid())).shape == (0, 56, 56)


def test_other_classes_keep_what_looks_at_features() -> None:
    one = head(classes=2)
    before = [fc.weight.clone() for fc in one.fcs]  # type: ignore[union-attr]
    one.set_classes(5)
    for old, fc, inputs in zip(before, one.fcs, one.inputs, strict=True):
        assert torch.equal(fc.weight[:, :inputs], old[:, :inputs])  # type: ignore[index]
    assert one(torch.zeros(3, 5), torch.zeros(3, 5)).shape == (3, 5)


def test_the_loss_is_low_where_the_head_is_right() -> None:
    """A head that repeats the coarse mask, and masks that are the truth: only their edge, where it is soft, costs."""
    _, target = scene(64, seed=3)
    boxes, objects = target.boxes_xyxy, torch.arange(len(target))
    truth = target.mask_grids(objects, boxes, 28)
    torch.manual_seed(0)
    one = PointHead(5, 1, width=8, plan=PointPlan(196))
    with torch.no_grad():
        one.logits.weight.zero_()[0, -1] = 1
    labels = torch.zeros_like(objects)
    features = FeatureTable.of([level[:1] for level in pyramid()])

    def loss(masks: Tensor) -> float:
        return float(one.loss_sum(masks[:, None], labels, [boxes], [objects], features, [target]).detach()) / len(boxes)

    sure = 6 * (truth - 0.5)
    assert loss(sure) < 0.5 < loss(torch.zeros_like(truth)) < 0.75 < loss(-sure)
    assert loss(sure) == loss(sure)
    nothing = one.loss_sum(sure[:0, None], labels[:0], [boxes[:0]], [objects[:0]], features, [target])
    assert float(nothing.detach()) == 0


def test_shares_of_boxes() -> None:
    places = torch.tensor([[[0.0, 0.0], [1.0, 0.5]]]).expand(2, -1, -1)
    assert torch.allclose(in_pixels(places, BOXES)[0], torch.tensor([[9.3, 12.1], [40.7, 31.5]]))
    masks = torch.ones(2, 1, 4, 4)
    assert in_masks(masks, places)[0, 0].tolist() == [0.25, 0.5]  # at a corner and at an edge


def test_coarse_masks() -> None:
    one = CoarseMaskHead(6, 3, width=16)
    assert one(torch.randn(2, 6, 14, 14)).shape == (2, 3, 7, 7)
    one.set_classes(2)
    assert one(torch.randn(2, 6, 14, 14)).shape == (2, 2, 7, 7)
