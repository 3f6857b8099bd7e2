import numpy as np
import pytest

from halfpixel.evaluation.paired_difference import FEWEST_IMAGES, contrast


def numbers(*values):
    return np.array(values, dtype=np.float64)


def of(a, b, drawn_a, drawn_b, *, best=0.0, with_ratio=True, n_images=FEWEST_IMAGES):
    drawn = (numbers(*drawn_a), numbers(*drawn_b))
    return contrast((numbers(a), numbers(b)), drawn, best=best, with_ratio=with_ratio, n_images=n_images, seed=3)


def test_a_is_better_when_all_draws_agree():
    one = of(1, 2, [1, 1, 1], [2, 3, 4])
    assert (one.a, one.b, one.difference, one.ratio, one.better) == (1, 2, -1, 0.5, "A")
    assert (one.difference_interval.low, one.difference_interval.high) == pytest.approx((-2.95, -1.05))
    assert (one.ratio_interval.low, one.ratio_interval.high) == pytest.approx((0.25 + 0.05 / 12, 0.5 - 0.05 / 6))
    assert of(2, 1, [2, 3, 4], [1, 1, 1]).better == "B"


def test_nobody_is_better_when_draws_disagree_or_are_equal_or_images_are_few():
    assert of(1, 2, [1, 3], [2, 2]).better is None
    assert of(1, 1, [1, 1], [1, 1]).better is None
    assert of(1, 2, [1, 1], [2, 3], n_images=FEWEST_IMAGES - 1).better is None
    assert of(1, 2, [], []).better is None


def test_nearer_to_the_best_is_better():
    # a bias of +1 is better than one of -3, an area ratio of 1.1 than one of .8
    assert of(1, -3, [1, 1.5], [-3, -2.5]).better == "A"
    assert of(1.1, 0.8, [1.1, 1.15], [0.8, 0.7], best=1.0).better == "A"
    assert of(0.9, 0.8, [0.9, 0.9], [0.8, 0.8], best=1.0).better == "A"
    one = of(0.8, 0.9, [0.8, 0.8], [0.9, 0.9], best=1.0, with_ratio=False)
    assert (one.better, one.ratio, one.ratio_interval) == ("B", None, None)


def test_something_over_nothing_is_endless():
    often = of(1, 0.5, np.ones(100), np.r_[np.zeros(3), np.ones(97)])
    assert (often.ratio, often.ratio_interval) == (2, None)
    seldom = of(1, 0.5, np.ones(100), np.r_[np.zeros(2), np.ones(98)])
    assert (seldom.ratio_interval.low, seldom.ratio_interval.high) == (1, 1)
    nothing = of(1, 0, np.ones(100), np.zeros(100))
    assert (nothing.ratio, nothing.ratio_interval) == (None, None)


def test_nothing_over_nothing_is_left_out():
    one = of(1, 1, [0, 2, 2], [0, 1, 1])
    assert (one.ratio_interval.low, one.ratio_interval.high) == (2, 2)
    assert of(0, 0, [0, 0], [0, 0]).ratio_interval is None


def test_undefined_is_none():
    nan = float("nan")
    one = of(nan, 1, [nan, nan], [1, 1])
    assert (one.a, one.b, one.difference, one.ratio) == (None, 1, None, None)
    assert (one.a_interval, one.difference_interval, one.ratio_interval, one.better) == (None, None, None, None)
