"""Windows of images of every layout, against the whole image as tifffile or Pillow reads it."""

import io
import itertools

import numpy as np
import pytest
import tifffile
from PIL import Image
from pyramids import RNG, SIZE_HW, reduced, scene, windows, write_directories, write_svs
from stacks import ALL

from halfpixel.data.images.picture import read_pictures
from halfpixel.data.images.raster.opening import open_raster
from halfpixel.data.images.raster.raster import Raster
from halfpixel.data.images.rgb8 import count_frames, read_image

LAYOUTS = {
    "tiles": {"tile": (32, 48)},
    "one large tile": {"tile": (160, 208)},
    "strips": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": 150},
}
CODECS = {
    "plain": {},
    "zlib and predictor": {"compression": "zlib", "predictor": True},
    "lzw": {"compression": "lzw"},
    "zstd": {"compression": "zstd"},
}


def check_level(raster: Raster, level: int, expected: np.ndarray) -> None:
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert raster.levels[level].size_hw == expected.shape[:2]
    for x0, y0, x1, y1 in windows(expected.shape[:2]):
        found = raster.read((x0, y0, x1, y1), level)
        assert found.flags.c_contiguous
        assert found.dtype == raster.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected[y0:y1, x0:x1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_layouts_and_codecs(tmp_path, layout, codec, dtype):
    path, big = tmp_path / "a.tif", bool(RNG.integers(2))
    for channels, planar in ((1, None), (3, "contig"), (3, "separate"), (5, "separate")):
        image = scene(channels=channels, dtype=dtype)
        stored = image[..., 0] if planar is None else image if planar == "contig" else np.moveaxis(image, 2, 0)
        photometric = "rgb" if channels == 3 else "minisblack"
        tifffile.imwrite(
            path, stored, photometric=photometric, planarconfig=planar, bigtiff=big, **LAYOUTS[layout], **CODECS[codec]
        )
        with open_raster(path) as raster:
            check_level(raster, 0, image)
            assert [level.downsample for level in raster.levels] == [1]
            if channels == 5:
                np.testing.assert_array_equal(raster.read((3, 5, 40, 60), 0, [4, 1]), image[5:60, 3:40, [4, 1]])


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"byteorder": ">", "tile": (16, 16), "compression": "lzw"}])
def test_the_other_byte_order(tmp_path, options):
    image = scene(dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", **options)
    with open_raster(tmp_path / "a.tif") as raster:
        check_level(raster, 0, image)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "webp", "png"])
@pytest.mark.parametrize("layout", ["tiles", "strips"])
def test_codecs_of_pictures(tmp_path, compression, layout):
    options = {"tile": (32, 48)} if layout == "tiles" else {"rowsperstrip": 16}
    tifffile.imwrite(tmp_path / "a.tif", scene(), photometric="rgb", compression=compression, **options)
    with open_raster(tmp_path / "a.tif") as raster:
        check_level(raster, 0, tifffile.imread(tmp_path / "a.tif"))


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_jpeg_with_coarse_colours(tmp_path, subsampling):
    image, options = scene(), {"photometric": "ycbcr", "subsampling": subsampling, "compression": "jpeg"}
    ycbcr = np.asarray(Image.fromarray(image).convert("YCbCr"))
    tifffile.imwrite(tmp_path / "a.tif", ycbcr, tile=(32, 48), **options)
    with open_raster(tmp_path / "a.tif") as raster:
        check_level(raster, 0, tifffile.imread(tmp_path / "a.tif"))
        assert raster.channel_names == ("red", "green", "blue")
        assert np.abs(raster.read((0, 0, *SIZE_HW[::-1])).astype(int) - image).mean() < 8


def test_jpeg_strips_with_tables_of_their_own(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "a.tif", compression="jpeg")
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.pages[0].jpegtables is not None
    with open_raster(tmp_path / "a.tif") as raster:
        check_level(raster, 0, tifffile.imread(tmp_path / "a.tif"))


def test_planes_of_a_stack(tmp_path):
    array = np.moveaxis(scene(channels=6, dtype=np.uint16), 2, 0).reshape(3, 2, *SIZE_HW)
    for ome, compression in itertools.product([True, False], ["zlib", None]):
        options = {"ome": ome, "imagej": not ome, "metadata": {"axes": "ZCYX"}, "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, **options)
        for plane in range(3):
            with open_raster(tmp_path / "a.tif", plane=plane) as raster:
                check_level(raster, 0, np.moveaxis(array[plane], 0, 2))
                assert raster.channel_names == ("channel 1", "channel 2")


def test_one_page_that_stands_for_a_stack(tmp_path):
    array = np.moveaxis(scene(channels=6, dtype=np.uint16), 2, 0).reshape(3, 2, *SIZE_HW)
    metadata = {"axes": "ZCYX"}
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=metadata, truncate=True, photometric="minisblack")
    with open_raster(tmp_path / "a.tif", plane=2) as raster:
        check_level(raster, 0, np.moveaxis(array[2], 0, 2))


# what becomes colours


