from dataclasses import replace

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, sample
from scipy.special import expit, logit

from halfpixel.evaluation.counts.score_calibration import (
    Cell,
    cross_validated_loss,
    find_cells,
    fit_isotonic,
    fit_platt,
    folds,
    pooled,
    reliability_bins,
)

LEFT, MIDDLE, RIGHT = (0, 0, 10, 10), (15, 0, 25, 10), (30, 0, 40, 10)


def rising_steps(scores: np.ndarray, real: np.ndarray) -> np.ndarray:
    """The max-min formula of isotonic regression (Barlow et al. 1972), at every score."""
    order = np.argsort(scores, kind="stable")
    x, y, n = scores[order], real[order].astype(float), len(scores)
    first = [int(np.searchsorted(x, one, "left")) for one in x]
    last = [int(np.searchsorted(x, one, "right")) for one in x]
    fitted = np.empty(n)
    for k in range(n):
        starts, stops = {i for i in first if i <= first[k]}, {j for j in last if j >= last[k]}
        fitted[order[k]] = max(min(y[i:j].mean() for j in stops) for i in starts)
    return fitted


def test_isotonic_is_the_best_rising_curve() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(5, 100, 80) / 100  # some are equal
    real = rng.random(80) < scores
    knots, probabilities = fit_isotonic(scores, real)
    found = np.interp(scores, knots, probabilities)
    np.testing.assert_allclose(found, np.clip(rising_steps(scores, real), 1 / 82, 1 - 1 / 82))


def test_platt_finds_the_line_it_was_drawn_from() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.05, 0.99, 20_000)
    real = rng.random(20_000) < expit(1.7 * logit(scores) - 0.8)
    knots, probabilities = fit_platt(scores, real)
    at = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(np.interp(at, knots, probabilities), expit(1.7 * logit(at) - 0.8), atol=0.015)


def test_platt_is_where_the_loss_is_smallest() -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0.05, 0.99, 60)
    real = rng.random(60) < scores**2

    def loss(p: np.ndarray) -> float:
        return float(-np.log(np.where(real, p, 1 - p)).sum())

    def penalised(a: float, b: float) -> float:
        return loss(expit(a * logit(scores) + b)) + 0.5 * ((a - 1) ** 2 + b**2)

    grid = [(penalised(a, b), a, b) for a in np.linspace(0, 3, 61) for b in np.linspace(-3, 3, 121)]
    _, a, b = min(grid)
    found = np.interp(scores, *fit_platt(scores, real))
    np.testing.assert_allclose(found, expit(a * logit(scores) + b), atol=0.02)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
@pytest.mark.parametrize("real", [[], [True], [False, False], [True, True], [True, False]], ids=str)
def test_few_objects_of_one_kind_are_no_certainty(fit, real) -> None:
    scores = np.linspace(0.9, 0.3, len(real))
    knots, probabilities = fit(scores, np.array(real, dtype=bool))
    assert all(0 < one < 1 for one in probabilities if len(real) or fit is fit_isotonic)
    assert list(knots) == sorted(knots)
    assert list(probabilities) == sorted(probabilities)


def test_pairs_by_hand() -> None:
    truth = blocks([LEFT, MIDDLE])
    nearly = (1, 0, 11, 10)  # overlaps the left one by 90 of 110
    found = blocks([nearly, LEFT, (18, 0, 28, 10), RIGHT, MIDDLE], scores=[0.9, 0.8, 0.7, 0.6, 0.04])
    (cell,) = find_cells(dataset(sample(truth)), [found])
    # the better score takes the object, though the other overlaps it more; (18, ...) has 70 of 130; .04 is too low
    assert cell.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert cell.real.tolist() == [True, False, True, False]
    assert cell.true == 2


def test_cells_are_classes_of_images() -> None:
    names = ("cell", "debris", "dust")
    truth = blocks([LEFT, MIDDLE], labels=[0, 1], names=names)
    found = blocks([LEFT, MIDDLE, RIGHT], scores=[0.9, 0.8, 0.7], labels=[0, 0, 1], names=names)
    blank = blocks([], names=names)
    data = dataset(sample(truth), sample(blank, image_id=2), names=names)
    cells = find_cells(data, [found, blank])
    assert [(one.image, one.true, one.real.tolist()) for one in cells] == [(0, 1, [True, False]), (0, 1, [False])]


def test_ignored_regions_hide_what_is_not_real() -> None:
    crowd = blocks([(0, 0, 26, 12)])
    found = blocks([LEFT, MIDDLE, RIGHT], scores=[0.9, 0.8, 0.7])
    (cell,) = find_cells(dataset(sample(blocks([LEFT]), ignored=crowd)), [found])
    assert cell.scores.tolist() == pytest.approx([0.9, 0.7])
    assert cell.real.tolist() == [True, False]


def test_objects_without_masks_are_real_by_their_boxes() -> None:
    data, found = dataset(sample(blocks([LEFT]))), blocks([LEFT, (30, 30, 35, 35)], scores=[0.9, 0.8])
    (by_masks,), (by_boxes,) = find_cells(data, [found]), find_cells(data, [replace(found, masks=None)])
    assert by_boxes.real.tolist() == by_masks.real.tolist() == [True, False]


def test_folds_keep_images_whole_and_use_each_once() -> None:
    cells = [Cell(image, np.zeros(0, np.float32), np.zeros(0, bool), 1) for image in range(12) for _ in range(3)]
    seen = np.zeros(len(cells), dtype=int)
    for inside, outside in folds(cells):
        assert (inside ^ outside).all()
        seen += outside
        within = {one.image for one, yes in zip(cells, inside, strict=True) if yes}
        assert within.isdisjoint(one.image for one, yes in zip(cells, outside, strict=True) if yes)
    assert (seen == 1).all()


def test_cross_validation_sees_through_learning_by_heart() -> None:
    rng = np.random.default_rng(3)
    cells = []
    for image in range(10):
        scores = np.sort(rng.uniform(0.05, 1, 12).astype(np.float32))[::-1]
        cells.append(Cell(image, scores, rng.random(12) < scores, 6))

    def by_heart(scores, real):
        order = np.argsort(scores)
        return tuple(scores[order]), tuple(np.where(real[order], 0.999, 0.001))

    assert cross_validated_loss(cells, by_heart) > 2 * cross_validated_loss(cells, fit_platt)
    scores, real = pooled(cells)
    assert len(scores) == len(real) == 120
    assert [len(one) for one in pooled([])] == [0, 0]


def test_reliability_by_hand() -> None:
    bins = reliability_bins(np.array([0.11, 0.19, 0.95, 1.0]), np.array([True, False, True, True]))
    assert [(round(one.said, 6), one.real, one.n) for one in bins] == [(0.15, 0.5, 2), (0.975, 1.0, 2)]


def test_scores_stay_as_the_network_gave_them() -> None:
    found = blocks([LEFT], scores=[0.7])
    (cell,) = find_cells(dataset(sample(blocks([LEFT]))), [found])
    assert cell.scores.dtype == np.float32
    assert torch.equal(torch.from_numpy(cell.scores), found.scores)
