import warnings

import imagecodecs
import numpy as np
import pytest
from stacks import ALL, RNG, as_planes, stretched, values, write

from halfpixel.data.images import stretch
from halfpixel.data.images.no_data import NO_DATA
from halfpixel.data.images.picture import Reading, read_pictures
from halfpixel.data.images.rgb8 import as_rgb8
from halfpixel.data.images.stretch import LEFT_OUT
from halfpixel.errors import ImageError, ImageWarning


def test_colours_share_their_contrast(tmp_path):
    array = (values("YXS") // np.array([1, 4, 20])).astype(np.uint16)
    path = write(tmp_path / "a.tif", array, photometric="rgb")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    for one in (path, tmp_path / "a.png"):
        (picture,) = read_pictures(one)
        np.testing.assert_allclose(picture.rgb, stretched(array, *np.percentile(array, [0.1, 99.9])), atol=0.51)
        np.testing.assert_array_equal(picture.channels, array)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_all_planes_share_their_contrast(tmp_path, dtype):
    array = values("TZCYX", dtype)
    array[1] = array[1] / 3  # the second time point is darker, and stays so
    path = write(tmp_path / "a.ome.tif", array, "TZCYX", ome=True)
    expected = as_planes(array, "TZCYX")
    for one in read_pictures(path, ALL):
        for k in range(3):
            low, high = np.percentile(array[:, :, k], [0.1, 99.9])
            np.testing.assert_allclose(one.rgb[..., k], stretched(expected[one.plane][..., k], low, high), atol=0.51)


def test_floats_in_the_unit_range_keep_it(tmp_path):
    array = RNG.uniform(0.2, 0.6, (3, 20, 30)).astype(np.float32)
    path = write(tmp_path / "a.tif", array, "ZYX")
    for one, plane in zip(read_pictures(path, ALL), array, strict=True):
        np.testing.assert_allclose(one.rgb[..., 1], plane * 255, atol=0.51)
    array[2, 3, 4] = 1.5  # in one pixel of another plane
    (one,) = read_pictures(write(tmp_path / "b.tif", array, "ZYX"))
    np.testing.assert_allclose(one.rgb[..., 1], stretched(array[0], *np.percentile(array, [0.1, 99.9])), atol=0.51)


def test_percentiles_of_a_part_are_close(tmp_path, monkeypatch):
    monkeypatch.setattr(stretch, "MAX_SAMPLE", 20_000)
    monkeypatch.setattr(stretch, "MAX_SAMPLED_PLANES", 5)
    array = RNG.gamma(4, 500, (12, 200, 210)).astype(np.uint16)
    path = write(tmp_path / "a.tif", array, "ZYX", compression="zlib")
    looked_at = []
    look = stretch._sample
    monkeypatch.setattr(stretch, "_sample", lambda *a: looked_at.append(look(*a)) or looked_at[-1])
    low, high = np.percentile(array, [0.1, 99.9])
    pictures = list(read_pictures(path, ALL))
    assert len(looked_at) <= 5
    assert sum(len(one.values) for one in looked_at) <= 20_000
    for one, plane in zip(pictures, array, strict=True):
        np.testing.assert_allclose(one.rgb[..., 0], stretched(plane, low, high), atol=12)


def test_a_bright_pixel_on_a_plane_that_was_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(stretch, "MAX_SAMPLED_PLANES", 2)
    array = np.zeros((7, 20, 30), np.uint16)
    array[5, 3, 4] = 900
    path = write(tmp_path / "a.tif", array, "TYX")
    rgb = [one.rgb for one in read_pictures(path, ALL)]
    assert rgb[5][3, 4].tolist() == [255, 255, 255]
    assert np.sum(rgb) == 3 * 255


def test_a_constant_stack_is_black(tmp_path):
    path = write(tmp_path / "a.tif", np.full((3, 20, 30), 700, np.uint16), "TYX")
    assert not any(one.rgb.any() for one in read_pictures(path, ALL))


def test_nan_matters_where_the_network_looks(tmp_path):
    array = values("CYX", np.float32)
    array[3, 2, 1] = np.nan
    path = write(tmp_path / "a.ome.tif", array, "CYX", ome=True)
    picture = next(read_pictures(path))
    assert np.isnan(picture.channels).sum() == 1
    assert not picture.remarks
    assert next(read_pictures(path, Reading((4,)))).remarks == {NO_DATA: "1 of 600 pixels"}


# what is far from the rest does not decide


def field(dtype=np.uint16, scale=4, offset=100):
    """Discs with slopes and noise, as a microscope sees nuclei."""
    rng = np.random.default_rng(5)
    picture = rng.normal(10, 1, (200, 220))
    rows, columns = np.mgrid[:200, :220]
    for y, x in rng.uniform(15, 185, (25, 2)):
        picture += rng.uniform(50, 150) / (1 + np.exp(2 * (np.hypot(rows - y, columns - x) - 8)))
    return (picture * scale + offset).astype(dtype)


def at(picture, where, value):
    result = picture.copy()
    result[where] = value
    return result


def padded(picture, value):
    return np.pad(picture, 20, constant_values=value)


SPECKS = np.random.default_rng(6).random((200, 220)) < 0.003
HOT = np.random.default_rng(7).uniform(4000, 65535, SPECKS.sum())
BAR = (slice(180, 184), slice(20, 100))
UNIT = (field() / 65535).astype(np.float32)


@pytest.mark.parametrize(
    ("plain", "odd"),
    [
        (field(), at(field(), SPECKS, 65535)),
        (field(), at(field(), SPECKS, HOT)),
        (field(), at(field(), BAR, 65535)),
        (field(), at(field(), BAR, 20_000)),
        (field(), padded(field(), 65535)),
        (field(offset=20_000), padded(field(offset=20_000), 0)),
        (field(offset=20_000), at(field(offset=20_000), SPECKS, 0)),
        (field(np.float32), padded(field(np.float32), -9999)),
        (field(np.float32), padded(at(field(np.float32), SPECKS, HOT), -3.4e38)),
        (field(np.float32), padded(field(np.float32), np.nan)),
        (field(np.float64), at(field(np.float64), SPECKS, -np.inf)),
        (UNIT, at(UNIT, BAR, 1)),
        (65535 - field(), at(65535 - field(), BAR, 0)),
    ],
)
def test_what_is_far_from_all_others(plain, odd):
    with pytest.warns(ImageWarning, match="did not decide the contrast|without data"):
        result = as_rgb8(odd).astype(int)
    rim = (odd.shape[0] - plain.shape[0]) // 2
    same = odd[rim : rim + 200, rim : rim + 220] == plain
    difference = np.abs(result[rim : rim + 200, rim : rim + 220] - as_rgb8(plain))
    assert difference[same].mean() < 2


def test_values_far_away_are_white_and_black(recwarn):
    assert (as_rgb8(at(field(), BAR, 65535))[BAR] == 255).all()
    assert (as_rgb8(at(field(offset=20_000), BAR, 0))[BAR] == 0).all()


@pytest.mark.filterwarnings("ignore:nearly all pixels")
@pytest.mark.parametrize("disc", [4000, 65535])
@pytest.mark.parametrize("blur", [0.3, 1, 2])
def test_a_few_bright_objects_on_an_empty_field_keep_it_dark(disc, blur):
    """They are no outliers: nothing else is there to be seen."""
    rng = np.random.default_rng(8)
    rows, columns = np.mgrid[:200, :220]
    array = rng.poisson(100 + rows / 20)
    for y, x in ((50, 60), (120, 150)):
        array = array + (disc - 200) / (1 + np.exp((np.hypot(rows - y, columns - x) - 7) / blur))
    result = as_rgb8(array.astype(np.uint16))[..., 0]
    assert np.median(result) < 20
    assert result[50, 60] > 240


def test_a_saturated_object_among_dim_ones_is_light():
    """It has slopes, and so shares its contrast with the others."""
    rows, columns = np.mgrid[:200, :220]
    bright = 200_000 / (1 + np.exp((np.hypot(rows - 100, columns - 110) - 12) / 2))
    array = np.minimum(field() + bright, 65535).astype(np.uint16)
    assert as_rgb8(array)[..., 0][array < 1000].max() < 10


def test_many_pixels_in_few_grey_levels_are_told():
    rows, columns = np.mgrid[:200, :220]
    array = field(scale=2) + 60_000 * np.exp(-(np.hypot(rows - 100, columns - 110) ** 2) / 32)
    with pytest.warns(ImageWarning, match="99.* of them within [1-8]"):
        as_rgb8(array.astype(np.uint16))


@pytest.mark.parametrize("array", [field(), field(np.float32), UNIT, np.full((50, 60), 7, np.uint16)])
def test_nothing_to_say_of_ordinary_pictures(array):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_rgb8(array)


def test_an_odd_plane_does_not_dim_the_others(tmp_path):
    stack = np.stack([field(), field()[::-1], field() // 2, field()])
    plain = [one.rgb for one in read_pictures(write(tmp_path / "a.tif", stack, "TYX"), ALL)]
    for odd in (np.full((200, 220), 65535), RNG.integers(40_000, 65535, (200, 220)), field().astype(int) * 50):
        stack[1] = odd
        pictures = list(read_pictures(write(tmp_path / "b.tif", stack, "TYX"), ALL))
        assert LEFT_OUT in pictures[0].remarks
        for k in (0, 2, 3):
            assert np.abs(pictures[k].rgb.astype(int) - plain[k]).mean() < 3
        assert np.median(pictures[1].rgb) > 100


def test_planes_in_focus_among_empty_ones_are_not_odd(tmp_path):
    empty = RNG.poisson(130, (7, 200, 220))
    stack = np.concatenate([empty, field(scale=40)[None]]).astype(np.uint16)
    *others, sharp = read_pictures(write(tmp_path / "a.tif", stack, "ZYX"), ALL)
    assert max(one.rgb.max() for one in others) < 40
    assert LEFT_OUT not in sharp.remarks


# no data


@pytest.mark.parametrize(
    ("value", "text"), [(-9999, "-9999"), (-3.4028234663852886e38, None), (0, "0"), (255, " 255 ")]
)
def test_pixels_of_the_no_data_value_are_background(tmp_path, value, text):
    array = padded(field(np.float32, 1, 0), value)
    tag = [(42113, "s", 0, text or repr(value), True)]
    path = write(tmp_path / "a.tif", array, extratags=tag)
    (plain,) = read_pictures(write(tmp_path / "b.tif", field(np.float32, 1, 0)))
    (one,) = read_pictures(path)
    assert one.remarks == {NO_DATA: f"{(array == np.float32(value)).sum():,} of 62,400 pixels"}
    np.testing.assert_array_equal(one.rgb[20:-20, 20:-20], plain.rgb)
    rim = one.rgb[:20]
    assert len(np.unique(rim)) == 1
    assert abs(int(rim[0, 0, 0]) - np.median(plain.rgb)) < 10


def test_a_tagged_collar_of_8_bits(tmp_path):
    tissue = RNG.integers(200, 220, (60, 70, 3), dtype=np.uint8)
    array = np.pad(tissue, ((9, 9), (9, 9), (0, 0)))
    (one,) = read_pictures(write(tmp_path / "a.tif", array, photometric="rgb", extratags=[(42113, "s", 0, "0", True)]))
    np.testing.assert_array_equal(one.rgb[9:-9, 9:-9], tissue)
    assert one.rgb.min() >= 200
    np.testing.assert_array_equal(one.channels, array)


def test_nothing_but_nan_is_refused():
    with pytest.raises(ImageError, match="no pixel holds a number"):
        as_rgb8(np.full((5, 6), np.nan))


def test_a_plane_of_nan_in_a_stack_is_black(tmp_path):
    stack = np.stack([field(np.float32), np.full((200, 220), np.nan, np.float32)])
    first, second = read_pictures(write(tmp_path / "a.tif", stack, "TYX"), ALL)
    np.testing.assert_array_equal(first.rgb, as_rgb8(field(np.float32)))
    assert not second.rgb.any()
    assert second.remarks == {NO_DATA: "44,000 of 44,000 pixels"}


def test_floats_that_use_little_of_the_unit_range_are_stretched():
    np.testing.assert_allclose(as_rgb8(UNIT), as_rgb8(field()), atol=1)
    np.testing.assert_allclose(as_rgb8(UNIT * 10), np.repeat((UNIT * 2550)[..., None], 3, 2), atol=0.51)
