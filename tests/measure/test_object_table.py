import math
import time

import numpy as np
import pytest
import torch
from masked import boxed, disc, masked, soft_masks, with_masks

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.measure.object_table import measure_objects
from halfpixel.structures.masks import CropMasks

RNG = np.random.default_rng(0)
DISCS = [disc(5, (10, 12)), disc(7.3, (30, 20)), disc(4, (48, 38))]
ON_PIXELS = ["area_px", "perimeter_px", "solidity", "eccentricity", "orientation_deg", "major_axis_px"]


def test_places_and_areas_are_those_of_the_dense_masks() -> None:
    objects = masked(*DISCS, names=("round", "cell"), labels=[1, 0, 1])
    columns = measure_objects(objects).columns
    assert list(columns["object"]) == [1, 2, 3]
    assert list(columns["class"]) == ["cell", "round", "cell"]
    assert np.allclose(columns["score"], [0.9, 0.75, 0.6])
    for k, mask in enumerate(DISCS):
        y, x = np.nonzero(mask)
        assert columns["area_px"][k] == len(x)
        assert columns["centroid_x_px"][k] == pytest.approx(x.mean() + 0.5)
        assert columns["centroid_y_px"][k] == pytest.approx(y.mean() + 0.5)
        box = [columns[f"{side}_px"][k] for side in ("left", "top", "right", "bottom")]
        assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert list(columns["touches_border"]) == [False, False, True]


def test_translated_masks_are_measured_where_they_are_seen() -> None:
    moved = masked(*DISCS).translate(-7, 3, (30, 60))
    columns = measure_objects(moved).columns
    for k, mask in enumerate(moved.masks.dense().numpy()):
        x = np.nonzero(mask)[1]
        if len(x):
            assert columns["area_px"][k] == len(x)
            assert columns["centroid_x_px"][k] == pytest.approx(x.mean() + 0.5)
    assert np.isnan(columns["area_px"]).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("mask", "touches"),
    [
        (np.s_[0, 5], True),
        (np.s_[39, 5], True),
        (np.s_[5, 0], True),
        (np.s_[5, 49], True),
        (np.s_[1:39, 1:49], False),
    ],
)
def test_the_border_is_the_outermost_pixels(mask: object, touches: bool) -> None:
    canvas = np.zeros((40, 50), dtype=bool)
    canvas[mask] = True
    assert measure_objects(masked(canvas)).columns["touches_border"].tolist() == [touches]


def test_intensities_are_those_under_the_mask() -> None:
    channels = RNG.integers(0, 60000, (40, 50, 2)).astype(np.uint16)
    columns = measure_objects(masked(*DISCS), channels=channels, channel_names=("DAPI", "GFP")).columns
    for k, mask in enumerate(DISCS):
        for c, name in enumerate(("DAPI", "GFP")):
            values = channels[mask][:, c].astype(float)
            for statistic in ("mean", "std", "min", "max", "median", "sum"):
                expected = getattr(np, statistic)(values)
                assert columns[f"intensity_{statistic}_{name}"][k] == pytest.approx(expected)


def test_channels_are_numbered_and_not_finite_values_do_no_harm() -> None:
    channels = np.ones((40, 50, 1), dtype=np.float32)
    channels[12, 10] = np.inf
    channels[20, 30] = np.nan
    columns = measure_objects(masked(*DISCS), channels=channels).columns
    assert columns["intensity_max_channel1"].tolist()[0] == np.inf
    assert math.isnan(columns["intensity_mean_channel1"][1])
    assert columns["intensity_std_channel1"][2] == 0


def test_the_nearest_neighbour_is_found() -> None:
    columns = measure_objects(masked(*DISCS, np.zeros((40, 50)), DISCS[0])).columns
    at = np.stack([columns["centroid_x_px"], columns["centroid_y_px"]], 1)
    for k in (1, 2):
        distances = [math.dist(at[k], at[other]) for other in (0, 1, 2) if other != k]
        assert columns["nearest_neighbour_px"][k] == pytest.approx(min(distances))
    assert columns["nearest_neighbour_px"][[0, 4]].tolist() == [0, 0]
    assert math.isnan(columns["nearest_neighbour_px"][3])
    assert math.isnan(measure_objects(masked(DISCS[0])).columns["nearest_neighbour_px"][0])


def test_micrometres_are_pixels_times_the_size() -> None:
    columns = measure_objects(masked(*DISCS), pixel_size_um=0.25).columns
    for name, factor in {
        "area_um2": 1 / 16,
        "area_low_um2": 1 / 16,
        "perimeter_um": 0.25,
        "equivalent_diameter_um": 0.25,
        "major_axis_um": 0.25,
        "minor_axis_um": 0.25,
        "centroid_x_um": 0.25,
        "nearest_neighbour_um": 0.25,
    }.items():
        in_pixels = columns[name.replace("um2", "px").replace("um", "px")]
        assert np.array_equal(columns[name], in_pixels * factor, equal_nan=True), name
    assert not any(name.startswith(("left", "eccentricity_", "solidity_")) for name in columns if name.endswith("um"))
    assert not any("um" in name.split("_") for name in measure_objects(masked(*DISCS)).columns)


