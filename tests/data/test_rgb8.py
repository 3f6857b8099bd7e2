import warnings
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from halfpixel.data.images.rgb8 import as_rgb8, count_frames, read_image
from halfpixel.errors import ImageError, ImageWarning

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
DEEP = RNG.integers(300, 5000, (20, 30), dtype=np.uint16)


def as_grey(array):
    return np.repeat(array[..., None], 3, axis=2)


def on_white(array):
    colour, alpha = array[..., :-1].astype(float), array[..., -1:] / 255
    return np.broadcast_to(colour * alpha + 255 * (1 - alpha), (*array.shape[:2], 3))


def stretched(array):
    low, high = np.percentile(array, [0.1, 99.9])
    return np.clip((array.astype(float) - low) / (high - low), 0, 1) * 255


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "rgb"])
def test_ordinary_files_give_their_pixels(tmp_path, suffix, array):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", array, **options)
    result = read_image(path)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, as_grey(array) if array.ndim == 2 else array)
    assert count_frames(path) == 1


def test_a_jpeg_is_decoded_as_pillow_does(tmp_path):
    path = save(tmp_path / "a.jpg", RGB)
    np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path)))


@pytest.mark.parametrize("name", ["a.jpg", "a.tif", "a"])
def test_the_name_does_not_matter(tmp_path, name):
    path = save(tmp_path / name, RGB, format="PNG")
    np.testing.assert_array_equal(read_image(path), RGB)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_transparent_pixels_lie_on_white(tmp_path, suffix):
    array = RGBA.copy()
    array[0, 0] = (1, 2, 3, 0)
    array[0, 1] = (1, 2, 3, 255)
    result = read_image(save(tmp_path / f"a.{suffix}", array))
    assert result[0, 0].tolist() == [255, 255, 255]
    assert result[0, 1].tolist() == [1, 2, 3]
    np.testing.assert_allclose(result, on_white(array), atol=0.51)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_with_alpha(tmp_path, suffix):
    array = RGBA[..., :2].copy()
    Image.frombytes("LA", (30, 20), array.tobytes()).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(read_image(tmp_path / f"a.{suffix}"), on_white(array), atol=0.51)


@pytest.mark.parametrize("suffix", ["png", "gif", "tif"])
def test_palette(tmp_path, suffix):
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_with_transparency(tmp_path, suffix):
    image = Image.fromarray(RGB).quantize(16)
    image.save(tmp_path / f"a.{suffix}", transparency=3)
    expected = np.asarray(image.convert("RGB")).copy()
    expected[np.asarray(image) == 3] = 255
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), expected)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path, suffix):
    image = Image.fromarray(RGB).convert("CMYK")
    image.save(tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as reopened:
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), np.asarray(reopened.convert("RGB")))


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_one_bit(tmp_path, suffix):
    save(tmp_path / f"a.{suffix}", GREY > 100)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), as_grey((GREY > 100) * np.uint8(255)))


def test_white_is_zero_in_some_tiffs(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", 255 - GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), as_grey(GREY))
    Image.fromarray(GREY > 100).save(tmp_path / "fax.tif", compression="group4")
    np.testing.assert_array_equal(read_image(tmp_path / "fax.tif"), as_grey((GREY > 100) * np.uint8(255)))


@pytest.mark.parametrize("channels", [(), (2,), (3,), (4,)], ids=["grey", "grey-alpha", "rgb", "rgba"])
def test_16_bit_png_is_stretched(tmp_path, channels):
    array = RNG.integers(300, 5000, (20, 30, *channels), dtype=np.uint16)
    if channels in [(2,), (4,)]:
        array[..., -1] = 65535
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    colour = {(): array[..., None], (2,): array[..., :1], (3,): array, (4,): array[..., :3]}[channels]
    expected = np.broadcast_to(stretched(colour), (20, 30, 3))
    np.testing.assert_allclose(read_image(tmp_path / "a.png"), expected, atol=0.51)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True, "byteorder": ">"}, {"ome": True}, {"compression": "zlib"}])
def test_16_bit_tiff_is_stretched(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", DEEP, **options)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), as_grey(stretched(DEEP)), atol=0.51)


def test_float_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "unit.tif", (GREY / 255).astype(np.float32))
    np.testing.assert_array_equal(read_image(tmp_path / "unit.tif"), as_grey(GREY))
    tifffile.imwrite(tmp_path / "wide.tif", DEEP.astype(np.float32) * 1e6)
    np.testing.assert_allclose(read_image(tmp_path / "wide.tif"), as_grey(stretched(DEEP)), atol=0.51)


