from itertools import product

import numpy as np
import pytest

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.bootstrap import bootstrap_ratio


def test_against_every_possible_draw():
    """Oracle: all 4^4 ways to draw four images."""
    tp, total = np.array([1.0, 5.0, 2.0, 9.0]), np.array([4.0, 6.0, 8.0, 10.0])
    draws = np.array(list(product(range(4), repeat=4)))
    low, high = np.quantile(tp[draws].sum(1) / total[draws].sum(1), [0.1, 0.9])
    interval = bootstrap_ratio(tp, total, resamples=40_000, level=0.8)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        total = rng.integers(1, 30, 60)
        interval = bootstrap_ratio(rng.binomial(total, 0.7), total, seed=seed, resamples=300)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_seed_decides():
    values = np.arange(20)
    first, again, other = (bootstrap_ratio(values, np.ones(20), seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert (first.seed, first.level, first.resamples) == (7, 0.95, 2000)


def test_all_images_alike_give_no_width():
    interval = bootstrap_ratio([3, 3, 3], [4, 4, 4], resamples=50)
    assert (interval.low, interval.high) == (0.75, 0.75)


def test_draws_without_a_denominator_are_left_out():
    interval = bootstrap_ratio([0, 1], [0, 2], resamples=150)
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_none_where_undefined():
    assert bootstrap_ratio([], []) is None
    assert bootstrap_ratio([1], [2]) is None
    assert bootstrap_ratio([0, 0], [0, 0]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1], [1, 2]), "1 numerators but 2 denominators"),
        (([1, 2], [1, 2], {"resamples": 0}), "got 0 and 0.95"),
        (([1, 2], [1, 2], {"level": 1.0}), "got 2000 and 1.0"),
    ],
)
def test_bad_arguments(arguments, message):
    top, bottom, *options = arguments
    with pytest.raises(ArgumentError, match=message):
        bootstrap_ratio(top, bottom, **(options[0] if options else {}))
