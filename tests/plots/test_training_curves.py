import io
import math

import numpy as np
import pytest
from PIL import Image

from halfpixel.plots.training_curves import _smooth, draw_curves

LOSSES = [{"step": k, "class": 2 / k, "mask": 1 / k, "total": 3 / k, "learning_rate": 0.1} for k in range(1, 51)]
VALIDATIONS = [{"step": 25, "mask_ap": 0.4, "box_ap": 0.3, "accuracy_50": 0.6}]


def size_of(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size


def test_validations_add_a_part() -> None:
    without, with_them = size_of(draw_curves(LOSSES, [])), size_of(draw_curves(LOSSES, VALIDATIONS))
    assert without[0] == with_them[0]
    assert with_them[1] > 1.5 * without[1]


def test_the_same_numbers_the_same_picture() -> None:
    assert draw_curves(LOSSES, VALIDATIONS) == draw_curves(LOSSES, VALIDATIONS)
    assert draw_curves(LOSSES, VALIDATIONS) != draw_curves(LOSSES[:40], VALIDATIONS)


def test_an_undefined_precision_and_no_steps_yet() -> None:
    size_of(draw_curves([], [VALIDATIONS[0] | {"mask_ap": math.nan}]))


@pytest.mark.parametrize("n", [1, 99, 100, 350])
def test_smoothing_is_a_centred_mean(n: int) -> None:
    values = np.random.default_rng(n).random(n)
    reach = n // 100
    wanted = [values[max(k - reach, 0) : k + reach + 1].mean() for k in range(n)]
    np.testing.assert_allclose(_smooth(values), wanted)
