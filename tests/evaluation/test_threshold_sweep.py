import dataclasses

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, random_blobs, sample

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.counts.count_errors import count_error, image_counts
from halfpixel.evaluation.detection.object_matching import pooled_detection_counts
from halfpixel.evaluation.thresholds.goals import Goal, thresholds_between
from halfpixel.evaluation.thresholds.threshold_sweep import Sweep, SweepPoint, count_curve, sweep
from halfpixel.structures.instances import Instances

LEFT, MIDDLE, RIGHT, BELOW = (0, 0, 10, 10), (15, 0, 25, 10), (30, 0, 40, 10), (0, 20, 10, 30)


def blobs(n_images: int, seed: int = 0) -> tuple[Dataset, list[Instances]]:
    """Ragged objects, and predictions that are some of them and some others."""
    generator = torch.Generator().manual_seed(seed)
    samples, predictions = [], []
    for k in range(n_images):
        truth = random_blobs(8 + k, generator)
        kept = torch.rand(len(truth), generator=generator) < 0.8
        scores = torch.rand(int(kept.sum()), generator=generator)
        predictions.append(dataclasses.replace(truth[kept], scores=scores))
        samples.append(sample(dataclasses.replace(truth, scores=torch.ones(len(truth))), image_id=k))
    return dataset(*samples, names=("class 0",)), predictions


def test_every_point_is_what_an_evaluation_at_its_threshold_finds() -> None:
    data, predictions = blobs(5)
    swept = sweep(data, predictions, (0.1, 0.45, 0.8), iou=0.6)
    for point in swept.points:
        kept = [one.above(point.threshold) for one in predictions]
        assert [point.detection] == pooled_detection_counts(data, kept, [0.6])
        assert point.count == count_error(image_counts(data, kept))
        assert point.found == sum(len(one) for one in kept)
        row = point.to_json()
        assert row["f1"] == point.detection.f1
        assert row["count_mae"] == point.count.mae
    assert [point.threshold for point in swept.points] == [0.1, 0.45, 0.8]


def by_hand() -> Sweep:
    """Two objects: found surely, found at .6; nothing at .4, another nothing at .3."""
    truth = blocks([LEFT, MIDDLE])
    found = blocks([LEFT, MIDDLE, RIGHT, BELOW], scores=[0.95, 0.6, 0.4, 0.3])
    return sweep(dataset(sample(truth)), [found], (0.2, 0.35, 0.5, 0.55, 0.7))


def test_goals_by_hand() -> None:
    swept = by_hand()
    assert [point.found for point in swept.points] == [4, 3, 2, 2, 1]
    assert [point.detection.precision for point in swept.points] == [0.5, pytest.approx(2 / 3), 1, 1, 1]
    assert [point.count.bias for point in swept.points] == [2, 1, 0, 0, -1]
    # of two equal ones the lower
    for goal in (Goal("f1"), Goal("count")):
        assert swept.recommend(goal).threshold == 0.5
        assert swept.recommend(goal).tied == (0.5, 0.55)
    # the lowest that is precise enough
    assert swept.recommend(Goal("precision", 1.0)).threshold == 0.5
    assert swept.recommend(Goal("precision", 1.0)).tied == (0.5,)
    assert swept.recommend(Goal("precision", 0.6)).threshold == 0.35
    assert swept.recommend(Goal("count")).interval is None  # one image


def of_errors(*errors: tuple[int, ...]) -> Sweep:
    """A sweep of which only the count errors matter: one tuple for each threshold."""
    outcomes = np.array([[(1, 0, 0, error) for error in row] for row in errors], dtype=np.float64)
    return Sweep(0.5, tuple(SweepPoint(0.1 * k, 0) for k in range(len(errors))), len(errors[0]), outcomes)


def test_of_equal_mean_absolute_errors_the_one_with_less_bias() -> None:
    assert of_errors((2, 2), (2, -2), (-2, -2), (4, 0)).recommend(Goal("count")).threshold == pytest.approx(0.1)


