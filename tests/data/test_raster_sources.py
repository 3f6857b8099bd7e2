"""What a raster is opened from, again and elsewhere: files, arrays, what opens a file, threads and processes."""

import io
import pickle
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import tifffile
from PIL import Image
from pyramids import SIZE_HW, scene, windows, write_directories, write_svs

from halfpixel.data.images.raster import segments
from halfpixel.data.images.raster.opening import open_raster
from halfpixel.data.images.raster.raster import RasterSource
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import ArgumentError, ImageError

WHOLE = (0, 0, SIZE_HW[1], SIZE_HW[0])


@pytest.mark.parametrize("channels", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
def test_an_array(channels, dtype):
    image = scene(channels=channels or 1) > 180 if dtype is bool else scene(channels=channels or 1, dtype=dtype)
    raster = open_raster(image[..., 0] if channels is None else image, pixel_size_um=0.5)
    assert [(level.size_hw, level.downsample) for level in raster.levels] == [(SIZE_HW, 1)]
    assert (raster.has_opacity, raster.dtype, raster.pixel_size_xy_um) == (False, dtype, (0.5, 0.5))
    for x0, y0, x1, y1 in windows(SIZE_HW):
        np.testing.assert_array_equal(raster.read((x0, y0, x1, y1)), image[y0:y1, x0:x1])
    found = raster.read(WHOLE)
    found[:] = 0
    np.testing.assert_array_equal(raster.read(WHOLE), image)  # it is the caller's


def test_an_array_with_opacity():
    image = scene(channels=4)
    raster = open_raster(image)
    assert raster.has_opacity
    assert raster.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(raster.read(WHOLE), image)
    np.testing.assert_array_equal(raster.read((-1, -1, 0, 0)), [[[255, 255, 255, 0]]])


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_ordinary_images(tmp_path, suffix):
    Image.fromarray(scene()).save(tmp_path / f"a.{suffix}")
    with open_raster(tmp_path / f"a.{suffix}") as raster:
        np.testing.assert_array_equal(raster.read(WHOLE), read_image(tmp_path / f"a.{suffix}"))
        assert raster.source.reader is None


def test_frames_of_an_animation(tmp_path):
    frames = [Image.fromarray(scene()[..., k]) for k in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with open_raster(tmp_path / "a.gif", plane=2) as raster:
        np.testing.assert_array_equal(raster.read(WHOLE)[..., 0], scene_of(frames[2]))


def scene_of(frame):
    return np.asarray(frame)


def opened(path, log):
    log.append(path)
    return io.BytesIO(path.read_bytes())


def test_whatever_opens_a_file(tmp_path):
    levels = write_svs(tmp_path / "a.svs", scene())
    log = []
    with open_raster(partial(opened, tmp_path / "a.svs", log)) as raster:
        np.testing.assert_array_equal(raster.read((0, 0, 50, 37), 1), levels[1])
        with pytest.raises(ArgumentError, match=r"a\.svs.*no level 3"):
            raster.read(WHOLE, 3)
        log.clear()
        with open_raster(raster.source) as again:
            assert log
            np.testing.assert_array_equal(again.read(WHOLE), levels[0])


def test_a_file_system_of_fsspec(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    write_svs(tmp_path / "a.svs", scene())
    memory = fsspec.filesystem("memory")
    with memory.open("/bucket/a.svs", "wb") as file:
        file.write((tmp_path / "a.svs").read_bytes())
    with open_raster(partial(memory.open, "/bucket/a.svs")) as remote, open_raster(tmp_path / "a.svs") as local:
        np.testing.assert_array_equal(remote.read(WHOLE), local.read(WHOLE))
        assert remote.fingerprint == local.fingerprint
        assert len(remote.levels) == 3


def test_only_the_bytes_of_a_window_are_read(tmp_path):
    """Of an uncompressed image of one strip its rows, of one of tiles those that the window touches."""
    for options, most in (({"rowsperstrip": 150}, 10 * 201 * 3), ({"tile": (16, 16)}, 2 * 16 * 16 * 3)):
        tifffile.imwrite(tmp_path / "a.tif", scene(), photometric="rgb", **options)
        counted = []

        class Counting(io.FileIO):
            def read(self, n=-1, counted=counted):
                counted.append(n)
                return super().read(n)

            def readinto(self, buffer, counted=counted):
                counted.append(len(buffer))
                return super().readinto(buffer)

        with open_raster(partial(Counting, tmp_path / "a.tif")) as raster:
            counted.clear()
            raster.read((20, 100, 40, 110))
            assert 0 < sum(counted) <= most


def test_an_image_larger_than_any_that_is_read_whole(tmp_path):
    path, side = tmp_path / "a.tif", 25_000  # nearly all of which is a hole in the file
    array = tifffile.memmap(path, shape=(side, side), dtype=np.uint8, photometric="minisblack")
    array[20_000:20_010, 24_000:24_020] = 9
    array.flush()
    del array
    with pytest.raises(ImageError, match="HALFPIXEL_MAX_PIXELS=625000000"):
        read_image(path)
    tracemalloc.start()
    try:
        with open_raster(path) as raster:
            found = raster.read((23_990, 19_990, 24_290, 20_290))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.sum() == 9 * 10 * 20 == found[10:20, 10:30].sum()
    assert peak < 300 * side + (1 << 20)  # the rows of the window, and little else


def test_a_source_holds_no_file_and_opens_elsewhere(tmp_path):
    levels = write_svs(tmp_path / "a.svs", scene())
    with open_raster(tmp_path / "a.svs", pixel_size_um=0.25) as raster:
        stored = pickle.dumps(raster.source)
    source = pickle.loads(stored)
    assert (source.where, source.plane, source.reader, source.pixel_size_um) == (
        tmp_path / "a.svs", 0, "tifffile", 0.25)  # fmt: skip
    (tmp_path / "source").write_bytes(stored)
    program = (
        "import pickle, sys; from halfpixel.data.images.raster.opening import open_raster;"
        "raster = open_raster(pickle.load(open(sys.argv[1], 'rb')));"
        "print(raster.read((3, 4, 30, 20), 1).sum(), raster.pixel_size_xy_um)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "source")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(levels[1][4:20, 3:30].sum()), "(0.25,", "0.25)"]


@pytest.mark.parametrize("shared", [False, True])
def test_threads(tmp_path, monkeypatch, shared):
    """With a handle each, and with one for all, which is slower and as right."""
    monkeypatch.setattr(segments, "KEPT_TILE_PX", 1)
    monkeypatch.setattr(segments, "KEPT_BYTES", 5 * 32 * 48 * 3)  # so that they get in each other's way
    levels = write_directories(tmp_path / "a.tif", scene(), photometric="rgb", tile=(32, 48), compression="zlib")
    with open_raster(tmp_path / "a.tif") as raster:

        def work(k):
            own = raster if shared else open_raster(raster.source)
            for level, image in enumerate(levels):
                for x0, y0, x1, y1 in windows(image.shape[:2], 20):
                    np.testing.assert_array_equal(own.read((x0, y0, x1, y1), level), image[y0:y1, x0:x1])
            if not shared:
                own.close()
            return k

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(8))) == list(range(8))


def test_strips_and_large_tiles_are_kept_but_not_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "KEPT_BYTES", 5 * 16 * 208 * 3)
    whole, options = (0, 0, 201, 150), {"photometric": "rgb", "compression": "zlib"}
    for layout, tile_px, expected in (
        ({"rowsperstrip": 16}, 1 << 20, 5),
        ({"tile": (16, 208)}, 16 * 208, 5),
        ({"tile": (16, 208)}, 16 * 208 + 1, 0),
    ):
        monkeypatch.setattr(segments, "KEPT_TILE_PX", tile_px)
        image = scene()
        tifffile.imwrite(tmp_path / "a.tif", image, **options, **layout)
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            kept = segments.Segments(tiff.filehandle)
            for _ in range(2):
                np.testing.assert_array_equal(kept.window(tiff.pages[0], whole), image)
                np.testing.assert_array_equal(kept.window(tiff.pages[0], (5, 130, 9, 150)), image[130:, 5:9])
                assert len(kept._kept) == expected
                assert kept._kept_bytes == sum(one.nbytes for one in kept._kept.values()) <= segments.KEPT_BYTES


def test_a_strip_is_decoded_once_for_windows_side_by_side(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", scene(), photometric="rgb", compression="zlib", rowsperstrip=50)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        kept, reads = segments.Segments(tiff.filehandle), []
        monkeypatch.setattr(kept, "_read", lambda *where, read=kept._read: reads.append(where) or read(*where))
        for x in range(0, 200, 10):
            kept.window(tiff.pages[0], (x, 40, x + 10, 60))
        assert len(reads) == 2


def test_fingerprints(tmp_path):
    write_svs(tmp_path / "a.svs", scene(), compression="jpeg")
    shutil.copy(tmp_path / "a.svs", tmp_path / "b.tif")
    content = bytearray((tmp_path / "a.svs").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "c.svs").write_bytes(content)
    prints = []
    for name in ("a.svs", "b.tif", "c.svs"):
        with open_raster(tmp_path / name) as raster:
            prints.append(raster.fingerprint)
            assert raster.fingerprint == prints[-1]
    assert prints[0] == prints[1] != prints[2]
    array = scene()
    first = open_raster(array).fingerprint
    assert open_raster(array.copy()).fingerprint == first
    assert open_raster(array.reshape(201, 150, 3)).fingerprint != first
    array[0, 0, 0] += 1
    assert open_raster(array).fingerprint != first


def test_fingerprints_of_large_files_look_at_both_ends_and_between(tmp_path):
    with (tmp_path / "a.tif").open("wb") as file:
        file.write(tifffile_bytes())
        file.truncate(40 << 20)
    seen = set()
    for place in (1 << 20, 0, 4, (40 << 20) - 1):
        with (tmp_path / "a.tif").open("r+b") as file:
            if place > 1 << 20:
                file.seek(place)
                file.write(b"x")
        with open_raster(tmp_path / "a.tif") as raster:
            seen.add(raster.fingerprint)
    assert len(seen) == 2
    with (tmp_path / "a.tif").open("ab") as file:
        file.write(b"\0")
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.fingerprint not in seen


def tifffile_bytes():
    file = io.BytesIO()
    tifffile.imwrite(file, scene(), photometric="rgb")
    return file.getvalue()


def test_a_source_by_hand(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", scene(), photometric="rgb")
    with open_raster(RasterSource(tmp_path / "a.tif")) as raster:
        np.testing.assert_array_equal(raster.read(WHOLE), scene_file(tmp_path / "a.tif"))
        assert raster.source.reader == "tifffile"


def scene_file(path):
    return tifffile.imread(path)
