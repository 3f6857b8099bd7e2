"""Where the pixels of GeoTIFFs lie, by numbers that rasterio gives, and by those of the standard."""

import numpy as np
import pytest
import tifffile

from halfpixel.data.images.raster.georeference import Georeference
from halfpixel.data.images.raster.opening import open_raster

PROJECTED, GEOGRAPHIC, RASTER_TYPE, MODEL_TYPE = 3072, 2048, 1025, 1024


def write(path, keys=(), scale=None, point=None, matrix=None, orientation=1):
    directory = [1, 1, 0, len(keys), *(number for key, value in keys for number in (key, 0, 1, value))]
    tags = [(34735, "H", len(directory), directory, True), (274, "H", 1, orientation, True)]
    for code, values in ((33550, scale), (33922, point), (34264, matrix)):
        if values is not None:
            tags.append((code, "d", len(values), values, True))
    tifffile.imwrite(path, np.zeros((20, 30), np.uint8), photometric="minisblack", extratags=tags, metadata=None)
    with open_raster(path) as raster:
        return raster.georeference


def test_a_scale_and_a_point(tmp_path):
    keys = [(MODEL_TYPE, 1), (RASTER_TYPE, 1), (PROJECTED, 32617)]
    found = write(tmp_path / "a.tif", keys, (0.5, 0.25, 0), (0, 0, 0, 400_000, 3_000_000, 0))
    assert found == Georeference("EPSG:32617", (0.5, 0, 400_000, 0, -0.25, 3_000_000))
    found = write(tmp_path / "a.tif", keys, (0.5, 0.25, 0), (10, 4, 0, 400_000, 3_000_000, 0))
    assert found == Georeference("EPSG:32617", (0.5, 0, 399_995, 0, -0.25, 3_000_001))


def test_points_of_pixels_are_their_centres(tmp_path):
    keys = [(MODEL_TYPE, 2), (RASTER_TYPE, 2), (GEOGRAPHIC, 4326)]
    found = write(tmp_path / "a.tif", keys, (0.5, 0.25, 0), (0, 0, 0, 7, 47, 0))
    assert found == Georeference("EPSG:4326", (0.5, 0, 6.75, 0, -0.25, 47.125))


def test_a_matrix(tmp_path):
    matrix = (0.4, 0.3, 0, 100, 0.3, -0.4, 0, 200, 0, 0, 0, 0, 0, 0, 0, 1)
    assert write(tmp_path / "a.tif", [(PROJECTED, 32767)], matrix=matrix) == Georeference(
        None, (0.4, 0.3, 100, 0.3, -0.4, 200)
    )


def test_where_there_is_none(tmp_path):
    assert write(tmp_path / "a.tif", [(PROJECTED, 32617)]) is None
    points = (0, 0, 0, 1, 2, 0, 9, 9, 0, 5, 6, 0)
    assert write(tmp_path / "a.tif", [(PROJECTED, 32617)], (1, 1, 0), points) is None
    keys = [(RASTER_TYPE, 1), (PROJECTED, 32617)]
    assert write(tmp_path / "a.tif", keys, (1, 1, 0), (0, 0, 0, 1, 2, 0), orientation=3) is None
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((20, 30), np.uint8), photometric="minisblack")
    with open_raster(tmp_path / "b.tif") as raster:
        assert raster.georeference is None


def test_a_map_is_black_beyond_its_edges(tmp_path):
    tags = [(34735, "H", 8, (1, 1, 0, 1, PROJECTED, 0, 1, 32617), True), (33550, "d", 3, (1, 1, 0), True)]
    tags.append((33922, "d", 6, (0, 0, 0, 1, 2, 0), True))
    image = np.full((20, 30, 3), 99, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", extratags=tags, metadata=None)
    with open_raster(tmp_path / "a.tif") as raster:
        assert raster.read((-1, 0, 1, 1)).tolist() == [[[0] * 3, [99] * 3]]


@pytest.mark.parametrize("is_point", [False, True])
def test_as_rasterio_has_it(tmp_path, is_point):
    rasterio = pytest.importorskip("rasterio")
    affine = rasterio.Affine(0.4, 0.1, 400_000, 0.1, -0.4, 3_000_000)
    options = {"driver": "GTiff", "height": 20, "width": 30, "count": 3, "dtype": "uint8", "crs": "EPSG:32617"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=affine, **options) as file:
        file.write(np.zeros((3, 20, 30), np.uint8))
        if is_point:
            file.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(tmp_path / "a.tif") as file, open_raster(tmp_path / "a.tif") as raster:
        assert raster.georeference is not None
        assert raster.georeference.crs == file.crs.to_string()
        assert raster.georeference.affine == pytest.approx(tuple(file.transform)[:6], abs=1e-9)
