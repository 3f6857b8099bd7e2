import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image
from stacks import ALL, RNG, as_planes, stretched, values, write

from halfpixel.data.formats.mask_files import read_size_hw
from halfpixel.data.images import stretch
from halfpixel.data.images.picture import Reading, read_pictures
from halfpixel.data.images.rgb8 import count_frames, read_image
from halfpixel.errors import ArgumentError, ImageError

DTYPES = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]


def check_planes(path, array, axes, names):
    expected = as_planes(array, axes)
    pictures = list(read_pictures(path, ALL))
    assert [one.plane for one in pictures] == list(expected)
    for one in pictures:
        np.testing.assert_array_equal(one.channels, expected[one.plane])
        assert one.channels.dtype == array.dtype
        assert one.channel_names == names
        assert one.n_planes == len(expected) == count_frames(path)
        assert (one.rgb.shape, one.rgb.dtype) == ((20, 30, 3), np.uint8)
        assert one.rgb.flags.c_contiguous
    (first,) = read_pictures(path)
    np.testing.assert_array_equal(first.rgb, pictures[0].rgb)
    np.testing.assert_array_equal(read_image(path), first.rgb)
    assert (first.path, first.plane, first.n_planes) == (path, pictures[0].plane, len(expected))
    assert read_size_hw(path) == (20, 30)


def default_names(axes):
    return ("grey",) if "C" not in axes else tuple(f"channel {k}" for k in range(1, 5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "TZCYX"])
def test_ome_of_every_depth(tmp_path, axes, dtype):
    array = values(axes, dtype)
    check_planes(write(tmp_path / "a.ome.tif", array, axes, ome=True), array, axes, default_names(axes))


@pytest.mark.parametrize("axes", ["TYX", "CZYX", "ZCTYX", "CTZYX", "ZTCYX", "TCZYX"])
@pytest.mark.parametrize("options", [{"ome": True}, {"ome": True, "compression": "zlib", "byteorder": ">"}, {}])
def test_axes_in_every_order(tmp_path, axes, options):
    array = values(axes)
    check_planes(write(tmp_path / "a.tif", array, axes, **options), array, axes, default_names(axes))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "TCYX", "TZCYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_imagej_hyperstacks(tmp_path, axes, dtype, compression):
    array = values(axes, dtype)
    path = write(tmp_path / "a.tif", array, axes, imagej=True, compression=compression)
    check_planes(path, array, axes, default_names(axes))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("axes", ["YXS", "SYX", "ZYXS", "TZYXS"])
@pytest.mark.parametrize("ome", [True, False])
def test_colours(tmp_path, axes, dtype, ome):
    array = values(axes, dtype)
    planar = "separate" if axes == "SYX" else "contig"
    path = write(tmp_path / "a.tif", array, axes, ome=ome, photometric="rgb", planarconfig=planar)
    check_planes(path, array, axes, ("red", "green", "blue"))


def test_one_page_that_stands_for_a_stack_of_channels(tmp_path):
    array = values("ZCYX")
    check_planes(write(tmp_path / "a.tif", array, "ZCYX", truncate=True), array, "ZCYX", default_names("C"))


def test_pages_of_unknown_meaning(tmp_path):
    frames = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (10, 200, 90)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    pictures = list(read_pictures(tmp_path / "a.tif", ALL))
    assert [(one.plane, one.channels.max()) for one in pictures] == [("p001", 10), ("p002", 200), ("p003", 90)]


def test_images_of_several_sizes_in_one_file(tmp_path):
    arrays = [values("YX"), values("YX")[:10], values("ZYX")]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for array in arrays:
            writer.write(array, photometric="minisblack", metadata={"axes": "ZYX"[-array.ndim :]})
    pictures = list(read_pictures(tmp_path / "a.tif", ALL))
    assert [one.plane for one in pictures] == ["s001", "s002", "s003_z001", "s003_z002", "s003_z003"]
    assert {one.n_planes for one in pictures} == {5} == {count_frames(tmp_path / "a.tif")}
    np.testing.assert_array_equal(pictures[1].channels[..., 0], arrays[1])
    low, high = np.percentile(np.concatenate([one.ravel() for one in arrays]), [0.1, 99.9])
    for one in pictures:  # they share their contrast
        np.testing.assert_allclose(one.rgb, np.repeat(stretched(one.channels, low, high), 3, axis=2), atol=0.51)


