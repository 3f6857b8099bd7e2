import imagecodecs
import numpy as np
import pytest
from stacks import ALL, RNG, as_planes, stretched, values, write

from halfpixel.data.images import contrast
from halfpixel.data.images.picture import Reading, read_pictures
from halfpixel.errors import ImageError


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
    monkeypatch.setattr(contrast, "MAX_SAMPLE", 20_000)
    monkeypatch.setattr(contrast, "MAX_SAMPLED_PLANES", 5)
    array = RNG.gamma(4, 500, (12, 200, 210)).astype(np.uint16)
    path = write(tmp_path / "a.tif", array, "ZYX", compression="zlib")
    looked_at = []
    look = contrast._sample_and_limits
    monkeypatch.setattr(contrast, "_sample_and_limits", lambda *a: looked_at.append(look(*a)) or looked_at[-1])
    low, high = np.percentile(array, [0.1, 99.9])
    pictures = list(read_pictures(path, ALL))
    assert len(looked_at) <= 5
    assert sum(len(grid) for grid, _ in looked_at) <= 20_000
    for one, plane in zip(pictures, array, strict=True):
        np.testing.assert_allclose(one.rgb[..., 0], stretched(plane, low, high), atol=12)


def test_a_bright_pixel_on_a_plane_that_was_not_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(contrast, "MAX_SAMPLED_PLANES", 2)
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
    assert np.isnan(next(read_pictures(path)).channels).sum() == 1
    with pytest.raises(ImageError, match=r"a\.ome\.tif.*1 of 600.*NaN"):
        next(read_pictures(path, Reading((4,))))
