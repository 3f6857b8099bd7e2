"""Against hotcoco's own accumulation, which equals pycocotools."""

import numpy as np
import pytest
import torch
from hotcoco import COCO, COCOeval
from oracles.average_precision import average_precision_slowly
from scenes import blocks, dataset, random_blobs, sample

from halfpixel.evaluation.coco.accumulate import ScoredMatches, average_precision, average_recall
from halfpixel.evaluation.coco.average_precision import coco_tables, match_coco

SIZE_HW = (160, 160)
LIMITS = (1, 4, 10, 30)


def scene(n_images=6):
    """Small, medium and large objects of two classes, crowd regions, equal scores, and an image without anything."""
    generator = torch.Generator().manual_seed(5)
    names = ("class 0", "class 1")
    samples, predictions = [], []
    for k in range(n_images):
        truth = random_blobs(14, generator, SIZE_HW, n_classes=2, longest=(20, 60, 140)[k % 3])
        crowd = blocks([(0, 0, 70, 70)], labels=[k % 2], names=names, size_hw=SIZE_HW) if k % 2 else None
        samples.append(sample(truth, 100 - k, ignored=crowd))
        predicted = truth.translate(k % 3, 1, SIZE_HW)
        extra = random_blobs(25, generator, SIZE_HW, n_classes=2, longest=70)
        predictions.append(predicted if k % 2 else extra)
        predictions[-1].scores.mul_(20).round_().div_(20)
    nothing = blocks([], names=names, size_hw=SIZE_HW)
    return dataset(*samples, sample(nothing, 7), names=names), [*predictions, nothing]


@pytest.mark.parametrize("kind", ["mask", "box"])
def test_equal_to_hotcoco(kind):
    data, predictions = scene()
    tables, results = coco_tables(data, predictions, kind)
    truth = COCO(tables)
    evaluation = COCOeval(truth, truth.load_res(results), "segm" if kind == "mask" else "bbox")
    evaluation.params.max_dets = list(LIMITS)
    evaluation.evaluate()
    evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name]) for name in ("precision", "recall"))
    matches = match_coco(data, predictions, kind=kind, max_detections=max(LIMITS))
    once = np.ones((1, len(data.samples)))
    seen = []
    for a, classes in enumerate(matches.by_range):
        for k, one in enumerate(classes):
            for m, limit in enumerate(LIMITS):
                ap, ar = average_precision(one, once, limit)[0], average_recall(one, once, limit)[0]
                if (precision[:, :, k, a, m] == -1).all():
                    assert np.isnan(ap).all()
                    assert np.isnan(ar).all()
                    continue
                np.testing.assert_allclose(ap, precision[:, :, k, a, m].mean(1), atol=1e-9)
                np.testing.assert_allclose(ar, recall[:, k, a, m], atol=1e-9)
                seen += ap.tolist()
    assert len(seen) > 150
    assert np.std(seen) > 0.1


def test_weights_are_images_that_are_there_several_times():
    """Oracle: the data set with each image as often as its weight says."""
    data, predictions = scene()
    for one in predictions:  # with equal scores the order of copies matters
        one.scores.add_(torch.rand(len(one), generator=torch.Generator().manual_seed(len(one))) / 1000)
    rng = np.random.default_rng(0)
    matches = match_coco(data, predictions, kind="mask", max_detections=30)
    weights = rng.multinomial(7, np.full(7, 1 / 7), size=4)
    for row in weights:
        chosen = np.repeat(np.arange(7), row)
        copies = [sample(data.samples[k].objects, n + 1, ignored=data.samples[k].ignored) for n, k in enumerate(chosen)]
        repeated = match_coco(
            dataset(*copies, names=data.class_names), [predictions[k] for k in chosen], kind="mask", max_detections=30
        )
        for few, many in zip(matches.by_range, repeated.by_range, strict=True):
            for one, other in zip(few, many, strict=True):
                for compute in (average_precision, average_recall):
                    expected = compute(other, np.ones((1, 7)), 10)[0]
                    np.testing.assert_allclose(compute(one, row[None], 10)[0], expected, atol=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.97, 1.0])
def test_runs_put_together_equal_every_detection(share):
    """Oracle: one detection after the other. Shares of right ones from none to all, some that do not count."""
    rng = np.random.default_rng(int(100 * share))
    for n_detections in (0, 1, 2, 7, 300):
        image = rng.integers(0, 9, n_detections)
        right = rng.random((3, n_detections)) < share
        wrong = ~right & (rng.random((3, n_detections)) < 0.9)
        matches = ScoredMatches(image, rng.integers(0, 40, n_detections), right, wrong, rng.integers(1, 60, 9))
        weights = rng.multinomial(9, np.full(9, 1 / 9), size=12)
        found = average_precision(matches, weights, 30)
        some = matches.rank < 30
        for times, row in zip(weights, found, strict=True):
            for k in range(3):
                expected = average_precision_slowly(
                    right[k, some], wrong[k, some], times[image[some]], times @ matches.annotated
                )
                assert row[k] == pytest.approx(expected, rel=1e-13, abs=1e-15)


def test_recalls_are_reached_as_floats_say():
    """1 of 3, 29 of 100 and such lie on a level or beside it, by how they are rounded."""
    for n in (*range(1, 130), 1000, 2900):
        for found in {1, n // 3, n // 2, n}:
            right = np.arange(found) >= 0
            matches = ScoredMatches(np.zeros(found, int), np.arange(found), right[None], ~right[None], np.array([n]))
            ap = average_precision(matches, np.ones((1, 1)), n)
            assert ap == pytest.approx(np.count_nonzero(np.linspace(0, 1, 101) <= found / n) / 101 * (found > 0))


def test_draws_in_blocks_equal_draws_one_by_one(monkeypatch):
    data, predictions = scene()
    one = match_coco(data, predictions, kind="mask", max_detections=30).by_range[0][0]
    weights = np.random.default_rng(0).multinomial(7, np.full(7, 1 / 7), size=23)
    whole = average_precision(one, weights, 30)
    monkeypatch.setattr("halfpixel.evaluation.coco.accumulate._AT_ONCE", 40)
    np.testing.assert_array_equal(average_precision(one, weights, 30), whole)
    np.testing.assert_array_equal(np.concatenate([average_precision(one, row[None], 30) for row in weights]), whole)


def test_some_of_the_images():
    data, predictions = scene()
    one = match_coco(data, predictions, kind="mask", max_detections=30).by_range[0][1]
    images = np.array([4, 0, 2])
    weights = np.zeros((1, 7))
    weights[0, images] = 1
    part = one.of_images(images)
    np.testing.assert_array_equal(part.annotated, one.annotated[images])
    np.testing.assert_allclose(average_precision(part, np.ones((1, 3)), 30), average_precision(one, weights, 30))
