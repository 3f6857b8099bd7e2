"""Opacity, palettes and tables of colours."""

import numpy as np
import pytest
from PIL import Image
from stacks import RNG, values, write

from halfpixel.data.images.display import TRANSPARENT
from halfpixel.data.images.picture import Reading, read_pictures
from halfpixel.data.images.rgb8 import as_rgb8, read_image
from halfpixel.errors import ImageWarning


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opacity_is_no_channel(tmp_path, suffix, mode):
    array = RNG.integers(0, 256, (20, 30, len(mode)), dtype=np.uint8)
    Image.frombytes(mode, (30, 20), array.tobytes()).save(tmp_path / f"a.{suffix}")
    (one,) = read_pictures(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(one.channels, array[..., :-1])
    assert one.channel_names == (("grey",) if mode == "LA" else ("red", "green", "blue"))
    alpha = array[..., -1:] / 255
    expected = np.broadcast_to(array[..., :-1] * alpha + 255 * (1 - alpha), (20, 30, 3))
    np.testing.assert_allclose(one.rgb, expected, atol=0.51)
    (chosen,) = read_pictures(tmp_path / f"a.{suffix}", Reading(tuple(range(1, len(mode)))))
    np.testing.assert_array_equal(chosen.rgb, one.rgb)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_premultiplied_colours_look_like_straight_ones(tmp_path, dtype):
    full = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    alpha = np.full((20, 30, 1), full, dtype)
    alpha[:, 15:] = full * 0.5
    colour = (RNG.random((20, 30, 3)) * full).astype(dtype)
    opacity = alpha.astype(float) / full
    for kind, stored in (("unassalpha", colour), ("assocalpha", (colour * opacity).round(4 if full == 1 else 0))):
        array = np.concatenate([stored.astype(dtype), alpha], axis=2)
        write(tmp_path / f"{kind}.tif", array, photometric="rgb", extrasamples=[kind])
    straight, product = (next(read_pictures(tmp_path / f"{kind}.tif")) for kind in ("unassalpha", "assocalpha"))
    np.testing.assert_allclose(product.rgb.astype(int), straight.rgb, atol=2)
    np.testing.assert_allclose(product.channels, straight.channels, atol=full / 255 * 1.01)


def test_colours_that_exceed_their_opacity_are_no_product(tmp_path):
    """Some programs say premultiplied and are wrong."""
    array = np.dstack([np.full((20, 30, 3), 200, np.uint8), np.full((20, 30), 128, np.uint8)])
    for kind in ("unassalpha", "assocalpha"):
        write(tmp_path / f"{kind}.tif", array, photometric="rgb", extrasamples=[kind])
        np.testing.assert_array_equal(read_image(tmp_path / f"{kind}.tif"), 227)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_opacity_of_0_everywhere_says_nothing(tmp_path, suffix):
    array = RNG.integers(1, 256, (20, 30, 4), dtype=np.uint8)
    array[..., 3] = 0
    Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    (one,) = read_pictures(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(one.rgb, array[..., :3])
    assert list(one.remarks) == [TRANSPARENT]
    with pytest.warns(ImageWarning, match="opacity of 0"):
        as_rgb8(array)


def test_a_colour_map_of_8_bits(tmp_path):
    indices, colours = values("YX", np.uint8), RNG.integers(0, 256, (3, 256))
    expected = colours[:, indices].transpose(1, 2, 0)
    for name, table in (("deep", colours * 257), ("shallow", colours)):
        path = write(tmp_path / f"{name}.tif", indices, photometric="palette", colormap=table.astype(np.uint16))
        np.testing.assert_array_equal(read_image(path), expected)


def test_a_table_of_colours_in_imagej_changes_no_values(tmp_path):
    array, up = values("YX", np.uint8), np.arange(256, dtype=np.uint16) * 257
    blue, fire = np.stack([up * 0, up * 0, up]), np.stack([np.minimum(up * 2.0, 65535).astype(np.uint16), up, up // 2])
    for table, shown in ((blue, array), (fire, array), (fire[:, ::-1], 255 - array)):
        path = write(tmp_path / "a.tif", array, photometric="palette", colormap=table, description="ImageJ=1.54f\n")
        (one,) = read_pictures(path)
        np.testing.assert_array_equal(one.channels[..., 0], array)
        assert one.channel_names == ("grey",)
        np.testing.assert_array_equal(one.rgb[..., 1], shown)
    mixed = RNG.permutation(256 * 3).reshape(3, 256).astype(np.uint16) * 85  # colours that were reduced to a palette
    path = write(tmp_path / "b.tif", array, photometric="palette", colormap=mixed, description="ImageJ=1.54f\n")
    assert next(read_pictures(path)).channel_names == ("red", "green", "blue")
