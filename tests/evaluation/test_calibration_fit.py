import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scenes import blocks, dataset, sample

from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.evaluation.counts.calibration_fit import (
    calibrate,
    calibrate_cells,
    conformal_rank,
    fewest_measured,
    fit_count,
    fit_residual_scale,
    halves,
    measure_conformal_quantiles,
    sweep_cells,
    winkler,
)
from halfpixel.evaluation.counts.score_calibration import Cell, find_cells
from halfpixel.evaluation.thresholds.goals import Goal
from halfpixel.evaluation.thresholds.threshold_sweep import sweep
from halfpixel.structures.calibration import Calibration, Evidence


def pictures(n: int, rng: np.random.Generator) -> list[Cell]:
    """Images of 1 to 300 objects; difficult ones have more that are missed, doubted or made up."""
    cells = []
    for k in range(n):
        true, difficulty = int(np.clip(rng.lognormal(3.2, 1), 1, 300)), rng.beta(1.2, 5)
        seen, made_up = rng.binomial(true, 1 - 0.35 * difficulty), rng.poisson(0.8 * true * difficulty + 0.3)
        odds = np.concatenate([rng.normal(3.2 - 6 * difficulty, 1.6, seen), rng.normal(difficulty - 1.3, 1.2, made_up)])
        real, scores = np.arange(seen + made_up) < seen, 1 / (1 + np.exp(-odds))
        order = np.argsort(-scores)[: np.count_nonzero(scores >= 0.05)]
        cells.append(Cell(k, scores[order].astype(np.float32), real[order], true))
    return cells


def covered(calibration: Calibration, cells: list[Cell]) -> np.ndarray:
    found = calibration.intervals([cell.scores for cell in cells])
    return np.array([one.low <= cell.true <= one.high for one, cell in zip(found, cells, strict=True)])


