"""Box arithmetic against torchvision."""

import math

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from halfpixel.ops import boxes


def random_boxes(n: int, seed: int, side: float = 200.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, 2, generator=generator) * side
    return torch.cat([corners.amin(1), corners.amax(1) + 5], dim=1)


def test_iou_equals_torchvision() -> None:
    a, b = random_boxes(30, 0), random_boxes(40, 1)
    torch.testing.assert_close(boxes.iou(a, b), torchvision.ops.box_iou(a, b))
    assert boxes.iou(a, b).max() > 0.3
    torch.testing.assert_close(boxes.iou(a, a).diagonal(), torch.ones(30))


def test_iou_by_hand() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 4.0, 2.0], [0.5, 0.5, 1.5, 1.5]])
    torch.testing.assert_close(boxes.iou(a, b), torch.tensor([[1 / 7, 0.0, 1 / 4]]))


def test_iou_of_empty_boxes_is_zero_and_not_nan() -> None:
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]])
    assert boxes.iou(point, point).item() == 0
    assert boxes.iou(torch.zeros(0, 4), point).shape == (0, 1)


def test_generalised_iou_equals_torchvision() -> None:
    a, b = random_boxes(60, 6), random_boxes(60, 7, 60.0) + 100
    found = boxes.generalised_iou(a, b)
    torch.testing.assert_close(found, torchvision.ops.generalized_box_iou(a, b).diagonal())
    assert found.min() < -0.3
    assert found.max() > 0.1
    point = torch.tensor([[3.0, 3.0, 3.0, 3.0]], requires_grad=True)
    boxes.generalised_iou(point, point).sum().backward()
    assert point.grad is not None
    assert point.grad.isfinite().all()


def test_centres_and_corners_equal_torchvision() -> None:
    some = random_boxes(20, 8)
    centres = torchvision.ops.box_convert(some, "xyxy", "cxcywh")
    torch.testing.assert_close(boxes.to_centres(some), centres)
    torch.testing.assert_close(boxes.to_corners(centres), some)
    assert boxes.to_corners(centres.reshape(4, 5, 4)).shape == (4, 5, 4)


def test_clip_equals_torchvision() -> None:
    some = random_boxes(50, 2, 300.0) - 50
    assert (some < 0).any()
    for size_hw in [(120, 90), (90, 120), (1, 1)]:
        expected = torchvision.ops.clip_boxes_to_image(some, size_hw)
        torch.testing.assert_close(boxes.clip(some, torch.tensor(size_hw)), expected, rtol=0, atol=0)


def test_clip_with_a_size_for_each_box_and_with_several_boxes_in_a_row() -> None:
    some = random_boxes(6, 3, 300.0) - 50
    sizes = torch.tensor([[100, 50], [30, 200], [70, 70], [1, 9], [300, 300], [20, 20]])
    expected = torch.cat([torchvision.ops.clip_boxes_to_image(b[None], tuple(s)) for b, s in zip(some, sizes.tolist())])  # noqa: B905
    torch.testing.assert_close(boxes.clip(some, sizes), expected, rtol=0, atol=0)
    nested = boxes.clip(some.reshape(2, 3, 4), torch.tensor([40, 60]))
    torch.testing.assert_close(nested.reshape(6, 4), boxes.clip(some, torch.tensor([40, 60])))


def test_expand_moves_every_side_outwards() -> None:
    given = torch.tensor([[10.0, 20, 30, 60], [5, 5, 5, 9]])
    wanted = torch.tensor([[5.0, 10, 35, 70], [5, 4, 5, 10]])
    assert torch.equal(boxes.expand(given, 0.25), wanted)
    assert torch.equal(boxes.expand(given, 0.0), given)


def test_large_enough_asks_for_both_sides() -> None:
    some = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.9, 5.0], [0.0, 0.0, 5.0, 1.9], [4.0, 4.0, 2.0, 2.0]])
    assert boxes.large_enough(some, 2.0).tolist() == [True, False, False, False]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (10.0, 5.0)])
def test_refinements_equal_torchvision(weights: tuple[float, float]) -> None:
    targets, references = random_boxes(40, 4), random_boxes(40, 5)
    coder = BoxCoder((weights[0], weights[0], weights[1], weights[1]))
    encoded = boxes.encode(targets, references, weights)
    torch.testing.assert_close(encoded, coder.encode_single(targets, references), atol=1e-5, rtol=1e-5)
    deltas = torch.randn(40, 3, 4, generator=torch.Generator().manual_seed(6)) * 3
    expected = coder.decode_single(deltas.reshape(40, 12), references).reshape(40, 3, 4)
    torch.testing.assert_close(boxes.decode(deltas, references[:, None], weights), expected, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (10.0, 5.0)])
def test_decoding_inverts_encoding(weights: tuple[float, float]) -> None:
    targets, references = random_boxes(40, 7).double(), random_boxes(40, 8).double()
    torch.testing.assert_close(boxes.decode(boxes.encode(targets, references, weights), references, weights), targets)


def test_a_wild_refinement_stays_finite() -> None:
    wild = boxes.decode(torch.tensor([[0.0, 0.0, 900.0, 900.0]]), torch.tensor([[0.0, 0.0, 16.0, 16.0]]), (1.0, 1.0))
    assert (wild[0, 2] - wild[0, 0]).item() == pytest.approx(1000, rel=1e-5)
    assert math.exp(boxes.LARGEST_LOG_SCALE) == pytest.approx(62.5)


def test_half_precision_refinements_move_boxes_in_single_precision() -> None:
    reference = torch.tensor([[1180.0, 0.0, 1194.6, 10.0]])
    still = boxes.decode(torch.zeros(1, 4, dtype=torch.bfloat16), reference, (1.0, 1.0))
    assert still.dtype == torch.float32
    torch.testing.assert_close(still, reference, atol=1e-3, rtol=0)


def crowd(n: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    corners = torch.rand(n, 2, generator=generator) * 80
    sides = 10 + 30 * torch.rand(n, 2, generator=generator)
    return (
        torch.cat([corners, corners + sides], 1),
        torch.rand(n, generator=generator),
        torch.randint(3, (n,), generator=generator),
    )


def greedily(some: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    overlaps = torchvision.ops.box_iou(some, some)
    for k in scores.argsort(descending=True).tolist():
        if all(groups[j] != groups[k] or overlaps[j, k] <= threshold for j in kept):
            kept.append(k)
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("exporting", [False, True])
def test_suppression_is_greedy_in_each_group(
    threshold: float, exporting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    some, scores, groups = crowd(150)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    kept = boxes.suppress(some, scores, groups, threshold).tolist()
    assert kept == greedily(some, scores, groups, threshold)
    assert kept == torchvision.ops.batched_nms(some, scores, groups, threshold).tolist()
    assert len(kept) < 150


@pytest.mark.parametrize("exporting", [False, True])
def test_nothing_to_suppress(exporting: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    none = torch.zeros(0, dtype=torch.int64)
    assert boxes.suppress(torch.zeros(0, 4), torch.zeros(0), none, 0.5).shape == (0,)
