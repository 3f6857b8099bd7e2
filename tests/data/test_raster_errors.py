"""Large images that are damaged, cut short or say what cannot be, and reading what is not there."""

import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from pyramids import SIZE_HW, scene, set_compression, write_svs

from halfpixel.data.images.raster.opening import open_raster
from halfpixel.errors import ArgumentError, ImageError, MissingDependencyError, UnreadableTileError

WHOLE = (0, 0, SIZE_HW[1], SIZE_HW[0])


def places(path):
    """Offset and length of each tile of the first page."""
    with tifffile.TiffFile(path) as tiff:
        return list(zip(tiff.pages[0].dataoffsets, tiff.pages[0].databytecounts, strict=True))


@pytest.mark.parametrize("compression", ["zlib", "zstd", "jpeg", "jpeg2000", "lzw"])
def test_a_damaged_tile_is_an_error_of_its_window_alone(tmp_path, compression):
    levels = write_svs(tmp_path / "a.svs", scene(), compression=compression)
    start, n = places(tmp_path / "a.svs")[5]  # the second row of tiles of four
    content = bytearray((tmp_path / "a.svs").read_bytes())
    content[start : start + n] = b"\xff\x01" * (n // 2) + b"\0" * (n % 2)
    (tmp_path / "a.svs").write_bytes(content)
    with open_raster(tmp_path / "a.svs") as raster:
        where = r"a\.svs: level 0, tile 5 \(columns 64 to 127, rows 64 to 127\): "
        for window in ((70, 70, 71, 71), WHOLE, (-5, 100, 80, 101)):
            with pytest.raises(UnreadableTileError, match=where) as error:
                raster.read(window)
            assert "\n" not in str(error.value)
            assert isinstance(error.value, ImageError)
        beside = raster.read((0, 0, 201, 64))
        assert np.abs(beside.astype(int) - levels[0][:64]).mean() < 5
        assert raster.read((0, 0, 50, 37), 1).shape == (37, 50, 3)


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {}, {"rowsperstrip": 10, "tile": None}])
def test_a_file_cut_short_can_be_read_as_far_as_it_goes(tmp_path, options):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, scene(), photometric="rgb", **{"tile": (32, 48), **options})
    end = places(path)
    path.write_bytes(path.read_bytes()[: end[-1][0] + 5])
    kind = "strip 14" if "rowsperstrip" in options else "tile 24"
    size = path.stat().st_size
    with open_raster(path) as raster:
        with pytest.raises(UnreadableTileError, match=rf"a\.tif: level 0, {kind} .*after the last of .* {size} bytes"):
            raster.read(WHOLE)
        assert raster.read((0, 0, 201, 120)).shape == (120, 201, 3)


def test_a_compression_that_nobody_knows_is_no_matter_of_a_tile(tmp_path):
    write_svs(tmp_path / "a.svs", scene(), compression="zlib")
    set_compression(tmp_path / "a.svs", 52479)
    with (
        open_raster(tmp_path / "a.svs") as raster,
        pytest.raises(ImageError, match=r"a\.svs: the TIFF cannot be decoded: 52479") as error,
    ):
        raster.read((0, 0, 5, 5))
    assert not isinstance(error.value, UnreadableTileError)


def test_a_file_without_its_directories(tmp_path):
    path = tmp_path / "a.svs"
    write_svs(path, scene(), compression="zlib")
    for n in (6, 9, 200):
        content = path.read_bytes()[:n]
        (tmp_path / "b.svs").write_bytes(content)
        with pytest.raises(ImageError, match=r"b\.svs: "):
            open_raster(tmp_path / "b.svs")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "is empty"),
        (b"this is a text, not an image", "not an image of a kind known"),
        (b"\x89PNG\r\n\x1a\nand nothing more", "damaged"),
        (None, "No such file"),
    ],
)
def test_files_of_no_known_kind(tmp_path, content, cause):
    if content is not None:
        (tmp_path / "a.svs").write_bytes(content)
    with pytest.raises(ImageError, match=rf"a\.svs: .*{cause}"):
        open_raster(tmp_path / "a.svs")
    with pytest.raises(ImageError, match=r"a\.svs: "):
        open_raster(tmp_path / "a.svs", reader="tifffile")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "webp"])
