"""What is Mask2Former's own: boxes of masks, scores, a full set of queries, its losses."""

import dataclasses

import pytest
import torch
from networks import CLASSES, batch_of, enliven, scene, weights
from torch import Tensor, nn

from halfpixel.models import mask2former
from halfpixel.models.mask2former import Mask2Former, Settings, class_loss, match_masks, outline
from halfpixel.nn.matching import IGNORED
from halfpixel.structures.images import Limits, Resized

SIDE = 96


@pytest.fixture(scope="module")
def model() -> Mask2Former:
    torch.manual_seed(0)
    network = mask2former.mask2former_lite(CLASSES, Settings(queries=30, points=500)).eval()
    return enliven(network, images())  # type: ignore[return-value]


def images() -> Tensor:
    return torch.stack([scene(SIDE, seed=seed)[0] for seed in (1, 2)])


def blobs(count: int, height: int, width: int) -> Tensor:
    """Logits of round masks, some of which reach beyond the edge."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    rows = []
    for cx, cy, radius in torch.rand(count, 3, generator=generator).tolist():
        rows.append(2 + 4 * radius - torch.hypot(x - width * cx, y - height * cy))
    return torch.stack(rows)


def test_boxes_and_certainties_against_masks_drawn_on_the_image() -> None:
    masks, size_hw = blobs(20, 24, 32), torch.tensor([90, 113])
    boxes_xyxy, certainty = outline(torch.eye(20), masks, size_hw)
    drawn = nn.functional.interpolate(masks[None], scale_factor=32, mode="bilinear", align_corners=False)[0]
    drawn = drawn[:, : 90 * 8, : 113 * 8]  # eight points in each pixel of the image
    for box, mean, logits, mask in zip(boxes_xyxy, certainty, drawn, masks, strict=True):
        y, x = torch.nonzero(logits > 0).unbind(1)
        expected = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]) / 8
        cut = box.minimum(torch.tensor([113.0, 90.0, 113.0, 90.0]))
        if mean == 0:  # seen between the last centres and the edge
            assert expected[0] > 4 * 27.5 or expected[1] > 4 * 21.5
            continue
        assert (cut - expected).abs().max() < 0.3
        seen = mask[:22, :28].flatten()  # cells whose centres are in the image: 90 / 4 = 22.5, 113 / 4 = 28.25
        assert mean.item() == pytest.approx(seen[seen > 0].sigmoid().mean().item(), abs=1e-5)


def test_scores_are_class_times_mask(model: Mask2Former) -> None:
    size_hw = torch.tensor([[SIDE, SIDE]] * 2)
    with torch.no_grad():
        said, maps = model.says(images())
        outputs = model(images(), size_hw, Limits.of(0.0, 1000))
    probabilities = model.logits(said[-1][0]).softmax(2)[..., :-1]
    masks = torch.einsum("bqc,bchw->bqhw", said[-1][1], maps)
    above = (masks > 0).float()
    means = (masks.sigmoid() * above).sum((2, 3)) / (above.sum((2, 3)) + 1e-6)  # as the authors have it
    for k in range(2):
        rows = outputs["image_index"] == k
        expected = (probabilities[k] * means[k, :, None]).flatten()
        torch.testing.assert_close(outputs["scores"][rows], expected[expected > 0].sort(descending=True).values)


def test_boxes_are_the_masks_own(model: Mask2Former) -> None:
    limits = Limits.of(0.1, 50)
    with torch.no_grad():
        outputs = model(images(), torch.tensor([[SIDE, 80]] * 2), limits)
    sizes = [Resized((SIDE, 80), (SIDE, 80))] * 2
    found = 0
    for objects in model.decode(outputs, sizes, limits):
        assert objects.masks is not None
        beyond = (objects.masks.boxes_xyxy() - objects.boxes_xyxy) * torch.tensor([-1.0, -1.0, 1.0, 1.0])
        assert beyond.max() <= 0.5  # half a pixel, whose centre is covered
        assert (beyond > -0.51).float().mean() > 0.9  # but for tips thinner than a pixel
        found += len(objects)
    assert found > 10


def test_a_full_set_of_queries_is_said(model: Mask2Former) -> None:
    size_hw = torch.tensor([[SIDE, SIDE]] * 2)
    with torch.no_grad():
        said, maps = model.says(images())
        best = [
            model.logits(said[-1][0][k]).softmax(1)[:, :-1].amax(1) * outline(said[-1][1][k], maps[k], size_hw[k])[1]
            for k in range(2)
        ]
        lowest = float(best[0].min())
        assert lowest > 0
        full = model(images(), size_hw, Limits.of(0.99 * lowest, 10_000))
        almost = model(images(), size_hw, Limits.of(1.01 * lowest, 10_000))
    assert bool(full["saturated"][0])
    assert full["candidates"][0] >= 30
    assert not bool(almost["saturated"][0])


def test_nan_shows(model: Mask2Former) -> None:
    given = images()
    given[1, 0, 40, 40] = torch.nan
    with torch.no_grad():
        outputs = model(given, torch.tensor([[SIDE, SIDE]] * 2), Limits.of(0.1, 20))
    assert outputs["candidates"][0] > 0
    assert outputs["candidates"][1] == -1


def test_each_object_is_one_query_s() -> None:
    """Queries that say what objects are like are theirs, whatever the order."""
    truths = (blobs(4, 24, 32).flatten(1) > 0).float()
    labels = torch.tensor([0, 1, 1, 0])
    order = torch.tensor([2, 0, 3, 1])
    masks = torch.cat([torch.full((3, truths.shape[1]), -3.0), 6 * truths[order] - 3])
    logits = torch.zeros(7, 3)
    queries, objects = match_masks(logits, masks, truths, labels)
    assert queries.tolist() == [3, 4, 5, 6]
    assert objects.tolist() == order.tolist()
    twins = torch.cat([masks[3:4], masks[3:4]])  # only their classes tell which is which
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]])
    queries, objects = match_masks(logits, twins, truths[[2, 2]], torch.tensor([1, 0]))
    assert objects.tolist() == [1, 0]


def test_the_class_term_is_torch_s_weighted_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 30, 4, generator=generator)
    wanted = torch.full((2, 30), 3)
    wanted[0, :5], wanted[1, 7:9] = torch.tensor([0, 1, 2, 1, 0]), 2
    expected = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.0, 1.0, 0.1]))(logits.flatten(0, 1), wanted.flatten())
    torch.testing.assert_close(class_loss(logits, wanted, 7), expected)
    wanted[1, 20:] = IGNORED
    moved = logits.clone()
    moved[1, 20:] += torch.randn(10, 4, generator=generator)
    assert class_loss(moved, wanted, 7) == class_loss(logits, wanted, 7)


def test_what_lies_in_a_crowd_is_not_told_to_be_nothing(model: Mask2Former) -> None:
    image, target = scene(SIDE, objects=0)
    crowd = dataclasses.replace(target, ignored_xyxy=torch.tensor([[0.0, 0.0, SIDE, SIDE]]))
    with torch.no_grad():
        plain, ignored = (model.losses(batch_of(image), [one])["class"] for one in (target, crowd))
    assert plain > 0
    assert ignored < 0.1 * plain  # but for queries with no mask at all


def test_more_objects_than_queries_train() -> None:
    torch.manual_seed(0)
    few = mask2former.mask2former_lite(CLASSES, Settings(queries=3, points=500))
    image, target = scene(SIDE, objects=4)
    losses = few.losses(batch_of(image), [target])
    assert all(torch.isfinite(one) and one > 0 for one in losses.values())


def test_sizes_of_the_variants() -> None:
    assert weights(mask2former, "mask2former_lite") < 6_000_000
    with torch.device("meta"):
        queries = {name: build(CLASSES, None).settings.queries for name, build in mask2former.VARIANTS.items()}
    assert queries == dict.fromkeys(mask2former.VARIANTS, 100) | {"mask2former_swin_l": 200, "mask2former_lite": 200}
