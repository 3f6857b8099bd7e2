"""The same slides through OpenSlide, the reader that others compare with. Skipped where it is not installed."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from pyramids import scene, set_compression, windows, write_directories, write_svs

from halfpixel.data.images.raster.opening import open_raster
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import ImageError, UnreadableTileError

openslide = pytest.importorskip("openslide", exc_type=ImportError)


def check_same(path):
    """Every level of a slide, inside and over the edges, by both readers."""
    with open_raster(path, reader="tifffile") as ours, open_raster(path, reader="openslide") as theirs:
        assert [level.size_hw for level in ours.levels] == [level.size_hw for level in theirs.levels]
        for k, level in enumerate(ours.levels):
            assert ours.levels[k].downsample == theirs.levels[k].downsample
            height, width = level.size_hw
            for x0, y0, x1, y1 in [(-9, -8, width + 7, height + 6), *windows(level.size_hw)]:
                if k and (x0 > 0 or y0 > 0):
                    continue  # inside of smaller levels OpenSlide interpolates
                np.testing.assert_array_equal(ours.read((x0, y0, x1, y1), k), theirs.read((x0, y0, x1, y1), k))
        return ours.pixel_size_xy_um, theirs.pixel_size_xy_um


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "zlib", None])
def test_generated_slides(tmp_path, compression):
    write_svs(tmp_path / "a.svs", scene(), compression=compression)
    assert check_same(tmp_path / "a.svs") == ((0.499, 0.499), (0.499, 0.499))


@pytest.mark.parametrize("colours", ["RGB", "YCbCr"])
def test_aperios_jpeg_2000(tmp_path, colours):
    """Only the number of the compression says what the components are."""
    path, image = tmp_path / "a.svs", scene()
    stored = np.asarray(Image.fromarray(image).convert(colours))
    how = {"codecformat": "j2k", "mct": False, "reversible": True}
    write_svs(path, stored, compression="jpeg2000", compressionargs=how)
    set_compression(path, 33005 if colours == "RGB" else 33003)
    check_same(path)
    assert np.abs(read_image(path).astype(int) - image).max() <= (0 if colours == "RGB" else 3)


def test_pyramids_one_after_the_other(tmp_path):
    write_directories(tmp_path / "a.tif", scene((256, 320)), (2, 4), photometric="rgb", tile=(64, 64))
    check_same(tmp_path / "a.tif")


@pytest.mark.parametrize(("per_cm", "expected"), [(20_000, 0.5), (28.35, None)])
def test_a_resolution_for_printing_is_no_size_of_a_pixel(tmp_path, per_cm, expected):
    options = {"tile": (64, 64), "resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(tmp_path / "a.tif", scene(), photometric="rgb", **options)
    for size_xy_um in check_same(tmp_path / "a.tif"):
        assert size_xy_um == (expected and pytest.approx((expected, expected)))


def test_after_a_damaged_tile_others_are_read(tmp_path):
    write_svs(tmp_path / "a.svs", scene(), compression="jpeg2000", compressionargs={"codecformat": "j2k"})
    set_compression(tmp_path / "a.svs", 33005)
    with tifffile.TiffFile(tmp_path / "a.svs") as tiff:
        start, n = tiff.pages[0].dataoffsets[5], tiff.pages[0].databytecounts[5]
    content = bytearray((tmp_path / "a.svs").read_bytes())
    content[start : start + n] = bytes(n)
    (tmp_path / "a.svs").write_bytes(content)
    with open_raster(tmp_path / "a.svs", reader="openslide") as raster:
        before = raster.read((0, 0, 201, 64))
        for _ in range(2):
            with pytest.raises(UnreadableTileError, match=r"a\.svs: level 0, columns 70 to 79, rows 70 to 74: "):
                raster.read((70, 70, 80, 75))
        np.testing.assert_array_equal(raster.read((0, 0, 201, 64)), before)


def test_what_openslide_does_not_know(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", scene(), photometric="rgb", rowsperstrip=8)
    with pytest.raises(ImageError, match=r"a\.tif: not a slide of a kind that OpenSlide knows"):
        open_raster(tmp_path / "a.tif", reader="openslide")
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ImageError, match=r"a\.mrxs: "):
        open_raster(tmp_path / "a.mrxs")
    with pytest.raises(ImageError, match=r"b\.svs: No such file"):
        open_raster(tmp_path / "b.svs", reader="openslide")
    write_svs(tmp_path / "a.svs", scene())
    with pytest.raises(ImageError, match="only from a drive"):
        open_raster(lambda: (tmp_path / "a.svs").open("rb"), reader="openslide")


def test_fingerprints_hold_what_openslide_calls_the_slide(tmp_path):
    write_svs(tmp_path / "a.svs", scene())
    with open_raster(tmp_path / "a.svs", reader="openslide") as raster:
        first = raster.fingerprint
    with open_raster(tmp_path / "a.svs", reader="openslide") as raster:
        assert raster.fingerprint == first


def test_a_real_slide(shared_data):
    path = shared_data / "slides" / "CMU-1-Small-Region.svs"
    if not path.is_file():
        pytest.skip("the slide is not here")
    with open_raster(path, reader="tifffile") as ours, open_raster(path, reader="openslide") as theirs:
        whole = (0, 0, 2220, 2967)
        np.testing.assert_array_equal(ours.read(whole), theirs.read(whole))
        np.testing.assert_array_equal(ours.read(whole), read_image(path))
        assert ours.pixel_size_xy_um == theirs.pixel_size_xy_um == (0.499, 0.499)
        for window in [*windows((2967, 2220), 30), (-50, -60, 300, 100), (2100, 2900, 2400, 3000)]:
            np.testing.assert_array_equal(ours.read(window), theirs.read(window))