@pytest.mark.parametrize(("n_tied", "place"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_of_tied_thresholds_the_middle_one(n_tied: int, place: int) -> None:
    best = of_errors((3, 3), *[(1, -1)] * n_tied, (1, 1)).recommend(Goal("count"))
    assert best.threshold == pytest.approx(0.1 * place)
    assert best.tied == tuple(pytest.approx(0.1 * k) for k in range(1, n_tied + 1))


def test_nothing_is_precise_enough() -> None:
    found = blocks([RIGHT, LEFT], scores=[0.9, 0.5])
    swept = sweep(dataset(sample(blocks([LEFT]))), [found], (0.3, 0.8))
    assert swept.recommend(Goal("precision", 0.9)) is None
    assert swept.recommend(Goal("precision", 0.5)).threshold == 0.3
    # with nothing found nothing is precise
    assert sweep(dataset(sample(blocks([LEFT]))), [blocks([])], (0.3,)).recommend(Goal("precision", 0.5)) is None


@pytest.mark.parametrize("goal", [Goal("f1"), Goal("count"), Goal("precision", 0.7)], ids=str)
def test_resampling_is_a_sweep_over_the_images_drawn(goal: Goal) -> None:
    data, predictions = blobs(6, seed=3)
    thresholds = thresholds_between(0.1, 0.9, 0.1)
    swept = sweep(data, predictions, thresholds)
    times = np.random.default_rng(0).multinomial(6, np.full(6, 1 / 6), size=8)
    chosen = []
    for drawn in times:
        rows = np.repeat(np.arange(6), drawn)
        again = dataclasses.replace(data, samples=tuple(data.samples[k] for k in rows))
        best = sweep(again, [predictions[k] for k in rows], thresholds).recommend(goal)
        chosen.append(-1 if best is None else thresholds.index(best.threshold))
    assert swept._chosen(goal, times).tolist() == chosen
    best = swept.recommend(goal)
    assert best.interval.low <= best.threshold <= best.interval.high
    assert {best.interval.low, best.interval.high} <= set(thresholds)
    assert best == swept.recommend(goal)


def test_a_sure_choice_has_a_narrow_interval_and_a_vague_one_a_wide() -> None:
    sure = of_errors(*[(k - 3,) * 10 for k in range(7)])
    assert (sure.recommend(Goal("count")).interval.low, sure.recommend(Goal("count")).interval.high) == (
        pytest.approx(0.3),
        pytest.approx(0.3),
    )
    vague = of_errors(*[tuple(range(k - 8, k + 2)) for k in range(7)]).recommend(Goal("count"))
    assert vague.interval.high - vague.interval.low >= 0.2


def test_goals_are_read() -> None:
    assert Goal.parse("f1") == Goal("f1")
    assert Goal.parse("precision=0.95") == Goal("precision", 0.95)
    assert [str(Goal.parse(text)) for text in ("count", "precision=.9")] == ["count", "precision=0.9"]
    for wrong in ("", "recall", "precision", "precision=2", "precision=0", "precision=x", "precision=nan", "f1=1"):
        with pytest.raises(ArgumentError, match=r"or precision=0\.95"):
            Goal.parse(wrong)


def test_thresholds() -> None:
    assert thresholds_between() == (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert thresholds_between(0.5, 0.5, 0.1) == (0.5,)
    assert thresholds_between(0, 0.25, 0.1) == (0, 0.1, 0.2)
    for wrong in ((0.5, 0.4, 0.1), (-0.1, 0.5, 0.1), (0.1, 1, 0.1), (0.1, 0.5, 0), (0, 0.9, 1e-4), (0.1, 0.5, np.nan)):
        with pytest.raises(ArgumentError):
            thresholds_between(*wrong)


def test_without_annotations_there_is_only_the_count() -> None:
    swept = count_curve([blocks([LEFT, RIGHT], scores=[0.9, 0.4]), blocks([])], (0.3, 0.5))
    assert [point.to_json() for point in swept.points] == [
        {"threshold": 0.3, "found": 2},
        {"threshold": 0.5, "found": 1},
    ]
    with pytest.raises(ArgumentError, match="annotated"):
        swept.recommend(Goal("count"))


def test_what_cannot_be_swept() -> None:
    data, predictions = blobs(2)
    for thresholds in ((), (0.5, 0.4), (0.5, 1.5)):
        with pytest.raises(ArgumentError, match="ascending"):
            sweep(data, predictions, thresholds)
    for iou in (0, 1.1):
        with pytest.raises(ArgumentError, match="IoU"):
            sweep(data, predictions, (0.5,), iou=iou)
    with pytest.raises(ArgumentError, match="one per image"):
        sweep(data, predictions[:1], (0.5,))
