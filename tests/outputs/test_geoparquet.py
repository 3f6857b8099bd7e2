"""Objects as GeoParquet, as other programs read it."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import shapely
from masked import boxed, disc, masked, ring_and_pieces, with_masks

from halfpixel.errors import ArgumentError
from halfpixel.measure.object_table import measure_objects
from halfpixel.outputs.geoparquet import write_geoparquet
from halfpixel.structures.masks import CropMasks

SIZE_HW = (40, 50)
MASKS = (disc(6, (12, 14)), ring_and_pieces(), np.zeros(SIZE_HW, dtype=bool), disc(8, (48, 38)))
OBJECTS = masked(*MASKS, names=("cell", "größe"), labels=[1, 0, 0, 1])


def shapes(table: pyarrow.Table) -> list[shapely.Geometry]:
    return list(shapely.from_wkb(table["geometry"].to_pylist(), on_invalid="raise"))


def test_filling_the_outlines_gives_the_masks_back(tmp_path: Path) -> None:
    assert write_geoparquet(tmp_path / "a.parquet", OBJECTS) == 3
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table["object"].to_pylist() == [1, 2, 4]
    assert table["class"].to_pylist() == ["größe", "cell", "größe"]
    assert table["score"].to_pylist() == pytest.approx(OBJECTS.scores[[0, 1, 3]].tolist())
    y, x = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]] + 0.5
    found = shapes(table)
    assert [one.geom_type for one in found] == ["Polygon", "MultiPolygon", "Polygon"]
    for shape, mask in zip(found, (MASKS[0], MASKS[1], MASKS[3]), strict=True):
        assert shape.is_valid
        assert np.array_equal(shapely.contains_xy(shape, x, y), mask)


def test_the_file_says_what_the_standard_wants(tmp_path: Path) -> None:
    """GeoParquet 1.1: version, geometry types, orientation, bounds of each row and of all."""
    write_geoparquet(tmp_path / "a.parquet", OBJECTS)
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    about = json.loads(table.schema.metadata[b"geo"])
    assert (about["version"], about["primary_column"]) == ("1.1.0", "geometry")
    column = about["columns"]["geometry"]
    assert (column["encoding"], column["crs"], column["edges"]) == ("WKB", None, "planar")
    found = shapes(table)
    assert set(column["geometry_types"]) == {one.geom_type for one in found}
    assert column["orientation"] == "counterclockwise"
    for shape in found:
        for part in shapely.get_parts(shape):
            assert shapely.is_ccw(part.exterior)
            assert not any(shapely.is_ccw(ring) for ring in part.interiors)
    corners = column["covering"]["bbox"]
    rows = table["bbox"].to_pylist()
    for k, corner in enumerate(("xmin", "ymin", "xmax", "ymax")):
        assert corners[corner] == ["bbox", corner]
        assert [row[corner] for row in rows] == [shape.bounds[k] for shape in found]
    assert column["bbox"] == list(shapely.total_bounds(found))


def test_measurements_are_columns(tmp_path: Path) -> None:
    measured = measure_objects(OBJECTS, pixel_size_um=0.5)
    assert write_geoparquet(tmp_path / "a.parquet", OBJECTS, measured) == 3
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == [*measured.columns, "geometry", "bbox"]
    assert table["area_um2"].to_pylist() == [measured.columns["area_um2"][k] for k in (0, 1, 3)]
    with pytest.raises(ArgumentError, match="1 rows of measurements for 4 objects"):
        write_geoparquet(tmp_path / "b.parquet", OBJECTS, measure_objects(OBJECTS[0]))


def test_boxes_are_rectangles(tmp_path: Path) -> None:
    assert write_geoparquet(tmp_path / "a.parquet", boxed((1.1, 2.25, 10, 20))) == 1
    (shape,) = shapes(pyarrow.parquet.read_table(tmp_path / "a.parquet"))
    assert shape.equals(shapely.box(1.1, 2.25, 10, 20))


def test_no_objects_make_an_empty_table(tmp_path: Path) -> None:
    assert write_geoparquet(tmp_path / "a.parquet", with_masks(CropMasks.empty(SIZE_HW))) == 0
    table = pyarrow.parquet.read_table(tmp_path / "a.parquet")
    assert (len(table), table.column_names) == (0, ["object", "class", "score", "geometry", "bbox"])
    measured = measure_objects(with_masks(CropMasks.empty(SIZE_HW)))
    write_geoparquet(tmp_path / "b.parquet", with_masks(CropMasks.empty(SIZE_HW)), measured)
    assert pyarrow.parquet.read_schema(tmp_path / "b.parquet").names == [*measured.columns, "geometry", "bbox"]
    assert "bbox" not in json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]
