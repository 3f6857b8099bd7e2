"""What can be written of predictions: one table, one file a format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from halfpixel.outputs.coco import write_coco_run
from halfpixel.outputs.csv import write_csv
from halfpixel.outputs.geojson import write_detections
from halfpixel.outputs.geoparquet import write_polygons
from halfpixel.outputs.image_result import ImageResult, RunResult
from halfpixel.outputs.imagej import write_rois
from halfpixel.outputs.label_tiff import write_labels
from halfpixel.outputs.parquet import write_parquet
from halfpixel.outputs.pictures import write_blurred, write_cutouts, write_overlay
from halfpixel.outputs.sizes import write_sizes
from halfpixel.outputs.tracks_csv import write_frames, write_tracks


@dataclass(frozen=True)
class Writer:
    """Writes one kind of results, image by image or once for all of them.

    Attributes:
        place: the file, or the folder with something for each image, in the output folder.
        pattern: what an earlier run may have left there.
        what: it is, for people.
        each: what there are several of; empty for one file that needs no number.
        takes: what it needs besides the objects themselves, or needs of them in the end.
        extra: a module that it needs and the extra of ours that installs it.
        of_films: it needs objects that were followed.
        image: writes what there is of an image, given the folder and the image's name there.
        run: writes the one file of all images.
    """

    place: str
    pattern: str
    what: str
    each: str = ""
    takes: Literal["objects", "annotations", "measurements"] = "objects"
    extra: tuple[str, str] | None = None
    of_films: bool = False
    image: Callable[[Path, str, ImageResult], None] | None = None
    run: Callable[[Path, RunResult], None] | None = None


WRITERS = {
    "coco": Writer(
        "instances.json",
        "instances.json",
        "the objects with their masks, as a COCO data set",
        takes="annotations",
        run=write_coco_run,
    ),
    "overlay": Writer(
        "overlay", "overlay/**/*.png", "the objects drawn over the image", "picture", image=write_overlay
    ),
    "labels": Writer(
        "labels", "labels/**/*.tif", "each pixel is its object's number", "label image", image=write_labels
    ),
    "table": Writer("objects.csv", "objects.csv", "one row per object", "row", takes="measurements", run=write_csv),
    "parquet": Writer(
        "objects.parquet",
        "objects.parquet",
        "the same table as an Apache Parquet file",
        takes="measurements",
        extra=("pyarrow", "parquet"),
        run=write_parquet,
    ),
    "sizes": Writer(
        "sizes.csv",
        "sizes.csv",
        "percentiles of the objects' diameters (D16, D50, D84)",
        takes="measurements",
        run=write_sizes,
    ),
    "cutouts": Writer("cutouts", "cutouts/**/[0-9]*.png", "one picture per object", "picture", image=write_cutouts),
    "geojson": Writer(
        "geojson",
        "geojson/**/*.geojson*",
        "the objects as detections for QuPath",
        "file",
        takes="measurements",
        image=write_detections,
    ),
    "geoparquet": Writer(
        "geoparquet",
        "geoparquet/**/*.parquet",
        "the objects' outlines and measurements as GeoParquet",
        "file",
        takes="measurements",
        extra=("pyarrow", "parquet"),
        image=write_polygons,
    ),
    "rois": Writer(
        "rois",
        "rois/**/*.zip",
        "the objects as regions for ImageJ and Fiji",
        "ZIP file",
        extra=("roifile", "imagej"),
        image=write_rois,
    ),
    "tracks": Writer(
        "tracks.csv",
        "tracks.csv",
        "one row per object that was followed",
        takes="measurements",
        of_films=True,
        run=write_tracks,
    ),
    "frames": Writer(
        "frames.csv", "frames.csv", "one row per frame", takes="measurements", of_films=True, run=write_frames
    ),
    "blurred": Writer(
        "blurred",
        "blurred/**/*.png",
        "the image with the objects made unrecognisable",
        "picture",
        image=write_blurred,
    ),
}
"""What `predict` can save, by name."""
