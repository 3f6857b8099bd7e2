"""A threshold and a limit: the user's, else the model's, else what goes with files."""

import pytest

from halfpixel.errors import ArgumentError
from halfpixel.jobs.detection_limits import DetectionLimits, check_limits
from halfpixel.zoo.modelfile import ModelInfo

MODEL = ModelInfo("mask_rcnn_lite", ("nucleus",), score_threshold=0.7, detection_limit=300)


@pytest.mark.parametrize(
    ("threshold", "limit", "model", "expected"),
    [
        (None, None, MODEL, (0.7, 300)),
        (0.0, 5, MODEL, (0.0, 5)),
        (None, 5, MODEL, (0.7, 5)),
        (0.2, None, None, (0.2, 1000)),
        (None, None, None, (0.5, 1000)),
    ],
)
def test_what_was_asked_for_comes_first(
    threshold: float | None, limit: int | None, model: ModelInfo | None, expected: tuple[float, int]
) -> None:
    limits = DetectionLimits.resolve(threshold, limit, model)
    assert (limits.threshold, limits.limit) == expected


@pytest.mark.parametrize(("threshold", "limit"), [(1.0, None), (-0.1, None), (None, 0), (None, 10**19)])
def test_numbers_out_of_range(threshold: float | None, limit: int | None) -> None:
    with pytest.raises(ArgumentError, match="`threshold`" if limit is None else "`limit`"):
        check_limits(threshold, limit)
