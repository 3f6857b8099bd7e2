"""Image files that are damaged, cut short, too large, or no images."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, PngImagePlugin

from halfpixel.data.formats.mask_files import read_numbers, read_size_hw
from halfpixel.data.images.rgb8 import count_frames, read_image
from halfpixel.errors import ArgumentError, ImageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
DEEP = RNG.integers(300, 5000, (20, 30), dtype=np.uint16)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "gif", "bmp", "webp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_cut_short(tmp_path, suffix, kept):
    buffer = io.BytesIO()
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format={"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(buffer.getvalue()[: int(kept * len(buffer.getvalue()))])
    with pytest.raises(ImageError) as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_tiff_cut_short_inside_its_pixels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.tile(RGB, (9, 9, 1)), tile=(64, 64), compression="zlib")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:-100])
    with pytest.raises(ImageError, match="cut short"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("function", [read_image, count_frames])
@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.touch(), "is empty"),
        (lambda path: path.write_text("this is a text, not an image"), "not an image of a kind known"),
        (lambda path: path.write_bytes(b"II*\0"), "a.png: "),
    ],
    ids=["missing", "folder", "empty", "text", "only a signature"],
)
def test_files_that_are_no_images(tmp_path, function, make, cause):
    make(tmp_path / "a.png")
    with pytest.raises(ImageError, match=cause) as error:
        function(tmp_path / "a.png")
    assert str(tmp_path / "a.png") in str(error.value)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_too_many_pixels_are_refused_before_decoding(tmp_path, monkeypatch, suffix):
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", "599")
    path = save(tmp_path / f"a.{suffix}", RGB)
    with pytest.raises(ImageError, match=rf"a\.{suffix}.*30 x 20.*599"):
        read_image(path)
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", "600")
    assert read_image(path).shape == RGB.shape


@pytest.mark.parametrize(
    ("options", "most"), [({"format": "GIF"}, 1800), ({"format": "JPEG", "progressive": True}, 1200)]
)
def test_kinds_that_take_more_memory_have_a_lower_limit(tmp_path, monkeypatch, options, most):
    path = save(tmp_path / "a", GREY, **options)
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", str(most - 1))
    with pytest.raises(ImageError, match=f"HALFPIXEL_MAX_PIXELS={most}$"):
        read_image(path)
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", str(most))
    assert read_image(path).shape == RGB.shape


def test_the_size_of_a_png_is_known_before_its_pixels(tmp_path, monkeypatch):
    save(tmp_path / "a.png", RGB)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda self: pytest.fail("decoded"))
    assert read_size_hw(tmp_path / "a.png") == (20, 30)
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", "599")
    with pytest.raises(ImageError, match="30 x 20 pixels are more than the 599"):
        read_size_hw(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["many", "-5", "0", "1e9"])
def test_a_limit_that_is_no_number(tmp_path, monkeypatch, text):
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", text)
    with pytest.raises(ArgumentError, match=f"HALFPIXEL_MAX_PIXELS={text}"):
        read_image(save(tmp_path / "a.png", RGB))


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("array", [RGB, DEEP], ids=["8 bits", "16 bits"])
def test_every_flipped_byte_of_a_png_is_found(tmp_path, array):
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array))
    content = path.read_bytes()
    for reader in (read_image, read_numbers):
        for position in range(29, len(content), 97):
            path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            with pytest.raises(ImageError, match=r"a\.png: the PNG|a\.png: the image is damaged"):
                reader(path)


def test_a_png_whose_pixels_do_not_have_their_checksum(tmp_path):
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY), 0)
    for damaged in (rows[:-1] + b"\0", rows[:300] + b"\7" + rows[301:]):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30, 20, 8, 0, 0, 0, 0))
        parts = [b"\x89PNG\r\n\x1a\n", header, chunk(b"IDAT", damaged), chunk(b"IEND", b"")]
        (tmp_path / "a.png").write_bytes(b"".join(parts))
        with pytest.raises(ImageError, match=r"a\.png: the image is damaged"):
            read_image(tmp_path / "a.png")


def test_exif_after_the_pixels_of_a_png(tmp_path):
    content, exif = save(tmp_path / "a.png", RGB).read_bytes(), Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(content[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + content[-12:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(RGB, -1))
    assert read_size_hw(tmp_path / "a.png") == (30, 20)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
@pytest.mark.parametrize("function", [read_image, read_size_hw, read_numbers, count_frames])
def test_directories_that_go_round(tmp_path, function, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([GREY, GREY]), metadata=None, photometric="minisblack", **options)
    with tifffile.TiffFile(path) as tiff:
        places, form, order = [page.offset for page in tiff.pages], tiff.tiff, tiff.byteorder
    content = bytearray(path.read_bytes())
    n = int.from_bytes(content[places[1] : places[1] + form.tagnosize], "little" if order == "<" else "big")
    last = places[1] + form.tagnosize + n * form.tagsize
    content[last : last + form.offsetsize] = struct.pack(form.offsetformat, places[0])
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"a\.tif.*circle.*byte {places[0]}"):
        function(path)


def test_a_real_bomb(tmp_path):
    """A header that promises 30,000 x 30,000 pixels."""
    Image.new("1", (16, 16)).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[18:26] = (30_000).to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(ImageError, match="30000 x 30000"):
        read_image(tmp_path / "a.bmp")