def test_several_colour_slides_are_planes(tmp_path):
    slides = RNG.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    write(tmp_path / "a.ome.tif", slides, "CYXS", ome=True, photometric="rgb")
    pictures = list(read_pictures(tmp_path / "a.ome.tif", ALL))
    assert [one.plane for one in pictures] == ["c001", "c002"]
    for one, slide in zip(pictures, slides, strict=True):
        np.testing.assert_array_equal(one.rgb, slide)


OME_PARTS = """<?xml version="1.0"?><OME UUID="urn:uuid:{own}"
 xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="20" SizeC="1"
 SizeZ="1" SizeT="2"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>
<TiffData FirstT="0" IFD="0" PlaneCount="1"><UUID FileName="0.ome.tif">urn:uuid:0</UUID></TiffData>
<TiffData FirstT="1" IFD="0" PlaneCount="1"><UUID FileName="1.ome.tif">urn:uuid:1</UUID></TiffData>
</Pixels></Image></OME>"""


def test_a_file_of_a_set_gives_its_own_planes(tmp_path):
    array = values("TYX")
    for k in range(2):
        tifffile.imwrite(tmp_path / f"{k}.ome.tif", array[k], description=OME_PARTS.format(own=k), metadata=None)
    for k in range(2):
        (one,) = read_pictures(tmp_path / f"{k}.ome.tif", ALL)
        np.testing.assert_array_equal(one.channels[..., 0], array[k])


@pytest.mark.parametrize("companion", [False, True])
def test_a_file_of_a_set_keeps_its_channels_names_and_size(tmp_path, companion):
    """Two files of two channels and three planes each, of which the set has four and three."""
    array = values("CZYX")
    parts = "".join(
        f'<TiffData FirstC="{2 * k}" FirstZ="0" IFD="0" PlaneCount="6"><UUID FileName="{k}.ome.tif">urn:uuid:{k}</UUID>'
        "</TiffData>"
        for k in range(2)
    )
    names = "".join(f'<Channel Name="{name}" SamplesPerPixel="1"/>' for name in ("DAPI", "GFP", "RFP", "Cy5"))
    whole = (
        '<OME UUID="urn:uuid:{own}" xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeC="4" SizeZ="3" SizeT="1"'
        f' PhysicalSizeX="0.5" PhysicalSizeY="0.5">{names}{parts}</Pixels></Image></OME>'
    )
    short = (
        '<OME UUID="urn:uuid:{own}" xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<BinaryOnly MetadataFile="all.companion.ome" UUID="urn:uuid:all"/></OME>'
    )
    (tmp_path / "all.companion.ome").write_text(whole.format(own="all") if companion else "")
    for k in range(2):
        text = (short if companion else whole).format(own=k)
        pages = array[2 * k : 2 * k + 2].reshape(6, 20, 30)
        tifffile.imwrite(tmp_path / f"{k}.ome.tif", pages, description=text, metadata=None, photometric="minisblack")
    for k, expected in enumerate([("DAPI", "GFP"), ("RFP", "Cy5")]):
        pictures = list(read_pictures(tmp_path / f"{k}.ome.tif", ALL))
        assert [one.plane for one in pictures] == ["z001", "z002", "z003"]
        for z, one in enumerate(pictures):
            assert (one.channel_names, one.pixel_size_um) == (expected, 0.5)
            np.testing.assert_array_equal(one.channels, np.moveaxis(array[2 * k : 2 * k + 2, z], 0, -1))


# slides


def write_slide(path, scan):
    about = "Aperio Image Library v12\r\n30x20 [0,0 30x20] (16x16) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990|Left = 1"
    with tifffile.TiffWriter(path) as writer:
        writer.write(scan, tile=(16, 16), photometric="rgb", metadata=None, description=about)
        for name, kind in (("30x20 -> 15x10 -", 0), ("label 30x30", 1), ("macro 30x20", 9)):
            small = RNG.integers(0, 256, (10 + kind, 15, 3), dtype=np.uint8)
            text = f"Aperio Image Library v12\r\n{name}"
            writer.write(small, photometric="rgb", metadata=None, description=text, subfiletype=kind)


def test_a_slide_is_what_was_scanned_and_not_its_label(tmp_path):
    scan = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    write_slide(tmp_path / "a.svs", scan)
    (one,) = read_pictures(tmp_path / "a.svs", ALL)
    np.testing.assert_array_equal(one.rgb, scan)
    assert one.pixel_size_um == 0.499
    assert one.n_planes == count_frames(tmp_path / "a.svs") == 1


