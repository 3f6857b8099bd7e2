"""How unlike known images one is: by hand, and that the false alarm rate is what it says."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from halfpixel.errors import ArgumentError
from halfpixel.structures.novelty import LOOKS, SAME, Novelty, is_unlike

BY_HAND = Novelty(((0.0, 0.0), (4.0, 0.0)), (2.0, 1.0), 0.5, 0.05, "training")


def test_the_distance_to_the_nearest_by_hand() -> None:
    assert BY_HAND.of((0.0, 0.0)) == 0
    assert BY_HAND.of((1.0, 0.0)) == 1  # half a spread, which is the threshold
    assert BY_HAND.of((3.0, 2.0)) == pytest.approx(math.hypot(0.5, 2) / 0.5)
    assert [is_unlike(one) for one in (None, 0.0, 1.0, 1.001)] == [None, False, False, True]


def test_the_distance_to_the_range_of_what_follows_by_hand() -> None:
    dark, light = (0.0,) * LOOKS, (8.0,) * LOOKS
    known = Novelty(((*dark, -1.0), (*light, 1.0)), (1.0,) * LOOKS + (2.0,), 0.5, 0.05, "training")
    assert [known.of((*look, octaves)) for look in (dark, light) for octaves in (-1.0, 0.5, 1.0)] == [0] * 6
    assert known.of((*dark, 2.0)) == 1  # half a spread above the range, which is the threshold
    assert known.of((*light, -4.0)) == 3
    assert known.of((*dark[:-1], 1.0, 3.0)) == pytest.approx(math.hypot(1, 1) / 0.5)


def test_files_of_earlier_versions_compare_the_numbers_that_they_have() -> None:
    nine = Novelty(((0.0,) * LOOKS, (1.0,) * LOOKS), (1.0,) * LOOKS, 0.5, 0.05, "training")
    assert nine.of((0.25,) * LOOKS) == nine.of((*(0.25,) * LOOKS, 7.0)) == 1.5


@pytest.mark.parametrize("n", [20, 200])
def test_the_false_alarm_rate_counts_what_follows(n: int) -> None:
    """On average over sets of known images, whose looks and enlargements have nothing to do with each other."""
    random = np.random.default_rng(3)
    flagged = []
    for _ in range(40):
        made = Novelty.of_images(random.normal(size=(n, LOOKS + 1)).tolist(), "training")
        assert made is not None
        flagged += [made.of(one) > 1 for one in random.normal(size=(100, LOOKS + 1)).tolist()]
    assert abs(np.mean(flagged) - 0.05) < 0.02


def test_the_threshold_by_a_slow_oracle() -> None:
    known = np.random.default_rng(0).normal(size=(40, 3)).round(3)
    made = Novelty.of_images(known.tolist(), "calibration", 0.1)
    assert made is not None
    spreads = [math.sqrt(np.var(column) + SAME**2) for column in known.T]
    np.testing.assert_allclose(made.spreads, spreads, atol=1e-3)
    distances = []
    for k, one in enumerate(known):
        others = [other for j, other in enumerate(known) if j != k]
        distances.append(min(math.dist(one / made.spreads, other / made.spreads) for other in others))
    assert made.threshold == pytest.approx(sorted(distances)[math.ceil(41 * 0.9) - 1], rel=1e-3)
    assert (made.false_alarm_rate, made.made_on, made.references) == (0.1, "calibration", tuple(map(tuple, known)))


@pytest.mark.parametrize("n", [20, 60, 300])
def test_new_images_of_the_kind_are_flagged_as_often_as_it_says(n: int) -> None:
    """On average over sets of known images; two kinds, nothing between them."""
    random = np.random.default_rng(1)

    def images(number: int) -> np.ndarray:
        return random.normal(size=(number, 4)) + 20.0 * random.integers(0, 2, (number, 1))

    flagged, strange = [], []
    for _ in range(40):
        made = Novelty.of_images(images(n).tolist(), "training")
        assert made is not None
        flagged += [made.of(one) > 1 for one in images(100).tolist()]
        strange += [made.of(one) > 1 for one in (random.normal(size=(20, 4)) + 10).tolist()]
    assert made.false_alarm_rate == max(0.05, round(1 / (n + 1), 3))
    assert abs(np.mean(flagged) - made.false_alarm_rate) < 0.02
    assert np.mean(strange) > 0.95


def test_of_few_images_nothing_is_said_and_of_some_what_can_be() -> None:
    random = np.random.default_rng(2)
    assert Novelty.of_images(random.normal(size=(9, 2)).tolist(), "training") is None
    made = Novelty.of_images(random.normal(size=(10, 2)).tolist(), "training")
    assert made is not None
    assert made.false_alarm_rate == 0.091  # the farthest of eleven


def test_images_that_are_all_the_same_may_differ_a_little() -> None:
    made = Novelty.of_images([[0.5, -3.0]] * 12, "training")
    assert made is not None
    assert made.of((0.5, -3.0)) == 0
    assert made.of((0.5, -3.09)) < 1 < made.of((0.5, -3.2))


@pytest.mark.parametrize(
    "change",
    [
        {"references": ()},
        {"references": ((1.0, 2.0), (1.0,))},
        {"references": ((1.0, math.nan),)},
        {"spreads": (1.0,)},
        {"spreads": (0.0, 1.0)},
        {"spreads": (-1.0, 1.0)},
        {"threshold": 0.0},
        {"threshold": math.inf},
        {"false_alarm_rate": 1.5},
        {"cell_px": 0.0},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(change)).split("_")[0]):
        dataclasses.replace(BY_HAND, **change)
