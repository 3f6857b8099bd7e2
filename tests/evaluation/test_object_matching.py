from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, random_blobs, sample
from scipy.optimize import linear_sum_assignment

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.detection.object_matching import (
    DetectionCounts,
    in_ignored,
    match_image,
    pooled_detection_counts,
    tally,
)
from halfpixel.evaluation.detection.overlaps import iou_matrix
from halfpixel.structures.masks import CropMasks


def best_pairing(overlaps: np.ndarray, iou: float) -> tuple[int, float]:
    """Oracle: every way to give each row a column (or none) of its own."""
    rows, columns = overlaps.shape
    best = (0, 0.0)
    for order in permutations(range(columns + rows), rows):
        chosen = [overlaps[i, j] for i, j in enumerate(order) if j < columns and overlaps[i, j] >= iou]
        best = max(best, (len(chosen), float(sum(chosen))))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_matching_is_optimal(seed):
    generator = torch.Generator().manual_seed(seed)
    size_hw = (12, 12)
    truth, predicted = random_blobs(4, generator, size_hw, longest=11), random_blobs(4, generator, size_hw, longest=11)
    overlaps = iou_matrix(truth, predicted)
    ious = (0.1, 0.2, 0.3, 0.5)
    for iou, match in zip(ious, match_image(truth, predicted, ious=ious), strict=True):
        tp, total = best_pairing(overlaps, iou)
        assert (match.counts.tp, match.counts.fp, match.counts.fn) == (tp, 4 - tp, 4 - tp)
        assert match.counts.iou_sum == pytest.approx(total)
        assert (match.pair_ious >= iou).all()


def test_where_the_best_overlap_first_would_lose_a_pair():
    # the first truth fits the second prediction best, but must leave it to the second truth
    truth = blocks([(0, 0, 10, 10), (4, 0, 14, 10)])
    predicted = blocks([(0, 0, 6, 10), (2, 0, 12, 10)])
    (match,) = match_image(truth, predicted, ious=[0.5])
    assert match.pairs.tolist() == [[0, 0], [1, 1]]
    assert match.pair_ious == pytest.approx([60 / 100, 80 / 120])


def test_counts_by_hand():
    truth = blocks([(0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30)])
    # one 7 rows of 10 high (IoU exactly .7), one half over (IoU 1/3), one exact, one on nothing
    predicted = blocks([(0, 0, 10, 7), (25, 0, 35, 10), (0, 20, 10, 30), (40, 30, 45, 35)])
    at_half, at_seven, above = (match.counts for match in match_image(truth, predicted, ious=(0.5, 0.7, 0.75)))
    assert (at_half.tp, at_half.fp, at_half.fn) == (2, 2, 1)
    assert (at_seven.tp, above.tp) == (2, 1)
    assert at_half.accuracy == 2 / 5
    assert at_half.precision == 2 / 4
    assert at_half.recall == 2 / 3
    assert at_half.f1 == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    assert at_half.mean_matched_iou == pytest.approx((0.7 + 1) / 2)


def test_who_is_paired_with_whom():
    truth = blocks([(20, 0, 30, 10), (0, 0, 10, 10)])
    predicted = blocks([(40, 30, 45, 35), (0, 0, 10, 10)])
    (match,) = match_image(truth, predicted, ious=[0.5])
    assert match.pairs.tolist() == [[1, 1]]
    assert (match.false_positives.tolist(), match.false_negatives.tolist()) == ([0], [0])


def test_only_the_same_class_matches():
    names = ("fig", "date")
    truth = blocks([(0, 0, 10, 10)], labels=[0], names=names)
    predicted = blocks([(0, 0, 10, 10), (0, 0, 10, 8)], labels=[1, 0], names=names)
    (match,) = match_image(truth, predicted, ious=[0.5])
    assert (match.pairs.tolist(), match.false_positives.tolist()) == ([[0, 1]], [0])