def test_ordinary_images_that_are_cut_short(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(scene()).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.raises(ImageError, match=rf"a\.{suffix}: "):
        open_raster(path)


@pytest.mark.parametrize("name", ["a.mrxs", "a.vms", "a.dcm", "a.czi", "a.scn", "a.bif"])
def test_what_only_openslide_reads(tmp_path, monkeypatch, name):
    if name in ("a.mrxs", "a.vms"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xffwhat else")
    elif name == "a.dcm":
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    elif name == "a.czi":
        (tmp_path / name).write_bytes(b"ZISRAWFILE" + b"\0" * 90)
    else:
        options = {"description": "<scn></scn>"}
        if name == "a.bif":
            options = {"software": "Ventana", "extratags": [(700, "s", 0, "<iScan></iScan>", True)]}
        tifffile.imwrite(tmp_path / name, scene(), photometric="rgb", metadata=None, **options)
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(MissingDependencyError, match=rf'{name}: OpenSlide.*"halfpixel\[slides\]"'):
        open_raster(tmp_path / name)


def test_levels_windows_and_channels_that_there_are_not(tmp_path):
    write_svs(tmp_path / "a.svs", scene())
    raster = open_raster(tmp_path / "a.svs")
    for level in (3, -1):
        with pytest.raises(ArgumentError, match=rf"a\.svs: there is no level {level}; it has 3"):
            raster.read(WHOLE, level)
    for window in ((5, 5, 5, 9), (9, 5, 5, 9), (0, 9, 5, 9)):
        with pytest.raises(ArgumentError, match=r"a\.svs: a window .* has nothing in it"):
            raster.read(window)
    for channel in (3, -1):
        with pytest.raises(ArgumentError, match=rf"a\.svs: there is no channel {channel}; it has 3"):
            raster.read(WHOLE, 0, [channel])
    raster.close()
    raster.close()
    with pytest.raises(ArgumentError, match=r"a\.svs: read after it was closed"):
        raster.read(WHOLE)
    for plane in (1, -1):
        with pytest.raises(ArgumentError, match=rf"a\.svs: there is no plane {plane}; it has 1"):
            open_raster(tmp_path / "a.svs", plane=plane)
    with pytest.raises(ArgumentError, match="reader"):
        open_raster(tmp_path / "a.svs", reader="vips")


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 3), (0, 4), (4, 0, 3)])
def test_arrays_that_are_no_images(shape):
    with pytest.raises(ImageError, match=rf"an array .*{shape[-1]}\] of uint8: expected"):
        open_raster(np.zeros(shape, np.uint8))
    with pytest.raises(ImageError, match=r"of <U1: expected"):
        open_raster(np.full((2, 2), "a"))


def test_too_much_at_once(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", scene(), photometric="rgb", tile=(32, 48))
    tifffile.imwrite(tmp_path / "b.tif", scene(), photometric="rgb", compression="zlib", rowsperstrip=150)
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", "2000")
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.read((100, 100, 150, 140)).shape == (40, 50, 3)
        with pytest.raises(ImageError, match=r"a\.tif: 50 x 41 pixels are more than the 2,000"):
            raster.read((100, 100, 150, 141))
    with (
        open_raster(tmp_path / "b.tif") as raster,
        pytest.raises(ImageError, match=r"b\.tif: 201 x 150 pixels .* more than"),
    ):  # one strip, which would have to be decoded as a whole
        raster.read((0, 0, 5, 5))


@pytest.mark.parametrize("mpp", ["0.0000001", "2500", "0.0"])
def test_sizes_that_no_pixel_has(tmp_path, mpp):
    write_svs(tmp_path / "a.svs", scene(), mpp=mpp)
    if mpp == "0.0":
        with open_raster(tmp_path / "a.svs") as raster:
            assert raster.pixel_size_xy_um is None
        return
    with pytest.raises(ImageError, match=r"a\.svs: a pixel is said to be .* micrometres.*`pixel_size_um`"):
        open_raster(tmp_path / "a.svs")
    with open_raster(tmp_path / "a.svs", pixel_size_um=0.5) as raster:
        assert raster.pixel_size_xy_um == (0.5, 0.5)


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), 1e-9])
def test_sizes_that_are_given(tmp_path, size):
    with pytest.raises(ArgumentError, match="pixel_size_um"):
        open_raster(scene(), pixel_size_um=size)


def test_sizes_by_ome(tmp_path):
    for size, unit in ((1e9, "m"), (1e-9, "nm")):
        metadata = {"PhysicalSizeX": size, "PhysicalSizeY": size, "PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
        tifffile.imwrite(tmp_path / "a.ome.tif", scene(), ome=True, metadata=metadata, photometric="rgb")
        with pytest.raises(ImageError, match=r"a\.ome\.tif: a pixel is said to be"):
            open_raster(tmp_path / "a.ome.tif")


def test_an_object_store_that_fails_is_no_damaged_tile(tmp_path):
    """What could be tried again is told from what cannot."""
    write_svs(tmp_path / "a.svs", scene())
    opened = []

    class Failing:
        def __init__(self):
            self.file, self.fails = (tmp_path / "a.svs").open("rb"), False
            opened.append(self)

        def read(self, n=-1):
            if self.fails:
                raise TimeoutError(110, "the store does not answer")
            return self.file.read(n)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    with open_raster(Failing) as raster:
        opened[-1].fails = True
        with pytest.raises(ImageError, match="does not answer") as error:
            raster.read(WHOLE)
        assert not isinstance(error.value, UnreadableTileError)
        opened[-1].fails = False
        np.testing.assert_array_equal(raster.read(WHOLE), scene_file(tmp_path / "a.svs"))


def scene_file(path):
    return tifffile.imread(path)
