"""One row of measurements for each object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

from halfpixel.errors import ArgumentError, ImageError
from halfpixel.measure.pixel_masks import pixel_masks
from halfpixel.measure.shape import NO_SHAPE, Shape, shape_of
from halfpixel.measure.table import Column, Table
from halfpixel.structures.instances import Instances

Channels = npt.NDArray[Any]
"""`[h, w, c]` numbers of any kind, as the file has them."""
Numbers = npt.NDArray[np.float64]

AREA_LEVEL = 0.9
"""What the area interval claims, if the mask's probabilities are right."""

SHAPE_COLUMNS = {
    "perimeter": "perimeter_px",
    "equivalent_diameter": "equivalent_diameter_px",
    "major_axis": "major_axis_px",
    "minor_axis": "minor_axis_px",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "orientation_deg": "orientation_deg",
}
INTENSITIES = ("mean", "std", "min", "max", "median", "sum")


def measure_objects(
    objects: Instances,
    *,
    channels: Channels | None = None,
    channel_names: Sequence[str] = (),
    pixel_size_um: float | None = None,
) -> Table:
    """Measure every object: shape, place and intensity. `docs/measurements.md` defines each column.

    An object whose mask is empty keeps its class, score and box, and has NaN for what is measured on pixels; so has one
    without a mask, except for its centroid, which is the middle of its box.

    Args:
        objects: on one image.
        channels: `[h, w, c]`, the image's own values; without them there are no intensities.
        channel_names: `c` different names, part of the columns' names. Default: channel1, channel2, ...
        pixel_size_um: side of a pixel in micrometres; with it every length and area is there in micrometres too.

    Returns:
        One row for each object, numbered from 1 in their order, also if there are none.

    Raises:
        ArgumentError: a pixel size that is not a positive number, or names that do not fit the channels.
        ImageError: channels of another shape than the objects' image.
    """
    if pixel_size_um is not None and not 0 < pixel_size_um < math.inf:
        raise ArgumentError(f"a pixel size is a positive number of micrometres, got {pixel_size_um}")
    shapes = _shapes(objects)
    centroids = _centroids(objects, shapes)
    low, high = _area_interval(objects)
    left, top, right, bottom = objects.boxes_xyxy.numpy().T
    columns: dict[str, Column] = {
        "object": np.arange(1, len(objects) + 1),
        **({} if objects.track_ids is None else {"track": objects.track_ids.numpy()}),
        "class": [objects.class_names[label] for label in objects.labels.tolist()],
        "score": objects.scores.numpy(),
        "left_px": left,
        "top_px": top,
        "right_px": right,
        "bottom_px": bottom,
        "centroid_x_px": centroids[:, 0],
        "centroid_y_px": centroids[:, 1],
        "area_px": np.array([shape.area for shape in shapes]),
        "area_low_px": low,
        "area_high_px": high,
        **{name: np.array([getattr(shape, field) for shape in shapes]) for field, name in SHAPE_COLUMNS.items()},
        "nearest_neighbour_px": _nearest_neighbour(centroids),
        "touches_border": _touches_border(objects),
    }
    if pixel_size_um is not None:
        columns |= _in_micrometres(columns, pixel_size_um)
    if channels is not None:
        columns |= _intensities(objects, channels, channel_names)
    return Table(columns)


def _shapes(objects: Instances) -> list[Shape]:
    """Shapes in pixels of the image; without masks, none is known."""
    if objects.masks is None:
        return [NO_SHAPE] * len(objects)
    return [
        (shape := shape_of(crop.numpy()))._replace(centroid_x=shape.centroid_x + x, centroid_y=shape.centroid_y + y)
        for crop, (x, y) in objects.masks.placed()
    ]


def _centroids(objects: Instances, shapes: Sequence[Shape]) -> Numbers:
    """`[n, 2]` (x, y)."""
    if objects.masks is None:
        boxes = objects.boxes_xyxy.double()
        return np.asarray(((boxes[:, :2] + boxes[:, 2:]) / 2).numpy())
    return np.array([(shape.centroid_x, shape.centroid_y) for shape in shapes]).reshape(-1, 2)


def _area_interval(objects: Instances) -> tuple[Numbers, Numbers]:
    """The areas that are too small and too large with 5% each.

    A pixel belongs to the object with the mask's probability. If all of them err together (no other dependence lets
    the area spread more), the area has these quantiles: the pixels above 0.95 and those above 0.05.
    """
    masks, tail = objects.masks, (1 - AREA_LEVEL) / 2
    if masks is None or masks.soft is None:
        return np.full(len(objects), np.nan), np.full(len(objects), np.nan)
    low, high = (masks.at_threshold(threshold).areas_px().double().numpy() for threshold in (1 - tail, tail))
    empty = masks.areas_px().numpy() == 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def _nearest_neighbour(centroids: Numbers) -> Numbers:
    """From each centroid to the closest other one."""
    distances = np.full(len(centroids), np.nan)
    known = np.isfinite(centroids).all(1)
    if known.sum() > 1:
        # the closest is the point itself, or one in the same place
        distances[known] = KDTree(centroids[known]).query(centroids[known], k=2)[0][:, 1]
    return distances


def _touches_border(objects: Instances) -> npt.NDArray[np.bool_]:
    """Whether an object has a pixel in the first or last row or column."""
    height, width = objects.size_hw
    left, top, right, bottom = pixel_masks(objects).boxes_xyxy().numpy().T
    at_border = (left <= 0) | (top <= 0) | (right >= width) | (bottom >= height)
    return np.asarray(at_border & (right > left))


def _in_micrometres(columns: dict[str, Column], pixel_size_um: float) -> dict[str, Column]:
    """A twin of each length and area, boxes left out."""
    boxes = ("left_px", "top_px", "right_px", "bottom_px")
    twins: dict[str, Column] = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and name.endswith("_px") and name not in boxes:
            power, unit = (2, "um2") if name.startswith("area") else (1, "um")
            twins[f"{name.removesuffix('px')}{unit}"] = values * pixel_size_um**power
    return twins


def _intensities(objects: Instances, channels: Channels, channel_names: Sequence[str]) -> dict[str, Column]:
    """Statistics of the values under each mask, channel by channel."""
    if channels.ndim != 3 or channels.shape[:2] != objects.size_hw or channels.dtype.kind not in "biuf":
        raise ImageError(
            f"expected channels [h, w, c] of numbers on {objects.size_hw} (h, w), got {list(channels.shape)} of "
            f"{channels.dtype}"
        )
    names = list(channel_names) or [f"channel{number}" for number in range(1, channels.shape[2] + 1)]
    if len(names) != channels.shape[2] or len(set(names)) != len(names):
        raise ArgumentError(f"expected {channels.shape[2]} different channel names, got {names}")
    values = np.full((len(objects), len(INTENSITIES), len(names)), np.nan)
    placed = () if objects.masks is None else objects.masks.placed()
    for row, (crop, (x, y)) in zip(values, placed, strict=False):
        mask = crop.numpy()
        inside = channels[y : y + mask.shape[0], x : x + mask.shape[1]][mask].astype(np.float64)
        if len(inside):
            with np.errstate(invalid="ignore", over="ignore"):  # values of the file's own that are not finite
                row[:] = [getattr(np, name)(inside, axis=0) for name in INTENSITIES]
    return {
        f"intensity_{statistic}_{name}": values[:, k, c]
        for c, name in enumerate(names)
        for k, statistic in enumerate(INTENSITIES)
    }