# channels


def write_stained(path, kind="ome", names=("DAPI", "GFP", "mCherry", "488")):
    array = values("CYX")
    options = {"metadata": {"Channel": {"Name": list(names)}}, "ome": True}
    if kind == "imagej":
        options = {"metadata": {"Labels": list(names)}, "imagej": True}
    return array, write(path, array, "CYX", **options)


@pytest.mark.parametrize("kind", ["ome", "imagej"])
@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (None, [0, 1, 2]),
        (("GFP",), [1, 1, 1]),
        (("gfp", "dapi"), [1, 0, None]),
        (("mcherry", "GFP", "DAPI"), [2, 1, 0]),
        ((4, 1, 2), [3, 0, 1]),
        (("2", "DAPI", "2"), [1, 0, 1]),
        (("488",), [3, 3, 3]),
    ],
)
def test_channels_by_name_and_number(tmp_path, kind, channels, expected):
    array, path = write_stained(tmp_path / "a.tif", kind)
    (one,) = read_pictures(path, Reading(channels))
    assert one.channel_names == ("DAPI", "GFP", "mCherry", "488")
    for k, source in enumerate(expected):
        if source is None:
            assert not one.rgb[..., k].any()
        else:  # each channel is stretched by itself
            plane = array[source]
            np.testing.assert_allclose(one.rgb[..., k], stretched(plane, *np.percentile(plane, [0.1, 99.9])), atol=0.51)
    np.testing.assert_array_equal(one.channels, np.moveaxis(array, 0, -1))


@pytest.mark.parametrize("wanted", ["DAPl", 5, "0", 488])
def test_a_channel_that_is_not_there(tmp_path, wanted):
    _, path = write_stained(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"1 \(DAPI\), 2 \(GFP\), 3 \(mCherry\), 4 \(488\)") as error:
        next(read_pictures(path, Reading((wanted,))))
    assert str(path) in str(error.value)
    assert str(wanted) in str(error.value)


def test_two_channels_of_one_name(tmp_path):
    array, path = write_stained(tmp_path / "a.tif", names=("DAPI", "GFP", "gfp", ""))
    with pytest.raises(ImageError, match="channels 2 and 3 are both called 'GFP'"):
        next(read_pictures(path, Reading(("GFP",))))
    (one,) = read_pictures(path, Reading((3,)))
    assert one.channel_names == ("DAPI", "GFP", "gfp", "channel 4")
    np.testing.assert_array_equal(one.channels[..., 2], array[2])


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_a_colour_of_a_photograph(tmp_path, suffix):
    photograph = np.repeat(np.repeat(RNG.integers(0, 256, (3, 4, 3), dtype=np.uint8), 8, axis=0), 8, axis=1)
    Image.fromarray(photograph).save(tmp_path / f"a.{suffix}")
    (one,) = read_pictures(tmp_path / f"a.{suffix}", Reading(("Green",)))
    with Image.open(tmp_path / f"a.{suffix}") as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(one.rgb, np.repeat(expected[..., 1:2], 3, axis=2))
    np.testing.assert_array_equal(one.channels, expected)
    assert one.channel_names == ("red", "green", "blue")


