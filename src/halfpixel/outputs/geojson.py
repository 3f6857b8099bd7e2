"""Objects as GeoJSON (RFC 7946), of the kind that QuPath reads and writes."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from halfpixel.errors import ArgumentError
from halfpixel.files import open_whole
from halfpixel.measure.table import Table
from halfpixel.outputs.image_result import ImageResult
from halfpixel.outputs.outlines import closed_outlines

if TYPE_CHECKING:
    from halfpixel.structures.instances import Instances

COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233))
"""Red, green and blue of the classes in turn: Okabe and Ito's colours, which colour-blind people tell apart."""

NOT_MEASURED = ("object", "score", "left_px", "top_px", "right_px", "bottom_px")


def write_geojson(path: Path, objects: Instances, measurements: Table | None = None) -> int:
    """Write each object as a detection with its outline, class, score and measurements.

    Coordinates are pixels, (0, 0) the outer corner of the first one, as in QuPath. An object of several pieces is a
    MultiPolygon, holes stay holes; rings are closed, outer ones run counter-clockwise and holes clockwise in the sense
    of the standard (x to the right, y upwards). Without masks the outlines are the boxes. The file is written feature
    by feature, whole or not at all.

    Args:
        path: the file; its folder must exist. A name that ends in `.gz` compresses it.
        objects: on one image. Those with an empty mask have no outline and are left out.
        measurements: of `measure_objects`, a row for each object; its numbers are written under their columns' names,
            missing ones left out (JSON has no NaN).

    Returns:
        How many objects were written.

    Raises:
        ArgumentError: measurements of another number of objects.
    """
    if measurements is not None and len(measurements) != len(objects):
        raise ArgumentError(f"{len(measurements)} rows of measurements for {len(objects)} objects")
    written = 0
    with open_whole(path) as file, _compressed(file) if path.suffix == ".gz" else nullcontext(file) as out:
        out.write(b'{"type":"FeatureCollection","features":[')
        for feature in _features(objects, _measured(measurements)):
            text = json.dumps(feature, allow_nan=False, separators=(",", ":"))
            out.write((",\n" if written else "\n").encode() + text.encode())
            written += 1
        out.write(b"\n]}\n")
    return written


def write_detections(out: Path, stem: str, result: ImageResult) -> None:
    """Write one image's objects as detections for QuPath."""
    path = out / f"{stem}.geojson{'.gz' if result.gzip else ''}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_geojson(path, result.objects, result.table)


def _compressed(file: BinaryIO) -> closing[gzip.GzipFile]:
    """Without a name and a time inside, so that equal objects give equal bytes."""
    return closing(gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0))


def _features(objects: Instances, measured: Mapping[str, Sequence[float]]) -> Iterator[dict[str, Any]]:
    for k, parts in enumerate(closed_outlines(objects)):
        if not parts:
            continue
        polygons = [[ring.tolist() for ring in part] for part in parts]
        label = int(objects.labels[k])
        numbers = {"score": round(float(objects.scores[k]), 6), **{name: row[k] for name, row in measured.items()}}
        yield {
            "type": "Feature",
            "geometry": {
                "type": "Polygon" if len(polygons) == 1 else "MultiPolygon",
                "coordinates": polygons[0] if len(polygons) == 1 else polygons,
            },
            "properties": {
                "objectType": "detection",
                "name": str(k + 1),
                "classification": {"name": objects.class_names[label], "color": COLOURS[label % len(COLOURS)]},
                "measurements": {name: value for name, value in numbers.items() if math.isfinite(value)},
            },
        }


def _measured(table: Table | None) -> dict[str, list[float]]:
    """The columns of numbers, rounded to what is meant by them."""
    columns = {} if table is None else table.columns
    return {
        name: [float(f"{value:.10g}") for value in values.tolist()]
        for name, values in columns.items()
        if isinstance(values, np.ndarray) and name not in NOT_MEASURED
    }