def test_nan_and_infinite_pixels_are_counted(tmp_path):
    array = DEEP.astype(np.float32)
    array[3, 4], array[5, 6] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", array)
    with pytest.warns(ImageWarning, match=r"a\.tif.*without data.*2 of 600"):
        result = read_image(tmp_path / "a.tif")
    known = np.isfinite(array)
    low, high = np.percentile(array[known], [0.1, 99.9])
    np.testing.assert_allclose(result[known][:, 0], np.clip((array[known] - low) / (high - low), 0, 1) * 255, atol=0.51)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation(tmp_path, suffix, orientation):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(path, exif=exif)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(image)))


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (10, 200, 90)]
    for name in ("a.gif", "a.tif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(read_image(tmp_path / name), 10, atol=2)
        assert count_frames(tmp_path / name) == 3


CHANNELS = RNG.integers(0, 256, (5, 20, 30), dtype=np.uint8)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("options", [{"ome": True}, {"imagej": True}], ids=["ome", "imagej"])
def test_channel_axis_of_a_stack(tmp_path, n, options):
    stack = np.stack([CHANNELS[:n], 255 - CHANNELS[:n]])
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": "ZCYX"}, photometric="minisblack", **options)
    expected = np.zeros((20, 30, 3), np.uint8)
    expected[..., : min(n, 3)] = CHANNELS[: min(n, 3)].transpose(1, 2, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), as_grey(CHANNELS[0]) if n == 1 else expected)
    assert count_frames(tmp_path / "a.tif") == 2


def test_only_the_first_plane_of_a_stack_is_decoded(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((50, 20, 30), np.uint8), photometric="minisblack", compression="zlib")
    decoded = []
    original = tifffile.TiffPage.asarray
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda self, **k: decoded.append(1) or original(self, **k))
    read_image(tmp_path / "a.tif")
    assert len(decoded) == 1


def test_one_page_that_stands_for_an_uncompressed_stack(tmp_path):
    stack = RNG.integers(0, 256, (4, 20, 30), dtype=np.uint8)
    options = {"truncate": True, "photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "a.tif", stack, **options)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), as_grey(stack[0]))


def test_planar_tiff(tmp_path):
    planes = np.ascontiguousarray(RGB.transpose(2, 0, 1))
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), RGB)


@pytest.mark.parametrize("compression", ["jpeg", "zlib"])
def test_tiff_in_another_colour_space(tmp_path, compression):
    smooth = np.linspace(0, 255, 32 * 48 * 3).reshape(32, 48, 3).astype(np.uint8)
    if compression == "jpeg":
        tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", compression="jpeg")
    else:
        Image.fromarray(smooth).convert("YCbCr").save(tmp_path / "a.tif")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), smooth, atol=8)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "gif"])
@pytest.mark.parametrize("size_hw", [(1, 1), (20, 30_000), (30_000, 20)])
def test_extreme_sizes(tmp_path, suffix, size_hw):
    path = save(tmp_path / f"a.{suffix}", np.full(size_hw, 7, np.uint8))
    result = read_image(path)
    assert result.shape == (*size_hw, 3)
    assert abs(int(result[-1, -1, 0]) - 7) <= 1


def test_pillows_own_limit_is_neither_applied_nor_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    with ThreadPoolExecutor(4) as pool, warnings.catch_warnings():
        warnings.simplefilter("error")
        for result in pool.map(read_image, [path] * 8):
            np.testing.assert_array_equal(result, RGB)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, as_grey(GREY)),
        (GREY[..., None], as_grey(GREY)),
        (RGB, RGB),
        (GREY > 100, as_grey((GREY > 100) * 255)),
        (DEEP, as_grey(stretched(DEEP))),
        (DEEP.astype(np.int32) - 1000, as_grey(stretched(DEEP))),
        (RGB / 255, RGB),
        (RGB.astype(np.float64), stretched(RGB)),
        (RGBA, on_white(RGBA)),
        (RGBA / 255, on_white(RGBA)),
        (np.full((3, 4), 9, np.uint16), np.zeros((3, 4, 3))),
        (np.full((3, 4), 9.5), np.zeros((3, 4, 3))),
        (np.full((3, 4), 0.5), np.full((3, 4, 3), 128)),
    ],
)
def test_as_rgb8(array, expected):
    before = array.copy()
    result = as_rgb8(array)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected, atol=0.51)
    np.testing.assert_array_equal(array, before)


def test_a_few_bright_pixels_on_black_stay_visible():
    array = np.zeros((100, 100), np.uint16)
    array[50, 50] = 4000
    result = as_rgb8(array)
    assert result[50, 50].tolist() == [255, 255, 255]
    assert result.sum() == 255 * 3


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 2)), r"got the shape \[2, 3, 2\]"),
        (np.zeros(5), r"got the shape \[5\]"),
        (np.zeros((1, 3, 20, 30)), r"got the shape \[1, 3, 20, 30\]"),
        (np.zeros((0, 5, 3)), "5 x 0 pixels"),
        (np.zeros((4, 5), complex), "complex128"),
        (np.full((4, 5), "x"), "<U1"),
        (np.full((4, 5), None), "object"),
    ],
)
def test_as_rgb8_refuses(array, message):
    with pytest.raises(ImageError, match=message):
        as_rgb8(array)