@pytest.mark.parametrize("kind", ["palette", "cmyk", "ycbcr"])
def test_colours_that_are_converted(tmp_path, kind):
    path = tmp_path / "a.tif"
    if kind == "palette":
        table = RNG.integers(0, 1 << 16, (3, 256), dtype=np.uint16)
        tifffile.imwrite(path, scene()[..., 0], photometric="palette", colormap=table, tile=(32, 48))
    elif kind == "cmyk":
        tifffile.imwrite(path, scene(channels=4), photometric="separated", tile=(32, 48))
    else:
        tifffile.imwrite(path, scene(), photometric="ycbcr", compression="zlib", tile=(32, 48))
    (whole,) = read_pictures(path)
    with open_raster(path) as raster:
        check_level(raster, 0, whole.channels)


@pytest.mark.parametrize("extra", ["unassalpha", "assocalpha"])
def test_opacity_is_the_last_channel(tmp_path, extra):
    image = scene(channels=4)
    image[..., 3] = np.linspace(1, 255, SIZE_HW[1])
    if extra == "assocalpha":
        image[..., :3] = image[..., :3] * (image[..., 3:] / 255)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extrasamples=[extra], tile=(32, 48))
    (whole,) = read_pictures(tmp_path / "a.tif")
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.has_opacity
        check_level(raster, 0, np.concatenate([whole.channels, image[..., 3:]], axis=2))
        beyond = raster.read((-2, 0, 2, 1))[0]
        np.testing.assert_array_equal(beyond[:2], [[255, 255, 255, 0]] * 2)


# levels


JPEG_85 = {"compression": "jpeg", "compressionargs": {"level": 85}}


@pytest.mark.parametrize("options", [{}, JPEG_85, {"compression": "jpeg2000", "bigtiff": True}])
def test_a_slide_has_its_scan_and_nothing_beside_it(tmp_path, options):
    write_svs(tmp_path / "a.svs", scene(), **options)
    with open_raster(tmp_path / "a.svs") as raster, tifffile.TiffFile(tmp_path / "a.svs") as tiff:
        assert [level.size_hw for level in raster.levels] == [(150, 201), (37, 50), (18, 25)]
        assert [level.downsample for level in raster.levels] == [1, 4, 8]
        for k in range(3):
            check_level(raster, k, tiff.series[0].levels[k].asarray())
        assert raster.pixel_size_xy_um == (0.499, 0.499)
        assert (raster.size_hw, raster.channel_names, raster.dtype) == (SIZE_HW, ("red", "green", "blue"), np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.svs"), tifffile.imread(tmp_path / "a.svs"))
    assert count_frames(tmp_path / "a.svs") == 1


@pytest.mark.parametrize(("ome", "axes"), [(True, "YXS"), (True, "CYX"), (True, "YX"), (False, "YXS"), (False, "YX")])
@pytest.mark.parametrize("layout", ["tiles", "strips"])
def test_levels_in_subdirectories(tmp_path, ome, axes, layout):
    image = scene(channels=1 if axes == "YX" else 3, dtype=np.uint8 if axes == "YXS" else np.uint16)
    levels = [image, reduced(image, 2), reduced(image, 4)]
    stored = [np.moveaxis(level, 2, 0) if axes == "CYX" else level for level in levels]
    stored = [level[..., 0] for level in levels] if axes == "YX" else stored
    metadata = {"axes": axes} | ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} if ome else {})
    photometric = "rgb" if axes == "YXS" else "minisblack"
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=ome) as writer:
        writer.write(stored[0], subifds=2, metadata=metadata, photometric=photometric, **LAYOUTS[layout])
        for level in stored[1:]:
            writer.write(level, subfiletype=1, metadata=None, photometric=photometric, **LAYOUTS[layout])
    with open_raster(tmp_path / "a.tif") as raster:
        assert [level.downsample for level in raster.levels] == [1, 2, 4]
        for k, level in enumerate(levels):
            check_level(raster, k, level)
        assert raster.pixel_size_xy_um == ((0.5, 0.5) if ome else None)
    assert count_frames(tmp_path / "a.tif") == 1


@pytest.mark.parametrize("factors", [(2, 4), (4, 16), (2, 8), (5, 7)])
def test_levels_one_after_the_other(tmp_path, factors):
    levels = write_directories(tmp_path / "a.tif", scene(), factors, photometric="rgb", tile=(32, 48))
    with open_raster(tmp_path / "a.tif") as raster:
        assert [level.downsample for level in raster.levels] == [1, *factors]
        for k, level in enumerate(levels):
            check_level(raster, k, level)
    # they were taken for further images of the file
    (one,) = read_pictures(tmp_path / "a.tif", ALL)
    np.testing.assert_array_equal(one.rgb, levels[0])