@pytest.mark.parametrize("mode", ["1", "L", "I;16"])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey(tmp_path, mode, suffix):
    array = {"1": values("YX") > 9000, "L": values("YX", np.uint8), "I;16": values("YX")}[mode]
    Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    (one,) = read_pictures(tmp_path / f"a.{suffix}", Reading(("grey",)))
    assert one.channel_names == ("grey",)
    np.testing.assert_array_equal(one.channels[..., 0].astype(bool), array.astype(bool))
    if mode != "1":
        np.testing.assert_array_equal(one.channels[..., 0], array)
    np.testing.assert_array_equal(one.rgb, read_image(tmp_path / f"a.{suffix}"))


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_frames_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (9, 8), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    pictures = list(read_pictures(tmp_path / f"a.{suffix}", ALL))
    letter = "p" if suffix == "tif" else "t"
    assert [one.plane for one in pictures] == [f"{letter}00{k}" for k in (1, 2, 3)]
    for one, frame in zip(pictures, frames, strict=True):
        np.testing.assert_array_equal(one.rgb, np.asarray(frame))
        np.testing.assert_array_equal(one.channels, np.asarray(frame))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_channels_are_upright(tmp_path, orientation):
    array = values("YX")
    extra = [("Orientation", "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", array, extratags=extra, resolution=(2e4, 1e4), resolutionunit="CENTIMETER")
    (one,) = read_pictures(tmp_path / "a.tif")
    image = Image.fromarray(array.astype(np.float32))
    method = [None, *(getattr(Image.Transpose, name) for name in TURNS)][orientation - 1]
    upright = np.asarray(image if method is None else image.transpose(method))
    np.testing.assert_array_equal(one.channels[..., 0], upright)
    assert one.rgb.shape[:2] == one.channels.shape[:2] == read_size_hw(tmp_path / "a.tif")
    assert one.pixel_size_xy_um == pytest.approx((1, 0.5) if orientation > 4 else (0.5, 1))


TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")


def test_where_white_is_zero_the_values_stay(tmp_path):
    array = values("YX")
    (one,) = read_pictures(write(tmp_path / "a.tif", array, photometric="miniswhite"))
    np.testing.assert_array_equal(one.channels[..., 0], array)
    expected = 255 - stretched(array, *np.percentile(array, [0.1, 99.9]))
    np.testing.assert_allclose(one.rgb[..., 0], expected, atol=0.51)


def test_fewer_than_8_bits_fill_the_range(tmp_path):
    array = RNG.integers(0, 16, (20, 30), dtype=np.uint8)
    (one,) = read_pictures(write(tmp_path / "a.tif", array, bitspersample=4))
    np.testing.assert_array_equal(one.channels[..., 0], array)
    np.testing.assert_array_equal(one.rgb[..., 0], 17 * array)


# laziness and errors


@pytest.mark.parametrize("options", [{"compression": "zlib"}, {"truncate": True}, {"ome": True}, {"imagej": True}])
def test_a_big_stack_is_read_plane_by_plane(tmp_path, monkeypatch, options):
    monkeypatch.setattr(stretch, "MAX_SAMPLE", 100_000)
    monkeypatch.setattr(stretch, "MAX_WINDOWS", 5_000)
    peaks = []
    for n in (8, 40):
        array = np.tile(RNG.integers(0, 4000, (1, 300, 400), dtype=np.uint16), (n, 1, 1))
        path = write(tmp_path / "a.tif", array, "TYX", **options)
        tracemalloc.start()
        try:
            assert sum(1 for _ in read_pictures(path, ALL)) == n
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3 * array[0].nbytes < array.nbytes / 2


def test_only_the_channels_that_are_seen_are_decoded(tmp_path, monkeypatch):
    path = write(tmp_path / "a.ome.tif", values("ZCYX", np.uint8), "ZCYX", ome=True, compression="zlib")
    decoded = []
    original = tifffile.TiffPage.asarray
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda self, **k: decoded.append(1) or original(self, **k))
    read_image(path)
    assert len(decoded) == 3
    pictures = read_pictures(path, ALL)
    next(pictures)
    assert len(decoded) == 3 + 4
    pictures.close()


@pytest.mark.parametrize(
    "wrong",
    [{"channels": ()}, {"channels": (1, 2, 3, 4)}, {"channels": (0,)}, {"channels": ("",)}, {"channels": "DAPI"}],
)
def test_readings_that_make_no_sense(wrong):
    with pytest.raises(ArgumentError, match="channels: expected one to three"):
        Reading(**wrong)
    with pytest.raises(ArgumentError, match="planes"):
        Reading(planes="z")


def test_a_stack_cut_short(tmp_path):
    path = write(tmp_path / "a.tif", values("ZYX", np.uint8), "ZYX", compression="zlib")
    with tifffile.TiffFile(path) as whole:
        last = whole.pages[-1].dataoffsets[0]
    path.write_bytes(path.read_bytes()[: last + 10])
    with pytest.raises(ImageError, match=str(path)):
        list(read_pictures(path, ALL))


def test_too_many_channels_are_refused_before_decoding(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", RNG.integers(0, 9, (9, 20, 30), dtype=np.uint8), "CYX", ome=True)
    monkeypatch.setenv("HALFPIXEL_MAX_PIXELS", "600")
    with pytest.raises(ImageError, match=r"plane.*5400 values"):
        next(read_pictures(path))
    assert read_image(path).shape == (20, 30, 3)
