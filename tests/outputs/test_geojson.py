import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from masked import boxed, disc, masked, ring_and_pieces, with_masks
from matplotlib.path import Path as Outline

from halfpixel.errors import ArgumentError
from halfpixel.measure.object_table import measure_objects
from halfpixel.outputs.geojson import write_geojson
from halfpixel.structures.masks import CropMasks

SIZE_HW = (40, 50)
MASKS = (disc(6, (12, 14)), ring_and_pieces(), np.zeros(SIZE_HW, dtype=bool), disc(8, (48, 38)))
OBJECTS = masked(*MASKS, names=("cell", "größe"), labels=[1, 0, 0, 1])


def read(path: Path) -> list[dict]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert content["type"] == "FeatureCollection"
    return content["features"]


def polygons(feature: dict) -> list:
    geometry = feature["geometry"]
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    return [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]


def filled(feature: dict) -> np.ndarray:
    """The pixels whose centres are inside, by matplotlib."""
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], 1)
    mask = np.zeros(SIZE_HW, dtype=bool)
    for outer, *holes in polygons(feature):
        inside = Outline(outer).contains_points(centres)
        for hole in holes:
            inside &= ~Outline(hole).contains_points(centres)
        mask |= inside.reshape(SIZE_HW)
    return mask


def test_filling_the_outlines_gives_the_masks_back(tmp_path: Path) -> None:
    assert write_geojson(tmp_path / "a.geojson", OBJECTS) == 3
    features = read(tmp_path / "a.geojson")
    assert [feature["properties"]["name"] for feature in features] == ["1", "2", "4"]
    for feature, mask in zip(features, [MASKS[0], MASKS[1], MASKS[3]], strict=True):
        assert np.array_equal(filled(feature), mask)
    assert [feature["geometry"]["type"] for feature in features] == ["Polygon", "MultiPolygon", "Polygon"]
    assert sorted(len(rings) for rings in polygons(features[1])) == [1, 1, 1, 1, 2]


def test_rings_are_closed_and_turn_as_the_standard_says(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", OBJECTS)
    for feature in read(tmp_path / "a.geojson"):
        for rings in polygons(feature):
            for k, ring in enumerate(rings):
                assert len(ring) >= 4
                assert ring[0] == ring[-1]
                x, y = np.array(ring).T
                twice_area = np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])
                assert twice_area > 0 if k == 0 else twice_area < 0


def test_shapely_finds_the_geometry_valid(tmp_path: Path) -> None:
    geometry = pytest.importorskip("shapely.geometry")
    write_geojson(tmp_path / "a.geojson", OBJECTS)
    for feature in read(tmp_path / "a.geojson"):
        assert geometry.shape(feature["geometry"]).is_valid


def test_properties_are_those_of_qupath(tmp_path: Path) -> None:
    channels = np.ones((*SIZE_HW, 1), dtype=np.uint8)
    channels[20, 20] = 7
    table = measure_objects(OBJECTS, channels=channels, channel_names=["DAPI"], pixel_size_um=0.5)
    write_geojson(tmp_path / "a.geojson", OBJECTS, table)
    features = read(tmp_path / "a.geojson")
    first = features[0]["properties"]
    assert features[0]["type"] == "Feature"
    assert first["objectType"] == "detection"
    assert first["classification"]["name"] == "größe"
    assert (
        first["classification"]
        == features[2]["properties"]["classification"]
        != features[1]["properties"]["classification"]
    )
    assert len(first["classification"]["color"]) == 3
    numbers = first["measurements"]
    assert numbers["score"] == 0.9
    assert numbers["area_um2"] == table.columns["area_um2"][0]
    assert numbers["intensity_mean_DAPI"] == 1
    assert numbers["touches_border"] == 0
    assert features[2]["properties"]["measurements"]["touches_border"] == 1
    assert all(isinstance(value, int | float) for value in numbers.values())
    assert "area_low_px" not in numbers  # it is NaN
    assert not {"object", "class", "left_px"} & set(numbers)


def test_compressed_it_is_the_same(tmp_path: Path) -> None:
    write_geojson(tmp_path / "a.geojson", OBJECTS)
    write_geojson(tmp_path / "b.geojson.gz", OBJECTS)
    packed = (tmp_path / "b.geojson.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.geojson").read_bytes()
    write_geojson(tmp_path / "c.geojson.gz", OBJECTS)
    assert (tmp_path / "c.geojson.gz").read_bytes() == packed


def test_boxes_are_rectangles(tmp_path: Path) -> None:
    assert write_geojson(tmp_path / "a.geojson", boxed((1.1, 2.25, 10, 20))) == 1
    (feature,) = read(tmp_path / "a.geojson")
    assert feature["geometry"]["coordinates"] == [[[1.1, 2.25], [10, 2.25], [10, 20], [1.1, 20], [1.1, 2.25]]]


def test_no_objects_make_an_empty_collection(tmp_path: Path) -> None:
    assert write_geojson(tmp_path / "a.geojson", with_masks(CropMasks.empty(SIZE_HW))) == 0
    assert read(tmp_path / "a.geojson") == []


def test_a_failure_leaves_the_file_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.geojson"
    path.write_text("before")
    with pytest.raises(ArgumentError, match="1 rows of measurements for 4 objects"):
        write_geojson(path, OBJECTS, measure_objects(OBJECTS[0]))
    calls = []

    def fail(part: object, **options: object) -> str:
        calls.append(part)
        if len(calls) == 3:
            raise OSError("no room")
        return "{}"

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(OSError, match="no room"):
        write_geojson(path, OBJECTS)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]