def test_ignored_regions_excuse_what_is_mostly_inside_and_unpaired():
    names = ("fig", "date")
    truth = blocks([(0, 0, 10, 10)], names=names)
    crowd = blocks([(5, 0, 30, 20)], names=names)
    predicted = blocks(
        [(3, 0, 13, 10), (25, 0, 35, 10), (24, 0, 34, 10), (10, 12, 15, 17)], labels=[0, 0, 0, 1], names=names
    )
    # by area inside: 8/10 but paired at .5, exactly half, more than half, inside but of another class
    assert in_ignored(predicted, crowd).tolist() == [True, False, True, False]
    at_half, above = match_image(truth, predicted, crowd, ious=[0.5, 0.8])
    assert (at_half.pairs.tolist(), at_half.false_positives.tolist(), at_half.ignored.tolist()) == (
        [[0, 0]],
        [1, 3],
        [2],
    )
    assert (above.counts.tp, above.counts.fn, above.ignored.tolist()) == (0, 1, [0, 2])


def test_empty_images_add_nothing():
    full, nothing = blocks([(0, 0, 10, 10)]), blocks([])
    data = dataset(sample(full, 1), sample(nothing, 2), sample(nothing, 3), sample(full, 4))
    (pooled,) = pooled_detection_counts(data, [full, nothing, full, nothing], ious=[0.5])
    assert (pooled.tp, pooled.fp, pooled.fn) == (1, 1, 1)
    assert pooled.accuracy == 1 / 3


def test_pooled_is_not_the_mean_of_the_images():
    crowded = blocks([(10 * k, 0, 10 * k + 8, 8) for k in range(4)])
    single = blocks([(0, 0, 8, 8)])
    data = dataset(sample(crowded, 1), sample(single, 2))
    pooled = pooled_detection_counts(data, [crowded, blocks([])])
    assert len(pooled) == 10
    assert [one.accuracy for one in pooled] == [4 / 5] * 10


def test_nothing_at_all_is_none():
    nothing = DetectionCounts(0.5, 0, 0, 0, 0.0)
    assert (nothing.accuracy, nothing.precision, nothing.recall, nothing.f1, nothing.mean_matched_iou) == (None,) * 5
    missed = DetectionCounts(0.5, 0, 0, 3, 0.0)
    assert (missed.accuracy, missed.precision, missed.recall, missed.f1) == (0, None, 0, 0)


def test_objects_without_masks():
    with pytest.raises(ArgumentError, match="needs masks, and these 1 objects"):
        match_image(blocks([(0, 0, 5, 5)]), blocks([(0, 0, 5, 5)], masks=False))
    assert match_image(blocks([(0, 0, 5, 5)]), blocks([], masks=False), ious=[0.5])[0].counts.fn == 1


