from itertools import product

import numpy as np
import pytest

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.bootstrap import LEVEL, bootstrap_ratios, image_draws, named_intervals


def ratio_interval(top, bottom, **options):
    """Of one ratio."""
    (found,) = bootstrap_ratios(np.reshape(top, (-1, 1)), bottom, **options)
    return found


def test_against_every_possible_draw():
    """Oracle: all 4^4 ways to draw four images."""
    tp, total = np.array([1.0, 5.0, 2.0, 9.0]), np.array([4.0, 6.0, 8.0, 10.0])
    draws = np.array(list(product(range(4), repeat=4)))
    low, high = np.quantile(tp[draws].sum(1) / total[draws].sum(1), [0.1, 0.9])
    interval = ratio_interval(tp, total, resamples=40_000, level=0.8)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        total = rng.integers(1, 30, 60)
        interval = ratio_interval(rng.binomial(total, 0.7), total, seed=seed, resamples=300)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_seed_decides():
    values = np.arange(20)
    first, again, other = (ratio_interval(values, np.ones(20), seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first != other
    assert (first.seed, first.level, first.resamples) == (7, 0.95, 2000)


def test_all_images_alike_give_no_width():
    interval = ratio_interval([3, 3, 3], [4, 4, 4], resamples=50)
    assert (interval.low, interval.high) == (0.75, 0.75)


def test_draws_without_a_denominator_are_left_out():
    interval = ratio_interval([0, 1], [0, 2], resamples=150)
    assert (interval.low, interval.high) == (0.5, 0.5)


def test_none_where_undefined():
    assert ratio_interval([], []) is None
    assert ratio_interval([1], [2]) is None
    assert ratio_interval([0, 0], [0, 0]) is None


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
        ratio_interval(top, bottom, **(options[0] if options else {}))


def test_several_numbers_are_as_each_by_itself():
    """Oracle: one quantile after the other, of the draws in which the number is defined."""
    rng = np.random.default_rng(3)
    values = {k: rng.normal(size=500) for k in range(6)}
    for k, share in ((1, 0.2), (3, 1.0), (4, 0.2)):
        values[k][rng.random(500) < share] = np.nan
    values[5] = np.zeros(0)
    found = named_intervals(values, seed=9)
    assert list(found) == [0, 1, 2, 4]
    for k, interval in found.items():
        low, high = np.quantile(values[k][~np.isnan(values[k])], [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        assert (interval.low, interval.high, interval.resamples) == (low, high, 500)
    top, bottom = rng.integers(0, 9, (30, 3)), rng.integers(0, 3, 30)
    assert bootstrap_ratios(top, bottom, seed=4) == [ratio_interval(one, bottom, seed=4) for one in top.T]


def test_fewer_draws_are_the_first_of_more():
    many = image_draws(7, seed=1, resamples=2500)
    assert (many.sum(1) == 7).all()
    for n in (2000, 500, 130, 1):
        np.testing.assert_array_equal(image_draws(7, seed=1, resamples=n), many[:n])
    assert image_draws(7, seed=1, resamples=0).shape == (0, 7)
    assert image_draws(1, seed=1).shape == (0, 1)
