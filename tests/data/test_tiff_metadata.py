import pytest
from PIL import Image
from stacks import ALL, values, write

from halfpixel.data.images.picture import read_pictures


def test_imagej_labels_of_a_whole_stack(tmp_path):
    labels = [f"{name}\nplane {z}" for z in range(3) for name in ("DAPI", "GFP", "RFP", "Cy5")]
    path = write(tmp_path / "a.tif", values("ZCYX"), "ZCYX", imagej=True, metadata={"Labels": labels})
    assert next(read_pictures(path)).channel_names == ("DAPI plane 0", "GFP plane 0", "RFP plane 0", "Cy5 plane 0")
    path = write(tmp_path / "b.tif", values("CYX"), "CYX", imagej=True, metadata={"Labels": ["b.tif"] * 4})
    assert next(read_pictures(path)).channel_names == tuple(f"channel {k}" for k in range(1, 5))


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}, 0.25),
        ({"PhysicalSizeX": 250, "PhysicalSizeY": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "nm"}, 0.25),
        ({"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeXUnit": "mm", "PhysicalSizeYUnit": "mm"}, 100),
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "μm"}, 0.5),
        ({"PhysicalSizeX": 2, "PhysicalSizeY": 2, "PhysicalSizeXUnit": "pixel", "PhysicalSizeYUnit": "pixel"}, None),
        ({"PhysicalSizeX": 0.25}, None),
        ({}, None),
    ],
)
def test_pixel_size_by_ome(tmp_path, metadata, expected):
    path = write(tmp_path / "a.ome.tif", values("ZYX"), "ZYX", ome=True, metadata=metadata)
    for one in read_pictures(path, ALL):
        assert one.pixel_size_um == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("um", 4, 0.25),
        ("micron", 4, 0.25),
        ("\\u00B5m", 4, 0.25),
        ("micrometers", 4, 0.25),
        ("micrometre", 4, 0.25),
        ("Micrometres", 4, 0.25),
        ("nanometres", 0.004, 0.25),
        ("inches", 101_600, 0.25),
        ("nm", 0.004, 0.25),
        ("mm", 10, 100),
        ("inch", 300, None),
        ("cm", 40_000, 0.25),
        ("pixel", 1, None),
        (None, 4, None),
    ],
)
def test_pixel_size_by_imagej(tmp_path, unit, per_unit, expected):
    metadata = {} if unit is None else {"unit": unit}
    path = write(
        tmp_path / "a.tif", values("ZYX"), "ZYX", imagej=True, metadata=metadata, resolution=(per_unit, per_unit)
    )
    assert next(read_pictures(path)).pixel_size_um == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("CENTIMETER", 20_000, 0.5),
        ("INCH", 50_800, 0.5),
        ("INCH", 72, None),
        ("INCH", 96, None),
        ("INCH", 300, None),
        ("CENTIMETER", 1e6, None),
        ("NONE", 20_000, None),
    ],
)
def test_pixel_size_by_tiff_resolution(tmp_path, unit, per_unit, expected):
    path = write(tmp_path / "a.tif", values("YX"), resolution=(per_unit, per_unit), resolutionunit=unit)
    (one,) = read_pictures(path)
    assert one.pixel_size_um == (expected and pytest.approx(expected))
    assert one.has_square_pixels


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_print_sizes_do_not_count(tmp_path, suffix):
    Image.new("L", (30, 20)).save(tmp_path / f"a.{suffix}", dpi=(50_800, 50_800))
    (one,) = read_pictures(tmp_path / f"a.{suffix}")
    assert one.pixel_size_um is None
    assert one.has_square_pixels


def test_pixels_that_are_not_square(tmp_path):
    for width, height, expected in ((0.5, 0.504, 0.502), (0.5, 0.51, None)):
        metadata = {"PhysicalSizeX": width, "PhysicalSizeY": height}
        (one,) = read_pictures(write(tmp_path / "a.ome.tif", values("YX"), "YX", ome=True, metadata=metadata))
        assert one.pixel_size_um == (expected and pytest.approx(expected, rel=1e-4))
        assert one.pixel_size_xy_um == (width, height)
        assert one.has_square_pixels == (expected is not None)