def test_what_is_smaller_but_shows_something_else_is_no_level(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(scene(), photometric="rgb", metadata=None)
        writer.write(scene((50, 50)), photometric="rgb", metadata=None, subfiletype=1)
        writer.write(scene((75, 100), dtype=np.uint16), photometric="rgb", metadata=None, subfiletype=1)
    with open_raster(tmp_path / "a.tif") as raster:
        assert [level.size_hw for level in raster.levels] == [SIZE_HW]
    assert count_frames(tmp_path / "a.tif") == 3


# over the edges


@pytest.mark.parametrize(
    ("options", "outside"),
    [
        ({"photometric": "rgb"}, 255),
        ({"photometric": "minisblack"}, 0),
        ({"photometric": "minisblack", "extratags": [(42113, "s", 0, "7", True)]}, 7),
        ({"photometric": "minisblack", "extratags": [(42113, "s", 0, "-9999", True)]}, 0),
    ],
)
def test_windows_over_the_edges(tmp_path, options, outside):
    image = scene() if options["photometric"] == "rgb" else scene(channels=1)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(32, 48), **options)
    image = image[..., None] if image.ndim == 2 else image
    height, width = SIZE_HW
    padded = np.full((height + 40, width + 40, image.shape[2]), outside, np.uint8)
    padded[20:-20, 20:-20] = image
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.outside == outside
        for x0, y0, x1, y1 in [(-20, -20, width + 20, height + 20), *windows((height + 40, width + 40), 30)[1:]]:
            x0, y0, x1, y1 = (x0, y0, x1, y1) if x0 < 0 else (x0 - 20, y0 - 20, x1 - 20, y1 - 20)
            found = raster.read((x0, y0, x1, y1))
            np.testing.assert_array_equal(found, padded[y0 + 20 : y1 + 20, x0 + 20 : x1 + 20])
        assert (raster.read((5000, 5000, 5003, 5002)) == outside).all()


@pytest.mark.parametrize("kind", ["tif", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(tmp_path, kind, orientation):
    path = tmp_path / f"a.{kind}"
    if kind == "tif":
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, scene(), photometric="rgb", tile=(32, 48), extratags=tags, resolution=(10_000, 20_000),
                         resolutionunit="CENTIMETER")  # fmt: skip
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(scene()).save(path, exif=exif)
    (whole,) = read_pictures(path)
    with open_raster(path) as raster:
        check_level(raster, 0, whole.channels)
        assert raster.pixel_size_xy_um == whole.pixel_size_xy_um
        assert raster.pixel_size_xy_um == (None if kind == "png" else (1, 0.5) if orientation < 5 else (0.5, 1))


def test_tiles_that_were_left_out(tmp_path):
    """GDAL leaves out tiles in which nothing is."""
    image = scene(channels=1, dtype=np.uint16)[..., 0]
    parts = [image[y : y + 64, x : x + 64] for y in range(0, 128, 64) for x in range(0, 192, 64)]
    given = (None if k in (1, 3) else part for k, part in enumerate(parts))
    for no_data in (0, 17):
        tags = [(42113, "s", 0, str(no_data), True)]
        given = (None if k in (1, 3) else part for k, part in enumerate(parts))
        with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
            writer.write(given, shape=(128, 192), dtype=np.uint16, tile=(64, 64), photometric="minisblack",
                         extratags=tags)  # fmt: skip
        with open_raster(tmp_path / "a.tif") as raster:
            check_level(raster, 0, tifffile.imread(tmp_path / "a.tif"))
            assert (raster.read((64, 0, 128, 64)) == no_data).all()


def as_ndpi(path, image, restart):
    """As Hamamatsu's scanners, but for 64-bit offsets: each level a JPEG, and where its restart markers are."""
    tags = [(271, "s", 0, "Hamamatsu", True), (65420, "I", 1, 1, True)]
    with tifffile.TiffWriter(path) as writer:
        for level, lens in ((image, 20.0), (reduced(image, 2), 10.0), (image[:40, :48], -1.0)):
            file = io.BytesIO()
            Image.fromarray(level).save(file, "JPEG", quality=90, subsampling=0, restart_marker_blocks=restart)
            jpeg = file.getvalue()
            scan = jpeg.index(b"\xff\xda")
            first = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
            starts = [first] + [
                k + 2 for k in range(first, len(jpeg) - 2) if jpeg[k] == 0xFF and 0xD0 <= jpeg[k + 1] <= 0xD7
            ]
            extra = [*tags, (65421, "f", 1, lens, True), (65426, "I", len(starts), starts, True)]
            writer.write(iter([jpeg]), shape=level.shape, dtype=np.uint8, compression="jpeg", photometric="ycbcr",
                         subsampling=(1, 1), rowsperstrip=level.shape[0], metadata=None, extratags=extra,
                         resolution=(20_000, 20_000), resolutionunit="CENTIMETER")  # fmt: skip
            yield np.asarray(Image.open(file))


def test_ndpi_as_far_as_tifffile_goes(tmp_path):
    levels = list(as_ndpi(tmp_path / "a.tif", scene((144, 256)), restart=8))[:2]
    with open_raster(tmp_path / "a.tif", reader="tifffile") as raster:
        assert [level.downsample for level in raster.levels] == [1, 2]
        for k, level in enumerate(levels):
            check_level(raster, k, level)
        assert raster.pixel_size_xy_um == (0.5, 0.5)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), levels[0])
