import sys

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, random_blobs, sample
from scipy.ndimage import binary_erosion

from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.evaluation.coco.boundary_ap import boundary_ap

SIZE_HW = (90, 120)
BAND_PX = 3  # 2% of a diagonal of 150


def band(mask: np.ndarray) -> np.ndarray:
    return mask & ~binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=BAND_PX)[1:-1, 1:-1]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def test_the_iou_of_bands_decides():
    """Oracle: one object; AP is the part of the ten IoUs that the smaller of both IoUs reaches."""
    pytest.importorskip("faster_coco_eval")
    truth = blocks([(20, 20, 80, 70)], size_hw=SIZE_HW)
    for shift in (0, 1, 2, 3):
        predicted = blocks([(20 + shift, 20, 80 + shift, 70)], size_hw=SIZE_HW)
        a, b = (one.masks.dense()[0].numpy() for one in (truth, predicted))
        reached = min(iou(a, b), iou(band(a), band(b)))
        assert shift == 0 or reached < iou(a, b)
        expected = np.mean([reached >= level for level in np.linspace(0.5, 0.95, 10)])
        result = boundary_ap(dataset(sample(truth)), [predicted], max_detections=100)
        assert result.ap == pytest.approx(expected)
        assert (result.ap50, result.ap75) == (float(reached >= 0.5), float(reached >= 0.75))


def test_intervals_and_limits():
    pytest.importorskip("faster_coco_eval")
    generator = torch.Generator().manual_seed(1)
    truths = [random_blobs(8, generator, n_classes=2) for _ in range(5)]
    data = dataset(*(sample(one, 9 - k) for k, one in enumerate(truths)), names=truths[0].class_names)
    predictions = [one.translate(k // 2, 0, one.size_hw) for k, one in enumerate(truths)]
    result = boundary_ap(data, predictions, max_detections=100, resamples=40)
    assert 0.1 < result.ap < 0.9
    for name in ("ap", "ap50", "ap75"):
        assert result.intervals[name].low <= getattr(result, name) <= result.intervals[name].high
    assert result.intervals["ap"].low < result.intervals["ap"].high
    assert boundary_ap(data, predictions, max_detections=1).ap < result.ap
    assert "2% of the image's diagonal" in result.definition


def test_without_objects():
    pytest.importorskip("faster_coco_eval")
    one, nothing = blocks([(0, 0, 10, 10)]), blocks([])
    assert boundary_ap(dataset(sample(nothing)), [one], max_detections=100).ap is None
    assert boundary_ap(dataset(sample(one)), [nothing], max_detections=100).ap == 0
    assert boundary_ap(dataset(), [], max_detections=100).ap is None


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingDependencyError, match=r"halfpixel\[boundary\]"):
        boundary_ap(dataset(), [], max_detections=100)


def test_bad_limit():
    with pytest.raises(ArgumentError, match="at least 1, got 0"):
        boundary_ap(dataset(), [], max_detections=0)