def test_the_area_interval_holds_the_quantiles_of_a_mask_that_errs_as_one() -> None:
    """Slow oracle: draw one number for the whole mask, again and again, and keep the pixels more likely than that."""
    y, x = np.mgrid[:28, :28] + 0.5
    probabilities = 1 / (1 + np.exp((np.hypot(x - 14.2, y - 13.7) - 9) / 1.5))
    masks = soft_masks(probabilities[None], [[6.0, 4.0, 34.0, 32.0]], (40, 50))
    columns = measure_objects(with_masks(masks)).columns
    draws = np.random.default_rng(1).random(4000)
    areas = [np.count_nonzero(probabilities > draw) for draw in draws]
    # the map's cells are pixels here
    assert columns["area_low_px"][0] == pytest.approx(np.quantile(areas, 0.05), rel=0.04)
    assert columns["area_high_px"][0] == pytest.approx(np.quantile(areas, 0.95), rel=0.04)
    assert columns["area_px"][0] == np.count_nonzero(probabilities > 0.5)
    assert columns["area_low_px"][0] < columns["area_px"][0] < columns["area_high_px"][0]
    moved = measure_objects(with_masks(masks.translate(3, 2))).columns
    assert moved["area_high_px"][0] == columns["area_high_px"][0]


def test_a_sharp_mask_has_no_interval_to_speak_of_and_a_drawn_one_none() -> None:
    sharp = np.zeros((1, 28, 28))
    sharp[0, 6:22, 6:22] = 1
    columns = measure_objects(with_masks(soft_masks(sharp, [[0.0, 0.0, 28.0, 28.0]], (40, 50)))).columns
    assert columns["area_low_px"][0] == columns["area_px"][0] == columns["area_high_px"][0] == 256
    assert math.isnan(measure_objects(masked(*DISCS)).columns["area_low_px"][0])


def test_an_empty_mask_has_empty_cells() -> None:
    faint = soft_masks(np.full((1, 28, 28), 0.2), [[2.0, 2.0, 9.0, 9.0]], (40, 50))
    channels = np.ones((40, 50, 1))
    columns = measure_objects(with_masks(faint), channels=channels, pixel_size_um=1.0).columns
    assert all(math.isnan(columns[name][0]) for name in [*ON_PIXELS, "area_high_px", "intensity_sum_channel1"])
    assert columns["touches_border"].tolist() == [False]
    assert columns["object"].tolist() == [1]


def test_boxes_have_places_but_no_areas() -> None:
    objects = boxed((10, 10, 20, 30), (0.6, 5, 9, 9), (0.4, 5, 9, 9), (45, 5, 49.6, 9))
    columns = measure_objects(objects, channels=np.ones((40, 50, 1))).columns
    assert (columns["centroid_x_px"][0], columns["centroid_y_px"][0]) == (15, 20)
    assert all(np.isnan(columns[name]).all() for name in [*ON_PIXELS, "area_low_px", "intensity_mean_channel1"])
    assert columns["touches_border"].tolist() == [False, False, True, True]
    assert columns["nearest_neighbour_px"][1] == pytest.approx(0.1)


@pytest.mark.parametrize("objects", [with_masks(CropMasks.empty((40, 50))), boxed()])
def test_no_objects_have_the_same_columns(objects: object) -> None:
    options = {"channels": np.ones((40, 50, 3), dtype=np.uint8), "pixel_size_um": 2.0}
    none, some = measure_objects(objects, **options), measure_objects(masked(*DISCS), **options)
    assert len(none) == 0
    assert list(none.columns) == list(some.columns)
    assert none.columns.pop("class") == []
    assert all(none.columns[name].dtype == some.columns[name].dtype for name in none.columns)


def test_what_does_not_fit_is_refused() -> None:
    objects = masked(*DISCS)
    with pytest.raises(ImageError, match=r"expected channels"):
        measure_objects(objects, channels=np.ones((40, 50)))
    with pytest.raises(ImageError, match=r"\(40, 50\)"):
        measure_objects(objects, channels=np.ones((50, 40, 1)))
    with pytest.raises(ArgumentError, match="2 different channel names"):
        measure_objects(objects, channels=np.ones((40, 50, 2)), channel_names=("a", "a"))
    for size in (0, -1, math.nan, math.inf):
        with pytest.raises(ArgumentError, match="positive number"):
            measure_objects(objects, pixel_size_um=size)


def test_many_objects_take_little_time() -> None:
    side, n = 30, 200
    probabilities = torch.rand(n, 28, 28, generator=torch.Generator().manual_seed(0)).numpy() * 0.2
    probabilities[:, 4:24, 6:22] += 0.75
    boxes = [
        [float(k % 40 * side), float(k // 40 * side), k % 40 * side + 30.0, k // 40 * side + 30.0] for k in range(n)
    ]
    objects = with_masks(soft_masks(probabilities, boxes, (150, 1200)))
    channels = RNG.integers(0, 255, (150, 1200, 3), dtype=np.uint8)
    start = time.process_time()
    table = measure_objects(objects, channels=channels, pixel_size_um=0.5)
    assert time.process_time() - start < 1.5  # 0.3 s where it was written
    assert len(table) == n
