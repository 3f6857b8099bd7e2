from pathlib import Path

import numpy as np
import pytest
from scenes import blocks, dataset, sample

from halfpixel.evaluation.bootstrap import image_draws
from halfpixel.evaluation.counts.count_errors import ImageCount, count_error, image_counts

NAMES = ("fig", "date")


def some(figs: int, dates: int):
    boxes = [(5 * k, 0, 5 * k + 4, 4) for k in range(figs + dates)]
    return blocks(boxes, labels=[0] * figs + [1] * dates, names=NAMES)


def test_error_and_bias_by_hand():
    data = dataset(sample(some(3, 1), 1), sample(some(0, 0), 2), sample(some(2, 2), 3), names=NAMES)
    counts = image_counts(data, [some(2, 2), some(1, 0), some(0, 1)])
    assert [(one.image_id, one.true, one.predicted) for one in counts] == [
        (1, (3, 1), (2, 2)),
        (2, (0, 0), (1, 0)),
        (3, (2, 2), (0, 1)),
    ]
    total = count_error(counts)
    assert (total.n_images, total.true, total.predicted) == (3, 8, 6)
    assert (total.mae, total.bias) == (pytest.approx(4 / 3), pytest.approx(-2 / 3))
    figs = count_error(counts, 0)
    assert (figs.true, figs.predicted, figs.mae, figs.bias) == (5, 3, pytest.approx(4 / 3), pytest.approx(-2 / 3))


def counted(pairs):
    return [ImageCount(k, Path(f"{k}.png"), (true,), (found,)) for k, (true, found) in enumerate(pairs)]


def test_every_number_against_numpy():
    true, found = np.array([10, 0, 25, 7, 3]), np.array([12, 1, 20, 7, 3])
    error = count_error(counted(zip(true.tolist(), found.tolist(), strict=True)), resamples=300)
    difference = found - true
    assert error.n_empty == 1
    assert error.mape == pytest.approx(np.mean([2 / 10, 5 / 25, 0, 0]))
    assert error.r2 == pytest.approx(1 - (difference**2).sum() / ((true - true.mean()) ** 2).sum())
    half = 1.96 * difference.std(ddof=1)
    assert error.agreement_low == pytest.approx(difference.mean() - half)
    assert error.agreement_high == pytest.approx(difference.mean() + half)
    assert set(error.intervals) == {"mae", "mape", "bias", "r2", "agreement_low", "agreement_high"}


def test_intervals_are_those_of_drawn_images():
    """Oracle: each draw's images measured as a set of their own."""
    pairs = [(10, 12), (0, 1), (25, 20), (7, 7), (3, 3)]
    error = count_error(counted(pairs), resamples=300, seed=4)
    drawn = [
        count_error(counted([pair for pair, n in zip(pairs, row.astype(int), strict=True) for _ in range(n)]))
        for row in image_draws(5, seed=4, resamples=300)
    ]
    for name, interval in error.intervals.items():
        values = [getattr(one, name) for one in drawn if getattr(one, name) is not None]
        low, high = np.quantile(values, [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx((low, high))


def test_undefined_numbers():
    one = count_error(counted([(0, 2)]), resamples=10)
    assert (one.mae, one.bias, one.mape, one.r2, one.agreement_low) == (2, 2, None, None, None)
    assert one.intervals == {}
    equal = count_error(counted([(4, 5), (4, 4)]))
    assert (equal.r2, equal.mape) == (None, 0.125)


def test_no_images():
    error = count_error([])
    assert (error.n_images, error.true, error.mae, error.bias) == (0, 0, None, None)


def test_objects_in_a_crowd_are_not_counted():
    truth = blocks([(0, 0, 10, 10)])
    predicted = blocks([(0, 0, 10, 10), (22, 22, 28, 28)])
    (count,) = image_counts(dataset(sample(truth, ignored=blocks([(20, 20, 40, 40)]))), [predicted])
    assert (count.true, count.predicted) == ((1,), (1,))