@pytest.mark.parametrize("seed", range(6))
def test_box_matching_against_every_pairing(seed):
    """Oracle: IoUs in plain Python, and the best of all pairings."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(0, 14, (8, 2, 2)), axis=1).reshape(8, 4).tolist()
    some = replace(blocks([(0, 0, 1, 1)] * 8, masks=False), boxes_xyxy=torch.tensor(corners))
    truth, predicted = some[:4], some[4:]
    overlaps = np.array([[plain_iou(a, b) for b in corners[4:]] for a in corners[:4]])
    ious = (0.05, 0.1, 0.2, 0.3)
    for iou, match in zip(ious, match_image(truth, predicted, ious=ious, kind="box"), strict=True):
        tp, total = best_pairing(overlaps, iou)
        assert (match.counts.tp, match.counts.fp, match.counts.fn) == (tp, 4 - tp, 4 - tp)
        assert match.counts.iou_sum == pytest.approx(total, abs=1e-5)


def plain_iou(a: list[float], b: list[float]) -> float:
    common = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_boxes_of_whole_rectangles_are_matched_as_their_masks_are():
    corners = [(0, 0, 5, 5), (20, 20, 30, 30), (21, 20, 31, 30)]
    truth, found = blocks(corners[:2]), blocks([(0, 1, 5, 6), *corners[1:]])
    crowd = blocks([(20, 0, 40, 35)])
    boxes = [replace(one, masks=None) for one in (truth, found, crowd)]
    for one, other in zip(match_image(*boxes, kind="box"), match_image(truth, found, crowd), strict=True):
        assert one.counts == other.counts
        assert one.pairs.tolist() == other.pairs.tolist()
        assert one.ignored.tolist() == other.ignored.tolist()


def test_a_data_set_is_compared_by_boxes_as_soon_as_there_are_no_masks():
    """Diagonal strokes do not overlap; their boxes do."""
    stroke, other = torch.eye(10, dtype=torch.bool), torch.eye(10, dtype=torch.bool).flip(1)
    masks = [CropMasks.from_crops([(one.numpy(), (5, 5))], (40, 50)) for one in (stroke, other)]
    truth, found = (replace(blocks([(5, 5, 15, 15)]), masks=one) for one in masks)
    data = dataset(sample(truth))
    assert pooled_detection_counts(data, [found], [0.5])[0].tp == 0
    assert pooled_detection_counts(data, [replace(found, masks=None)], [0.5])[0].tp == 1


def assigned_densely(overlaps: np.ndarray, iou: float) -> list[list[int]]:
    """Oracle: the whole matrix is assigned, whoever has a choice."""
    values = np.where(overlaps >= iou, 1 + overlaps.astype(np.float64) / (2 * len(overlaps)), 0)
    rows, columns = linear_sum_assignment(values, maximize=True)
    return [[i, j] for i, j in zip(rows.tolist(), columns.tolist(), strict=True) if values[i, j] > 0]


@pytest.mark.parametrize("crowded", [False, True])
def test_where_nobody_has_a_choice_and_where_some_have(crowded):
    generator = torch.Generator().manual_seed(3)
    size_hw = (60, 60) if crowded else (400, 400)
    truth = random_blobs(40, generator, size_hw, n_classes=2, longest=20)
    predicted = truth.translate(1, 0, size_hw)
    overlaps = iou_matrix(truth, predicted)
    overlaps[truth.labels.numpy()[:, None] != predicted.labels.numpy()[None]] = 0
    ious = (0.05, 0.2, 0.5, 0.6)
    has_choice = [((overlaps >= iou).sum(0) > 1).any() for iou in ious]
    assert has_choice[0] == crowded
    for iou, match in zip(ious, match_image(truth, predicted, ious=ious), strict=True):
        assert match.pairs.tolist() == assigned_densely(overlaps, iou)
        np.testing.assert_array_equal(match.pair_ious, overlaps[tuple(match.pairs.T)])


def test_groups_are_tallied_as_one_by_one():
    generator = torch.Generator().manual_seed(8)
    truth, predicted = (random_blobs(30, generator, (60, 60), longest=25) for _ in range(2))
    matches = match_image(truth, predicted, ious=(0.1, 0.3, 0.5))
    rng = np.random.default_rng(0)
    groups = [np.stack([rng.integers(0, 3, 30), 3 + rng.integers(0, 2, 30)]) for _ in range(2)]
    found = tally(matches, *groups, 5)
    assert found.shape == (5, 3, 4)
    for k, match in enumerate(matches):
        for way, (of_truth, of_predicted) in enumerate(zip(*groups, strict=True)):
            for group in ((0, 1, 2), (3, 4))[way]:
                tp = [n for n, (i, _) in enumerate(match.pairs) if of_truth[i] == group]
                fp = [j for j in match.false_positives if of_predicted[j] == group]
                fn = [i for i in match.false_negatives if of_truth[i] == group]
                iou_sum = sum(float(match.pair_ious[n]) for n in tp)
                assert found[group, k].tolist() == [len(tp), len(fp), len(fn), iou_sum]
    assert found[:, 0, 0].sum() > 10
    assert tally([], *groups, 5).shape == (5, 0, 4)
