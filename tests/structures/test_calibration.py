import dataclasses
import json
import math

import numpy as np
import pytest

from halfpixel.errors import ArgumentError
from halfpixel.structures.calibration import Calibration, whole_bounds

KNOWN = Calibration(
    threshold=0.7,
    lowest_score=0.1,
    level=0.9,
    knots=(0.2, 0.6, 1.0),
    probabilities=(0.0, 0.5, 0.9),
    count_weights=(0.5, 0.6),
    residual_scale_weights=(math.log(2), 0.5, 0.25),
    conformal_quantiles=(1.0, 1.5),
    n_images=(10, 12),
)


def test_an_interval_by_hand() -> None:
    scores = [0.9, 0.7, 0.4, 0.09]  # the last is under the lowest score
    p = [0.8, 0.6, 0.25]
    np.testing.assert_allclose(KNOWN.probability(scores), [*p, 0])
    expected, doubt = sum(p), sum(one * (1 - one) for one in p)
    estimate = 0.5 * 2 + 0.6 * expected
    scale = 2 * (1 + expected) ** 0.5 * (1 + doubt) ** 0.25
    found = KNOWN.interval(scores)
    assert found.count == 2
    assert found.estimate == pytest.approx(estimate)
    assert found.low == max(0, math.ceil(estimate - scale))
    assert found.high == math.floor(estimate + 1.5 * scale)
    assert found.level == 0.9


def test_the_count_is_what_is_listed() -> None:
    as_float32 = np.array([0.7, 0.69999], dtype=np.float32)
    assert float(as_float32[0]) < 0.7
    assert KNOWN.interval(as_float32).count == 1
    assert KNOWN.interval([]).count == 0
    assert KNOWN.interval([]).low == 0
    assert KNOWN.intervals([[], as_float32]) == [KNOWN.interval([]), KNOWN.interval(as_float32)]


def test_whole_numbers_lose_no_true_count() -> None:
    rng = np.random.default_rng(0)
    estimates = rng.uniform(0, 20, 500)
    lows, highs = estimates - rng.uniform(-0.3, 4, 500), estimates + rng.uniform(-0.3, 4, 500)
    low, high = whole_bounds(estimates, lows, highs)
    assert (low >= 0).all()
    assert (low <= high).all()
    for truth in range(25):
        held = (lows <= truth) & (truth <= highs)
        assert ((low <= truth) & (truth <= high))[held].all()
    # and are not wider than need be
    assert (high - low <= np.maximum(highs - lows, 0) + 1).all()


def test_more_doubt_makes_a_wider_interval() -> None:
    sure, doubtful = KNOWN.interval([0.99] * 50), KNOWN.interval([0.99] * 25 + [0.5] * 50)
    assert doubtful.high - doubtful.low > sure.high - sure.low


def test_there_and_back_through_json() -> None:
    assert Calibration.from_json(json.loads(json.dumps(KNOWN.to_json()))) == KNOWN


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.05},
        {"threshold": 1.5},
        {"threshold": math.nan},
        {"threshold": "0.7"},
        {"threshold": True},
        {"lowest_score": -0.1},
        {"level": 1.0},
        {"level": [0.9]},
        {"knots": []},
        {"knots": [0.2, 0.6]},
        {"knots": [0.6, 0.2, 1.0]},
        {"knots": [0.2, 0.6, 1.1]},
        {"knots": "abc"},
        {"knots": 0.5},
        {"probabilities": [0.5, 0.4, 0.9]},
        {"probabilities": [0.5, math.nan, 0.9]},
        {"probabilities": [0.5, None, 0.9]},
        {"count_weights": [0.5]},
        {"count_weights": [0.5, -0.1]},
        {"spread_weights": [0.0, -0.1, 0.1]},
        {"spread_weights": [math.inf, 0.1, 0.1]},
        {"reach": [1.0, math.nan]},
        {"smell": 1.0},
        {"scales": [1.0]},
        {"scales": [0.0, 1.0]},
    ],
    ids=str,
)
def test_numbers_that_cannot_be(change: dict[str, object]) -> None:
    with pytest.raises(ArgumentError, match="calibration"):
        Calibration.from_json(KNOWN.to_json() | change)


def test_files_keep_the_names_that_earlier_versions_read() -> None:
    stored = {
        "threshold": 0.7, "lowest_score": 0.1, "level": 0.9, "knots": [0.2, 0.6, 1.0], "probabilities": [0.0, 0.5, 0.9],
        "count_weights": [0.5, 0.6], "spread_weights": [math.log(2), 0.5, 0.25], "reach": [1.0, 1.5],
        "n_images": [10, 12],
    }  # fmt: skip
    assert KNOWN.to_json() == stored
    assert Calibration.from_json(stored) == KNOWN


def test_it_holds_at_the_size_that_it_was_made_at() -> None:
    """Another description of the model may change what is usual, so far as that is not written down."""
    at_two = dataclasses.replace(KNOWN, scales=(2.0, 2.5))
    assert Calibration.from_json(json.loads(json.dumps(at_two.to_json()))) == at_two
    for scale, usual, holds in ((3.0, 3.0, True), (2.8, 3.0, True), (3.3, 3.0, True), (2.5, 3.0, False)):
        assert KNOWN.holds_at(scale, usual) == holds
    assert KNOWN.holds_at(None, None)
    assert not KNOWN.holds_at(3.0, None)
    for scale, holds in ((1.9, True), (2.2, True), (2.7, True), (3.0, False), (1.5, False), (None, False)):
        assert at_two.holds_at(scale, 3.0) == holds


@pytest.mark.parametrize("value", [None, [], "x", 1.0, {}], ids=str)
def test_no_calibration_at_all(value: object) -> None:
    with pytest.raises(ArgumentError, match=r"calibration: (expected object|Object missing)"):
        Calibration.from_json(value)
    missing = KNOWN.to_json()
    del missing["reach"]
    with pytest.raises(ArgumentError, match="reach"):
        Calibration.from_json(missing)
