"""What `predict` writes for other programs, and what it makes of microscope files."""

import csv
import gzip
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import tifffile
from calling import Halfpixel
from skimage.draw import polygon2mask

from halfpixel.data.images.rgb8 import read_image

Noise = Callable[..., Path]


RGB = ["Red", "Green", "Blue"]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_ome(path: Path, planes: int = 1) -> np.ndarray:
    """Two named channels of 16 bits, half a micrometre a pixel."""
    values = np.random.default_rng(5).integers(200, 9000, (planes, 2, 40, 48), dtype=np.uint16)
    facts = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "actin"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, values, ome=True, metadata=facts)
    return values


def test_all_kinds_agree(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    image, out = noise(tmp_path / "cells.png"), tmp_path / "out"
    arguments = ("predict", image, "--model", tiny_model, "--limit", 5, "--out")
    ran = halfpixel(*arguments, out, "--save", "table,labels,geojson,geoparquet,blurred,cutouts")
    assert ran.code == 0
    rows = rows_of(out / "objects.csv")
    features = json.loads((out / "geojson" / "cells.geojson").read_text())["features"]
    polygons = pyarrow.parquet.read_table(out / "geoparquet" / "cells.parquet")
    assert polygons["area_px"].to_pylist() == [float(row["area_px"]) for row in rows]
    labels = tifffile.imread(out / "labels" / "cells.tif")
    assert len(rows) == len(features) == len(list((out / "cutouts" / "cells").iterdir())) > 1
    assert labels.dtype == np.uint32
    covered = np.zeros(labels.shape, dtype=np.bool_)
    for row, feature in zip(rows, features, strict=True):
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["classification"]["name"] == row["class"]
        assert feature["properties"]["measurements"]["area_px"] == float(row["area_px"])
        parts = feature["geometry"]["coordinates"]
        mask = np.zeros(labels.shape, dtype=np.bool_)
        for part in parts if feature["geometry"]["type"] == "MultiPolygon" else [parts]:
            for ring in part:  # pixel centres at whole numbers for polygon2mask, and rows first
                mask ^= polygon2mask(labels.shape, np.array(ring)[:, ::-1] - 0.5)
        assert mask.sum() == int(row["area_px"])
        covered |= mask
    np.testing.assert_array_equal(labels > 0, covered)
    before, after = read_image(image), read_image(out / "blurred" / "cells.png")
    assert (before[covered] != after[covered]).mean() > 0.9

    assert halfpixel(*arguments, tmp_path / "zipped", "--save", "geojson", "--gzip").code == 0
    zipped = gzip.decompress((tmp_path / "zipped" / "geojson" / "cells.geojson.gz").read_bytes())
    assert [one["geometry"] for one in json.loads(zipped)["features"]] == [one["geometry"] for one in features]


def test_a_microscope_file(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    """Every channel is measured in the file's own values, whichever the network looks at."""
    values = write_ome(tmp_path / "cells.ome.tif", planes=2)
    photograph = noise(tmp_path / "photograph.png")
    out = tmp_path / "out"
    arguments = ("predict", tmp_path / "cells.ome.tif", photograph, "--model", tiny_model, "--out")
    what = ("--save", "coco,table,labels", "--planes", "all", "--channels", "1")
    ran = halfpixel(*arguments, out, *what)
    assert (ran.code, ran.err) == (0, "")
    content = json.loads((out / "instances.json").read_text())
    names = [f"cells.ome.tif#z00{k}" for k in (1, 2)]
    assert [image["file_name"] for image in content["images"]] == [*names, "photograph.png"]
    rows = rows_of(out / "objects.csv")
    for k, name in enumerate(names):
        labels = tifffile.imread(out / "labels" / f"cells.ome_z00{k + 1}.tif")
        (first, *_) = mine = [row for row in rows if row["image"] == name]
        assert len(mine) == sum(one["image_id"] == k + 1 for one in content["annotations"]) > 0
        for c, channel in enumerate(("DAPI", "actin")):
            inside = values[k, c][labels == 1]  # the first object lies on top
            assert float(first[f"intensity_mean_{channel}"]) == pytest.approx(inside.mean())
            assert float(first[f"intensity_max_{channel}"]) == inside.max()
        assert float(first["area_um2"]) == pytest.approx(int(first["area_px"]) / 4)
        assert first["intensity_mean_red"] == ""
    other = next(row for row in rows if row["image"] == "photograph.png")
    assert (other["area_um2"], other["intensity_mean_DAPI"]) == ("", "")
    assert float(other["intensity_mean_red"]) > 0
    with tifffile.TiffFile(out / "labels" / "cells.ome_z001.tif") as tiff:
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(20_000)  # pixels per centimetre

    again = halfpixel(*arguments, tmp_path / "actin", *what[:-1], "actin")
    assert again.code == 1
    assert "photograph.png: no channel is called 'actin'; the file has 1 (red), 2 (green), 3 (blue)" in again.err
    assert rows_of(tmp_path / "actin" / "objects.csv") != rows[: len(rows)]


def test_the_pixel_size(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    write_ome(tmp_path / "cells.ome.tif")
    arguments = ("predict", tmp_path / "cells.ome.tif", "--model", tiny_model, "--save", "table", "--out")
    ran = halfpixel(*arguments, tmp_path / "given", "--pixel-size-um", 0.25)
    assert ran.code == 0
    assert "halfpixel: warning: 1 image (" in ran.err
    assert "0.25 micrometres, is used; the file's metadata say 0.5" in ran.err
    row = rows_of(tmp_path / "given" / "objects.csv")[0]
    assert float(row["perimeter_um"]) == pytest.approx(float(row["perimeter_px"]) / 4)
    for given in ("250", "0.01", "-1", "nan"):
        ran = halfpixel(*arguments, tmp_path / "wrong", "--pixel-size-um", given)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "wrong").exists()
    assert halfpixel(*arguments, tmp_path / "forced", "--pixel-size-um", 250, "--force").code == 0

    oblong = tmp_path / "oblong.tif"
    tifffile.imwrite(oblong, np.zeros((9, 9), np.uint8), resolution=(1e4, 2e4), resolutionunit="CENTIMETER")
    ran = halfpixel("predict", oblong, "--model", tiny_model, "--save", "table", "--out", tmp_path / "oblong")
    assert "pixels of 1 x 0.5 micrometres are not square: measured in pixels only" in ran.err


def test_a_stack_of_which_only_the_first_plane_is_read(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path) -> None:
    write_ome(tmp_path / "cells.ome.tif", planes=3)
    ran = halfpixel("count", tmp_path / "cells.ome.tif", "--model", tiny_model)
    assert "only the first frame was read of 1 file with several" in ran.err
    assert "cells.ome.tif: 3); --planes all takes each as an image of its own\n" in ran.err
    assert "#" not in ran.out


def test_channels_that_are_no_colours(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    """Only where nobody chose, and each file once."""
    stack, many = tmp_path / "two.ome.tif", tmp_path / "many.tif"
    write_ome(stack, planes=2)
    pixels = np.random.default_rng(2).integers(0, 9000, (5, 40, 48), dtype=np.uint16)
    tifffile.imwrite(many, pixels, imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "grey.tif", pixels[0])
    tifffile.imwrite(tmp_path / "named.tif", pixels[:3], ome=True, metadata={"axes": "CYX", "Channel": {"Name": RGB}})
    rest = (noise(tmp_path / "rgb.png"), tmp_path / "grey.tif", tmp_path / "named.tif")
    arguments = ("count", "--model", tiny_model, "--planes", "all")
    assert halfpixel(*arguments, *rest).err == ""
    assert halfpixel(*arguments, *rest, stack, many, "--channels", "1").err == ""
    ran = halfpixel(*arguments, *rest, stack, many)
    assert ran.code == 0
    assert ran.err == (
        f"halfpixel: warning: 2 files have several channels ({stack}: DAPI, actin, {many}: channel 1, channel 2, "
        "channel 3 without 2 more), taken as red, green and blue; choose with --channels\n"
    )


def test_force_is_for_a_given_size(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path) -> None:
    """The file's own size, if it is an unlikely one, has to be given to be used."""
    image = tmp_path / "overview.ome.tif"
    facts = {"axes": "YX", "PhysicalSizeX": 50.0, "PhysicalSizeY": 50.0}
    tifffile.imwrite(image, np.zeros((40, 48), np.uint8), ome=True, metadata=facts)
    arguments = ("predict", image, "--model", tiny_model, "--save", "table", "--out", tmp_path / "out")
    ran = halfpixel(*arguments, "--force")
    assert (ran.code, ran.out, ran.err) == (2, "", "halfpixel: error: --force is for --pixel-size-um only\n")
    ran = halfpixel(*arguments)
    assert ran.code == 2
    assert f"{image}: the file's pixel size, 50 micrometres, is outside of 0.02 to 20; give the right one" in ran.err
    assert halfpixel(*arguments, "--pixel-size-um", 50, "--force").code == 0


def test_only_chosen_classes_are_blurred(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    arguments = ("predict", noise(tmp_path / "a.png"), "--model", tiny_model, "--out", tmp_path / "out", "--save")
    for options, message in (
        (("blurred", "--classes", "person"), "--classes: the model knows no 'person'; its classes are nucleus"),
        (("blurred", "--classes", ","), "--classes: it is empty"),
        (("coco", "--classes", "nucleus"), "--classes is for --save blurred only"),
        (("coco", "--gzip"), "--gzip is for --save geojson only"),
    ):
        ran = halfpixel(*arguments, *options)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert message in ran.err
    assert halfpixel(*arguments, "blurred", "--classes", "nucleus").code == 0


@pytest.mark.parametrize(
    ("kind", "module", "extra"), [("parquet", "pyarrow", "parquet"), ("rois", "roifile", "imagej")]
)
def test_a_missing_library_is_told_at_once(
    halfpixel: Halfpixel,
    noise: Noise,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    module: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    ran = halfpixel("predict", noise(tmp_path / "a.png"), "--save", f"coco,{kind}", "--out", tmp_path / "out")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == f'halfpixel: error: {module} is not installed: pip install "halfpixel[{extra}]"\n'


def test_parquet(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, noise: Noise) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_ome(tmp_path / "in.ome.tif")
    images = (tmp_path / "in.ome.tif", noise(tmp_path / "other.png"))
    ran = halfpixel("predict", *images, "--model", tiny_model, "--save", "table,parquet", "--out", tmp_path / "out")
    assert ran.code == 0
    rows = rows_of(tmp_path / "out" / "objects.csv")
    columns = parquet.read_table(tmp_path / "out" / "objects.parquet").to_pydict()
    assert list(columns) == list(rows[0])
    for name in ("area_px", "area_um2", "intensity_mean_red"):
        for row, value in zip(rows, columns[name], strict=True):
            assert (value is None and row[name] == "") or math.isclose(float(row[name]), value, rel_tol=1e-6)


def test_sizes_are_percentiles_of_the_table(
    halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, noise: Noise
) -> None:
    noise(tmp_path / "in" / "one.png", (60, 70))
    noise(tmp_path / "in" / "two.png", (80, 50), seed=1)
    out = tmp_path / "out"
    ran = halfpixel("predict", tmp_path / "in", "--model", tiny_model, "--save", "table,sizes", "--out", out)
    assert ran.code == 0
    assert "D16, D50, D84" in " ".join(ran.out.split())
    inside = [row for row in rows_of(out / "objects.csv") if row["touches_border"] == "false"]
    sizes = {(row["image"], row["class"]): row for row in rows_of(out / "sizes.csv")}
    assert {image for image, _ in sizes} == {"one.png", "two.png", "(all images)"}
    for (image, name), row in sizes.items():
        diameters = [
            float(one["equivalent_diameter_px"])
            for one in inside
            if one["class"] == name and image in (one["image"], "(all images)")
        ]
        assert int(row["objects"]) == len(diameters)
        if diameters:
            assert float(row["D84_px"]) == pytest.approx(np.percentile(diameters, 84))


def test_imagej_rois(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, noise: Noise) -> None:
    roifile = pytest.importorskip("roifile")
    out = tmp_path / "out"
    image = noise(tmp_path / "a.png")
    assert halfpixel("predict", image, "--model", tiny_model, "--save", "table,rois", "--out", out).code == 0
    names = [roi.name for roi in roifile.roiread(out / "rois" / "a.zip")]
    numbers = [int(row["object"]) for row in rows_of(out / "objects.csv") if row["area_px"] not in ("", "0")]
    assert names == [f"{number:04d}" for number in numbers]


def test_nothing_found_leaves_no_regions(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, noise: Noise) -> None:
    pytest.importorskip("roifile")
    out = tmp_path / "out"
    arguments = ("predict", noise(tmp_path / "a.png"), "--model", tiny_model, "--save", "table,rois,cutouts,labels")
    ran = halfpixel(*arguments, "--threshold", 0.99, "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert not list(out.rglob("*.zip"))
    assert "regions for ImageJ and Fiji, 0 ZIP files, nothing to write" in ran.out
    assert "one picture per object, 0 pictures, nothing to write" in ran.out
    assert "1 label image\n" in ran.out
    assert (out / "objects.csv").read_text().startswith("image,object,class,score,")
