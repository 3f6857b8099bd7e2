"""Objects as GeoParquet (OGC GeoParquet 1.1): a table with a column of outlines, small and quick for many objects."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from halfpixel.errors import ArgumentError
from halfpixel.files import write_whole
from halfpixel.measure.table import Table
from halfpixel.optional import load_extra
from halfpixel.outputs.image_result import ImageResult
from halfpixel.outputs.outlines import Polygons, closed_outlines

if TYPE_CHECKING:
    from halfpixel.structures.instances import Instances
    from halfpixel.structures.masks import Ring

GEOMETRY, BOX, CORNERS = "geometry", "bbox", ("xmin", "ymin", "xmax", "ymax")
LITTLE_ENDIAN, POLYGON, MULTI_POLYGON = 1, 3, 6
"""Of well-known binary (OGC 06-103r4, section 8.2)."""


def write_geoparquet(path: Path, objects: Instances, measurements: Table | None = None) -> int:
    """Write each object as a row: its outline, what bounds it, its class, score and measurements.

    Coordinates are pixels, (0, 0) the outer corner of the first one, y downwards, in no coordinate reference system.
    Readers that are asked for a region find its objects by the column `bbox`.

    Args:
        path: the file; its folder must exist.
        objects: on one image. Those with an empty mask have no outline and are left out.
        measurements: of `measure_objects`, a row for each object. Default: number, class and score alone.

    Returns:
        How many objects were written.

    Raises:
        ArgumentError: measurements of another number of objects.
        MissingDependencyError: pyarrow is not installed (the extra `parquet`).
    """
    if measurements is not None and len(measurements) != len(objects):
        raise ArgumentError(f"{len(measurements)} rows of measurements for {len(objects)} objects")
    arrow, parquet = (load_extra(name, "halfpixel[parquet]") for name in ("pyarrow", "pyarrow.parquet"))
    table = (_plain_table(objects) if measurements is None else measurements).to_arrow()
    outlines = list(closed_outlines(objects))
    kept = np.flatnonzero([bool(parts) for parts in outlines])
    shapes = [outlines[k] for k in kept]
    bounds = np.array([_bounds(parts) for parts in shapes], dtype=np.float64).reshape(-1, 4)
    table = table.take(kept)
    table = table.append_column(GEOMETRY, arrow.array([_binary(parts) for parts in shapes], arrow.binary()))
    corners = [arrow.array(side) for side in bounds.T]
    table = table.append_column(BOX, arrow.StructArray.from_arrays(corners, list(CORNERS)))
    about = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: _about(bounds)}}
    table = table.replace_schema_metadata({"geo": json.dumps(about)})
    file = io.BytesIO()
    parquet.write_table(table, file, compression="zstd")
    write_whole(path, file.getvalue())
    return len(shapes)


def write_polygons(out: Path, stem: str, result: ImageResult) -> None:
    """Write one image's objects with their measurements."""
    path = out / f"{stem}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_geoparquet(path, result.objects, result.table)


def _plain_table(objects: Instances) -> Table:
    return Table(
        {
            "object": np.arange(1, len(objects) + 1),
            "class": [objects.class_names[int(label)] for label in objects.labels],
            "score": objects.scores.double().numpy(),
        }
    )


def _about(bounds: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """What the file says of its column of outlines."""
    about: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon", "MultiPolygon"],
        "crs": None,
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {BOX: {corner: [BOX, corner] for corner in CORNERS}},
    }
    if len(bounds):
        about["bbox"] = [*bounds[:, :2].min(0).tolist(), *bounds[:, 2:].max(0).tolist()]
    return about


def _bounds(parts: Polygons) -> Sequence[float]:
    points = np.concatenate([part[0] for part in parts])
    return [*points.min(0), *points.max(0)]


def _binary(parts: Polygons) -> bytes:
    """An object's outline as well-known binary."""
    polygons = [_polygon(part) for part in parts]
    if len(polygons) == 1:
        return polygons[0]
    return struct.pack("<BII", LITTLE_ENDIAN, MULTI_POLYGON, len(polygons)) + b"".join(polygons)


def _polygon(rings: Sequence[Ring]) -> bytes:
    points = (struct.pack("<I", len(ring)) + np.ascontiguousarray(ring, dtype="<f8").tobytes() for ring in rings)
    return struct.pack("<BII", LITTLE_ENDIAN, POLYGON, len(rings)) + b"".join(points)
