"""Objects as ImageJ's regions of interest."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from halfpixel.errors import ArgumentError
from halfpixel.files import write_with_folder
from halfpixel.optional import load_extra
from halfpixel.outputs.image_result import ImageResult

if TYPE_CHECKING:
    from halfpixel.structures.instances import Instances
    from halfpixel.structures.masks import Ring

MOVE_TO, LINE_TO, CLOSE = 0.0, 1.0, 4.0
"""The steps of a path in ImageJ's composite regions (`java.awt.geom.PathIterator`)."""
WITH_COMPOSITES = 227
"""The version of the format, that of ImageJ 1.50 and later."""

ZIP_ENTRY = b"PK\x03\x04"
"""How a ZIP file begins that has something in it."""


def roi_zip_bytes(objects: Instances) -> bytes:
    """A ZIP file of regions for ImageJ's ROI Manager, one an object, named by its number: 0001, 0002, ...

    Coordinates are pixels with their fractions, (0, 0) the outer corner of the first one, as in ImageJ. A mask in one
    piece is a polygon; one of several pieces or with holes is a composite region, which keeps both.

    Args:
        objects: with masks; those with an empty mask are left out, the others keep their numbers.

    Raises:
        ArgumentError: the objects have no masks.
        MissingDependencyError: roifile is not installed (the extra `imagej`).
    """
    if objects.masks is None:
        raise ArgumentError("ImageJ regions are made of masks, and these objects have boxes only")
    roifile = load_extra("roifile", "halfpixel[imagej]")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, parts in enumerate(objects.masks.polygons(), start=1):
            rings = [ring for part in parts for ring in part]
            if rings:
                name = f"{number:04d}"
                roi = _polygon(roifile, rings[0], name) if len(rings) == 1 else _composite(roifile, rings, name)
                # an entry made by name has a fixed date, so that equal objects give equal bytes
                archive.writestr(zipfile.ZipInfo(f"{name}.roi"), roi.tobytes(), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def write_rois(out: Path, stem: str, result: ImageResult) -> None:
    """Write one image's objects as regions for ImageJ, if there are any."""
    path, data = out / f"{stem}.zip", roi_zip_bytes(result.objects)
    if data.startswith(ZIP_ENTRY):
        write_with_folder(path, data)
    else:
        path.unlink(missing_ok=True)  # of an interrupted run that saw another file under this name


def _polygon(roifile: Any, ring: Ring, name: str) -> Any:
    return roifile.ImagejRoi.frompoints(ring.astype(np.float32), name=name)


def _composite(roifile: Any, rings: list[Ring], name: str) -> Any:
    path = np.concatenate([_path(ring) for ring in rings]).astype(np.float32)
    points = np.concatenate(rings)
    left, top = np.floor(points.min(0)).astype(int).tolist()
    right, bottom = np.ceil(points.max(0)).astype(int).tolist()
    return roifile.ImagejRoi(
        roitype=roifile.ROI_TYPE.RECT,
        version=WITH_COMPOSITES,
        name=name,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        shape_roi_size=len(path),
        multi_coordinates=path,
    )


def _path(ring: Ring) -> npt.NDArray[np.float64]:
    steps = np.column_stack([np.full(len(ring), LINE_TO), ring])
    steps[0, 0] = MOVE_TO
    return np.append(steps.ravel(), CLOSE)
