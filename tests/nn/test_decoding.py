import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from halfpixel.nn.decoding import Found, detections
from halfpixel.ops.finite import is_finite
from halfpixel.structures.images import Limits

SIZE_HW = torch.tensor([60, 80])


def references(n: int = 200, classes: int = 3) -> tuple[Tensor, Tensor]:
    """Scores and boxes, some of them beyond the image."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(n, 2, generator=generator) * torch.tensor([100.0, 80.0]) - 10
    half = torch.rand(n, 2, generator=generator) * 12
    return torch.rand(n, classes, generator=generator), torch.cat([centres - half, centres + half], 1)


def detect(scores: Tensor, boxes_xyxy: Tensor, threshold: float, limit: int, *others: object) -> Found:
    return detections(scores, boxes_xyxy, SIZE_HW, Limits.of(threshold, limit), *others)  # type: ignore[arg-type]


@pytest.mark.parametrize("iou", [None, 0.4])
def test_every_reference_may_be_one_of_each_class(iou: float | None) -> None:
    scores, boxes_xyxy = references()
    found = detect(scores, boxes_xyxy, 0.5, 10_000, iou, torch.tensor(True))
    expected = []
    for k, box in enumerate(boxes_xyxy.tolist()):
        x0, x1 = (min(max(x, 0.0), 80.0) for x in box[0::2])
        y0, y1 = (min(max(y, 0.0), 60.0) for y in box[1::2])
        if x1 - x0 >= 1e-2 and y1 - y0 >= 1e-2:
            expected += [(float(s), k, c, (x0, y0, x1, y1)) for c, s in enumerate(scores[k]) if s > 0.5]
    expected.sort(key=lambda one: -one[0])
    if iou is not None:
        corners, given = torch.tensor([one[3] for one in expected]), torch.tensor([one[0] for one in expected])
        kept = batched_nms(corners, given, torch.tensor([one[2] for one in expected]), iou)
        expected = [expected[k] for k in kept.tolist()]
    assert found.sources.tolist() == [one[1] for one in expected]
    assert found.labels.tolist() == [one[2] for one in expected]
    torch.testing.assert_close(found.boxes_xyxy, torch.tensor([one[3] for one in expected]))
    torch.testing.assert_close(found.scores, scores[found.sources, found.labels])
    assert int(found.candidates) == len(expected)
    assert not found.saturated


def test_a_box_for_each_class() -> None:
    scores, boxes_xyxy = references(50)
    of_classes = torch.stack([boxes_xyxy, boxes_xyxy + 3, boxes_xyxy - 3], 1)
    found = detect(scores, of_classes, 0.3, 1000, None, torch.tensor(True))
    low, high = torch.zeros(4), torch.tensor([80.0, 60, 80, 60])
    torch.testing.assert_close(found.boxes_xyxy, of_classes[found.sources, found.labels].clamp(low, high))


def test_a_cut_before_suppression_is_told() -> None:
    scores, boxes_xyxy = references()
    whole = detect(scores, boxes_xyxy, 0.1, 1000, 0.4, torch.tensor(True))
    ample = detect(scores, boxes_xyxy, 0.1, 1000, 0.4, torch.tensor(True), 600)
    short = detect(scores, boxes_xyxy, 0.1, 1000, 0.4, torch.tensor(True), 60)
    assert all(torch.equal(a, b) for a, b in zip(whole, ample, strict=True))
    assert short.saturated
    assert not whole.saturated
    assert torch.equal(short.scores, whole.scores[: len(short.scores)])  # the best suppress all the same


def test_the_limit_and_nan() -> None:
    scores, boxes_xyxy = references()
    few = detect(scores, boxes_xyxy, 0.1, 7, None, torch.tensor(True))
    assert len(few.scores) == 7
    assert few.saturated
    scores[3, 1] = torch.nan
    assert detect(scores, boxes_xyxy, 0.1, 7, None, is_finite(scores)).candidates == -1
