"""Percentiles of sizes, against sums by hand."""

import math

import numpy as np
import pytest

from halfpixel.measure.size_distribution import ALL_IMAGES, percentile_interval, size_distribution
from halfpixel.measure.table import Table


def of_image(
    name: str, diameters: list[float], border: list[bool] | None = None, pixel_um: float | None = None
) -> Table:
    columns = {
        "image": [name] * len(diameters),
        "class": ["grain"] * len(diameters),
        "equivalent_diameter_px": np.array(diameters),
        "touches_border": np.array(border or [False] * len(diameters)),
    }
    if pixel_um is not None:
        columns["equivalent_diameter_um"] = np.array(diameters) * pixel_um
    return Table(columns)


def below(n: int, share: float, most: int) -> float:
    """The chance that at most so many of n lie below a percentile."""
    return math.fsum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(most + 1))


@pytest.mark.parametrize("percent", [5, 16, 50, 84, 95])
@pytest.mark.parametrize("n", [1, 5, 18, 60, 213])
def test_the_interval_is_the_shortest_whose_ends_err_seldom_enough(n: int, percent: int) -> None:
    share = percent / 100
    low, high = percentile_interval(np.arange(1.0, n + 1)[::-1].copy(), percent)  # values are their own ranks
    if math.isnan(low):
        assert below(n, share, 0) > 0.025  # the least value is too large too often
    else:
        assert below(n, share, int(low) - 1) <= 0.025 < below(n, share, int(low))
    if math.isnan(high):
        assert 1 - below(n, share, n - 1) > 0.025
    else:
        assert 1 - below(n, share, int(high) - 1) <= 0.025 < 1 - below(n, share, int(high) - 2)


def test_the_interval_holds_the_percentile_of_what_was_drawn_from() -> None:
    rng = np.random.default_rng(0)
    true = math.exp(0.9944579)  # of a lognormal: 84% of a normal distribution lie below
    ends = [percentile_interval(rng.lognormal(size=80), 84) for _ in range(2000)]
    assert 0.94 < np.mean([low <= true <= high for low, high in ends]) < 0.99


def test_each_image_and_all_together() -> None:
    first = of_image("a.png", [float(k) for k in range(1, 102)])
    second = of_image("b.png", [200.0, 300.0, math.nan, 500.0], [False, False, False, True])
    found = size_distribution([first, of_image("none.png", []), second]).columns
    assert list(found["image"]) == ["a.png", "b.png", ALL_IMAGES]
    assert list(found["objects"]) == [101, 2, 103]
    assert list(found["left_out"]) == [0, 2, 2]
    assert list(found["D16_px"])[:2] == [17.0, 216.0]
    assert list(found["D50_px"]) == [51.0, 250.0, 52.0]
    assert (found["D50_low_px"][0], found["D50_high_px"][0]) == (41, 61)
    assert np.isnan(found["D50_low_px"][1])
    assert not any(name.endswith("_um") for name in found)


def test_by_area_large_ones_weigh_as_many_nodes_of_a_grid_fall_on_them() -> None:
    found = size_distribution([of_image("a.png", [1.0] * 99 + [10.0])]).columns
    assert found["D50_px"][0] == 1.0
    assert found["D50_by_area_px"][0] == 10.0  # 100 of 199 parts of the area
    assert found["D16_by_area_px"][0] == 1.0


def test_micrometres_where_all_images_state_them() -> None:
    known = of_image("a.png", [4.0, 6.0, 8.0], pixel_um=0.5)
    assert size_distribution([known]).columns["D50_um"][0] == 3.0
    assert "D50_um" not in size_distribution([known, of_image("b.png", [5.0])]).columns


def test_classes_have_rows_of_their_own() -> None:
    table = of_image("a.png", [1.0, 2.0, 30.0])
    mixed = Table({**table.columns, "class": ["sand", "sand", "pebble"]})
    found = size_distribution([mixed, Table({**mixed.columns, "image": ["b.png"] * 3})]).columns
    assert list(found["class"]) == ["sand", "pebble", "sand", "pebble", "sand", "pebble"]
    assert list(found["objects"]) == [2, 1, 2, 1, 4, 2]


@pytest.mark.parametrize("tables", [[], [of_image("none.png", [])]])
def test_of_nothing_there_are_headings(tables: list[Table]) -> None:
    found = size_distribution(tables)
    assert len(found) == 0
    assert {"image", "objects", "D16_px", "D84_high_px", "D50_by_area_px"} <= set(found.columns)
