"""Sizes of objects by hand, and what scales have to keep to."""

import math
from dataclasses import replace

import numpy as np
import pytest

from halfpixel.errors import ArgumentError
from halfpixel.structures.diameters import SAME_SIZE, TrainedDiameters, equivalent_diameters, typical_diameter

TRAINED = TrainedDiameters(60.0, 30.0, 80.0)


def test_a_disc_is_as_wide_as_it_is() -> None:
    y, x = np.mgrid[:101, :101]
    areas = [np.count_nonzero(np.hypot(y - 50, x - 50) < d / 2) for d in (25, 40, 90)]
    np.testing.assert_allclose(equivalent_diameters(areas), [25, 40, 90], rtol=0.02)
    assert equivalent_diameters([]).shape == (0,)
    assert equivalent_diameters([0]).tolist() == [0]


@pytest.mark.parametrize("areas", [[-1.0], [4.0, math.nan], [math.inf]], ids=str)
def test_what_is_no_area(areas: list[float]) -> None:
    with pytest.raises(ArgumentError, match="areas must be numbers of at least 0"):
        equivalent_diameters(areas)


def test_the_diameter_of_an_image_by_hand() -> None:
    assert typical_diameter([7.0]) == 7
    assert typical_diameter([1, 2, 3, 4]) == 3  # 1 + 2 + 3 is the first sum that reaches half of 10
    assert typical_diameter([]) is None
    assert typical_diameter([0.0, 0.0]) is None


def test_neither_debris_nor_a_clump_decides() -> None:
    objects = np.random.default_rng(0).normal(50, 5, 60)
    alone = typical_diameter(objects)
    assert alone is not None
    assert abs(alone - 50) < 2
    for others in (np.full(300, 2.0), np.full(2, 400.0)):
        together = typical_diameter(np.concatenate([objects, others]))
        assert together is not None
        assert abs(together - alone) < 5
        assert abs(float(np.median(np.concatenate([objects, np.full(300, 2.0)]))) - alone) > 40


def test_the_diameter_grows_with_the_objects_and_knows_no_order() -> None:
    random = np.random.default_rng(1)
    for _ in range(100):
        diameters = random.lognormal(3, 1, random.integers(1, 50))
        found = typical_diameter(diameters)
        assert found in diameters
        assert typical_diameter(random.permutation(diameters)) == found
        assert typical_diameter(4 * diameters) == 4 * found
        assert found >= np.median(diameters) - 1e-9 or len(diameters) % 2 == 0


def test_the_range_leaves_out_what_is_far_off() -> None:
    many, few = np.linspace(30, 70, 80), np.linspace(150, 155, 20)
    found = TrainedDiameters.of_images([*many, *few])
    assert found is not None
    assert 30 <= found.low_px < 45
    assert found.high_px == 70
    assert found.low_px <= found.typical_px <= found.high_px
    assert TrainedDiameters.of_images([]) is None
    assert TrainedDiameters.of_images([12.34]) == TrainedDiameters(12.3, 12.3, 12.3)


def test_the_range_is_the_shortest_that_holds_two_thirds() -> None:
    random = np.random.default_rng(2)
    for n in range(1, 40):
        diameters = np.sort(random.lognormal(3, 1, n))
        found = TrainedDiameters.of_images(list(diameters))
        assert found is not None
        inside = [diameters[j] / diameters[i] for i in range(n) for j in range(i, n) if 3 * (j - i + 1) >= 2 * n - 1e-9]
        assert found.high_px / found.low_px == pytest.approx(min(inside), rel=0.02)


def test_a_scale_by_hand() -> None:
    assert TRAINED.scale_for(20, 3.0) == 3
    assert TRAINED.scale_for(200, 3.0) == pytest.approx(0.4)
    assert TRAINED.scale_for(5, 3.0) == pytest.approx(6)
    assert TRAINED.scale_for(29, 3.0) == 3  # 87 pixels are 80, but for a tenth
    assert TRAINED.scale_for(30, None) == 2


def test_a_scale_brings_objects_into_the_range_and_else_changes_nothing() -> None:
    random = np.random.default_rng(3)
    for diameter, usual in zip(random.lognormal(3, 2, 500), random.uniform(0.1, 10, 500), strict=True):
        scale = TRAINED.scale_for(diameter, usual)
        if scale == usual:
            assert TRAINED.low_px / SAME_SIZE <= diameter * scale <= TRAINED.high_px * SAME_SIZE
            continue
        assert min(abs(diameter * scale - end) for end in (TRAINED.low_px, TRAINED.high_px)) < 1e-6
        assert (scale > usual) == (diameter * usual < TRAINED.low_px)
        assert TRAINED.scale_for(diameter, scale) == scale  # done once, it is done


@pytest.mark.parametrize("diameter", [0.0, -3.0, math.nan, math.inf])
def test_what_is_no_diameter(diameter: float) -> None:
    with pytest.raises(ArgumentError, match="a diameter must be above 0"):
        TRAINED.scale_for(diameter, 3.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low_px": 0.0}, "low_px = 0.0: expected float >= 0.001"),
        ({"high_px": math.inf}, "high_px"),
        ({"network_um": -1.0}, "network_um"),
        ({"low_px": 61.0}, "expected low_px <= typical_px <= high_px, got 61, 60 and 80"),
        ({"high_px": 59.0}, "expected low_px <= typical_px <= high_px"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        replace(TRAINED, **change)  # type: ignore[arg-type]
