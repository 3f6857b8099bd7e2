"""The operators that take another way while a graph is exported, against the way that they take otherwise."""

import pytest
import torch
import torchvision
from test_roi_align import STRIDES, pyramid, regions

from halfpixel.ops.boxes import suppress
from halfpixel.ops.roi_align import roi_align


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size", [7, 14])
def test_crops(aligned: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features, given = pyramid(), regions()
    expected = roi_align(features, *given, STRIDES, size, 2, aligned)
    calls = []
    monkeypatch.setattr(torch.nn.functional, "embedding_bag", lambda *_, **__: calls.append(1))
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(roi_align(features, *given, STRIDES, size, 2, aligned), expected)
    nothing = [one[:0] for one in given]
    assert roi_align(features, *nothing, STRIDES, size, 2, aligned).shape == (0, 3, size, size)
    assert calls == []


@pytest.mark.parametrize("groups", [1, 5, 80, 365])
def test_suppression_of_many_classes(exporting: None, groups: int) -> None:
    """In float32, small objects far from the origin, and as if coordinates had no end: in float64."""
    generator = torch.Generator().manual_seed(groups)
    corners = torch.rand(600, 2, generator=generator) * 40 + torch.tensor([1280.0, 740.0])
    boxes = torch.cat([corners, corners + 8 + 4 * torch.rand(600, 2, generator=generator)], dim=1)
    scores = torch.rand(600, generator=generator)
    group = torch.randint(groups, (600,), generator=generator)
    expected = torchvision.ops.batched_nms(boxes.double(), scores.double(), group, 0.5)
    kept = suppress(boxes, scores, group, 0.5)
    assert kept.dtype == torch.int64
    assert kept.tolist() == expected.tolist()
    assert len(kept) < 600