@pytest.mark.parametrize(("n", "rounds"), [(20, 40), (80, 12)])
def test_new_images_are_covered_as_often_as_promised(n: int, rounds: int) -> None:
    rng = np.random.default_rng(n)
    new = pictures(400, rng)
    share = []
    for seed in range(rounds):
        calibration = calibrate_cells(*halves(pictures(n, rng), 0.8, "x", seed), 0.5, 0.8).calibration
        share.append(covered(calibration, new).mean())
    # the promise is a mean over calibrations, each of which is off by chance
    off = 3 * np.std(share) / math.sqrt(rounds)
    assert 0.8 - off <= np.mean(share) <= 0.8 + 1 / (n // 2) + 0.04 + off


def test_few_and_many_objects_are_covered_alike_and_narrower_than_by_one_width() -> None:
    rng = np.random.default_rng(5)
    cells, new = pictures(200, rng), pictures(600, rng)
    true = np.array([float(cell.true) for cell in new])
    report = calibrate_cells(*halves(cells, 0.9, "x"), 0.5, 0.9)
    inside = covered(report.calibration, new)
    for third in np.array_split(np.argsort(true), 3):
        assert inside[third].mean() > 0.8
    found = report.calibration.intervals([cell.scores for cell in new])
    ours = winkler([one.low for one in found], [one.high for one in found], true, 0.9)
    errors = np.sort([abs(np.count_nonzero(cell.scores >= 0.5) - cell.true) for cell in cells])
    margin, counts = errors[conformal_rank(200, 0.9) - 1], np.array([one.count for one in found])
    same = winkler(np.maximum(counts - margin, 0), counts + margin, true, 0.9)
    assert ours.mean() < 0.6 * same.mean()


def test_the_report_is_about_images_that_were_not_fitted_on() -> None:
    rng = np.random.default_rng(6)
    fitted, measured = halves(pictures(150, rng), 0.9, "x")
    report = calibrate_cells(fitted, measured, 0.4, 0.9, Goal("count"))
    calibration = report.calibration
    true = np.array([cell.true for cell in measured])
    listed = np.array([np.count_nonzero(cell.scores >= 0.4) for cell in measured])
    assert report.count_mae["listed"] == pytest.approx(np.abs(listed - true).mean())
    assert report.count_bias["listed"] == pytest.approx((listed - true).mean())
    estimates = np.array([calibration.interval(cell.scores).estimate for cell in measured])
    assert report.count_mae["estimated"] == pytest.approx(np.abs(estimates - true).mean())
    assert abs(report.count_bias["estimated"]) < abs(report.count_bias["listed"])
    assert report.calibration_error["probabilities"] < report.calibration_error["scores"]
    assert report.method == min(report.log_loss, key=report.log_loss.__getitem__)
    assert calibration.n_images == (75, 75)
    assert sum(one.n for one in report.reliability["scores"]) == sum(len(cell.scores) for cell in measured)
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert Calibration.from_json(plain["calibration"]) == calibration
    assert plain["goal"] == "count"


def test_what_was_measured_on_changes_the_conformal_quantiles_and_nothing_else() -> None:
    rng = np.random.default_rng(7)
    fitted, measured = halves(pictures(60, rng), 0.9, "x")
    one = calibrate_cells(fitted, measured, 0.5, 0.9).calibration
    worse = [dataclasses.replace(cell, true=3 * cell.true) for cell in measured]
    other = calibrate_cells(fitted, worse, 0.5, 0.9).calibration
    assert other.conformal_quantiles > one.conformal_quantiles
    assert dataclasses.replace(other, conformal_quantiles=one.conformal_quantiles) == one


@pytest.mark.parametrize("two_sided", [False, True])
def test_conformal_quantiles_hold_as_many_as_the_rank_says(two_sided: bool) -> None:
    rng = np.random.default_rng(8)
    fitted, measured = halves(pictures(99, rng), 0.9, "x")
    calibration = calibrate_cells(fitted, measured, 0.5, 0.9).calibration
    below, above = measure_conformal_quantiles(calibration, measured, two_sided)
    evidence = calibration.evidence([cell.scores for cell in measured])
    relative = [cell.true for cell in measured] - calibration.estimates(evidence)
    relative = relative / calibration.residual_scales(evidence)
    inside = int(((-below <= relative) & (relative <= above)).sum())
    if two_sided:  # an end may pass at most 5% of 49 + 1, rounded down: one of 49
        assert ((relative > above).sum(), (relative < -below).sum()) == (1, 1)
    else:
        assert below == above
        assert inside == math.ceil(0.9 * 50)


def test_ranks() -> None:
    assert [fewest_measured(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
    for n in range(1, 60):
        # of n + 1 errors in random order the last is one of the `rank` smallest with probability rank / (n + 1)
        rank = conformal_rank(n, 0.9)
        assert rank / (n + 1) >= 0.9 - 1e-12
        assert (rank - 1) / (n + 1) < 0.9


def test_too_few_images_say_how_many_it_takes() -> None:
    cells = pictures(13, np.random.default_rng(9))
    with pytest.raises(AnnotationError, match=r"lab\.json: 13 images .* 90% .* at least 14"):
        halves(cells, 0.9, "lab.json")
    fitted, measured = halves(pictures(14, np.random.default_rng(9)), 0.9, "lab.json")
    assert (len(fitted), len(measured)) == (5, 9)
    assert all(
        math.isfinite(one) for one in calibrate_cells(fitted, measured, 0.5, 0.9).calibration.conformal_quantiles
    )


def test_halves_share_no_image_and_lose_none() -> None:
    cells = [Cell(image, np.zeros(0, np.float32), np.zeros(0, bool), 1) for image in range(41) for _ in range(2)]
    fitted, measured = halves(cells, 0.9, "x", seed=4)
    one, other = {cell.image for cell in fitted}, {cell.image for cell in measured}
    assert one.isdisjoint(other)
    assert one | other == set(range(41))
    assert len(other) == 20
    assert {cell.image for cell in halves(cells, 0.9, "x", seed=5)[1]} != other


def test_the_count_correction_finds_a_plain_factor() -> None:
    rng = np.random.default_rng(10)
    listed = rng.integers(1, 200, 5000).astype(float)
    expected = listed * rng.uniform(0.7, 1.3, 5000)
    evidence = Evidence(listed, expected, np.ones(5000))
    np.testing.assert_allclose(fit_count(evidence, 0.8 * listed), [0.8, 0], atol=0.1)
    np.testing.assert_allclose(fit_count(evidence, 0.3 * listed + 0.5 * expected), [0.3, 0.5], atol=0.1)
    assert min(fit_count(evidence, 2 * expected - listed)) >= 0
    # a few images do not undo the listed count
    few = Evidence(listed[:5], expected[:5], np.ones(5))
    np.testing.assert_allclose(fit_count(few, 0.8 * listed[:5]), [1, 0], atol=0.15)


def test_the_residual_scale_finds_how_errors_grow() -> None:
    rng = np.random.default_rng(11)
    expected, doubt = rng.uniform(5, 300, 4000), rng.uniform(1, 60, 4000)
    sizes = 3 * np.sqrt(1 + expected) * (1 + doubt) ** 0.3
    found = fit_residual_scale(Evidence(expected, expected, doubt), rng.laplace(0, sizes))
    np.testing.assert_allclose(found, [math.log(3), 0.5, 0.3], atol=0.12)
    # the scale never shrinks as there is more to count
    assert min(fit_residual_scale(Evidence(expected, expected, doubt), rng.laplace(0, 100 / expected))[1:]) >= 0


def test_no_errors_at_all_are_no_certainty() -> None:
    evidence = Evidence(np.full(20, 10.0), np.full(20, 10.0), np.zeros(20))
    assert math.exp(np.dot(fit_residual_scale(evidence, np.zeros(20)), [1, math.log(11), 0])) == pytest.approx(
        0.5, rel=0.2
    )


def test_winkler_by_hand() -> None:
    found = winkler([1, 1, 1], [5, 5, 5], [3, 0, 7], 0.9)
    np.testing.assert_allclose(found, [4, 4 + 20, 4 + 40])


def squares(n: int) -> tuple:
    """Images of up to 8 squares, found but for their last, and a false one that scores .3."""
    samples, predictions = [], []
    places = [(x, y, x + 6, y + 6) for y in (0, 10, 20) for x in (0, 10, 20, 30)]
    for k in range(n):
        true = 2 + k % 7
        samples.append(sample(blocks(places[:true]), image_id=k))
        found = [*places[: true - 1], places[11]]
        predictions.append(blocks(found, scores=[*np.linspace(0.95, 0.6, true - 1), 0.3]))
    return dataset(*samples), predictions


def test_a_data_set_from_end_to_end() -> None:
    data, predictions = squares(30)
    report = calibrate(data, predictions, level=0.8)
    # below .3 the false one makes up for the missed one: no count is wrong
    assert report.goal == Goal("count")
    assert report.calibration.threshold == 0.2
    assert report.tied == (0.1, 0.15, 0.2, 0.25, 0.3)
    assert report.count_mae["listed"] == 0
    inside = [
        one.low <= len(some.objects) <= one.high
        for one, some in zip(
            report.calibration.intervals([one.scores for one in predictions]), data.samples, strict=True
        )
    ]
    assert np.mean(inside) >= 0.8
    assert calibrate(data, predictions, level=0.8) == report
    precise = calibrate(data, predictions, level=0.8, goal=Goal("precision", 0.99))
    assert precise.calibration.threshold == pytest.approx(0.35)
    given = calibrate(data, predictions, level=0.8, threshold=0.5)
    assert (given.goal, given.calibration.threshold) == (None, 0.5)
    assert given.count_bias["listed"] == pytest.approx(-1)
    assert abs(given.count_bias["estimated"]) < 0.5


def test_thresholds_are_swept_as_on_images() -> None:
    data, predictions = squares(15)
    thresholds = (0.2, 0.5, 0.7, 0.9)
    quick, slow = sweep_cells(find_cells(data, predictions), thresholds), sweep(data, predictions, thresholds)
    np.testing.assert_array_equal(quick.outcomes, slow.outcomes)
    assert [point.found for point in quick.points] == [point.found for point in slow.points]
    assert quick.recommend(Goal("f1")) == slow.recommend(Goal("f1"))


def test_what_cannot_be_calibrated() -> None:
    data, predictions = squares(12)
    with pytest.raises(AnnotationError, match=r"12 images .* at least 14"):
        calibrate(data, predictions)
    for level in (0, 1, 90):
        with pytest.raises(ArgumentError, match="level"):
            calibrate(data, predictions, level=level)
    for threshold in (0.01, 1):
        with pytest.raises(ArgumentError, match="threshold"):
            calibrate(data, predictions, threshold=threshold)
    data, predictions = squares(20)
    wrong = [dataclasses.replace(one, scores=torch.linspace(0.2, 0.95, len(one)).flip(0)) for one in predictions]
    wrong = [one[-1:] for one in wrong]  # only what is not there
    with pytest.raises(AnnotationError, match=r"reaches precision=0.9"):
        calibrate(data, wrong, level=0.8, goal=Goal("precision", 0.9))
