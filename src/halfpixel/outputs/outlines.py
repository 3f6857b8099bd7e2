"""The outlines of objects, as files of polygons take them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from halfpixel.structures.instances import Instances
    from halfpixel.structures.masks import Ring

Polygons = list[list["Ring"]]
"""The parts of an object: of each its rings `[n, 2]`, first the outer one, then holes; first and last point are one."""


def closed_outlines(objects: Instances) -> Iterator[Polygons]:
    """Each object's parts, one object at a time, since outlines need more memory than masks.

    Coordinates are pixels, (0, 0) the outer corner of the first one. Outer rings run counter-clockwise and holes
    clockwise where y points upwards, as both GeoJSON and GeoParquet have it. An empty mask has no parts; without masks
    the outlines are the boxes.
    """
    if objects.masks is None:
        for left, top, right, bottom in objects.boxes_xyxy.double().numpy().round(4):
            yield [[_closed(np.array([(left, top), (right, top), (right, bottom), (left, bottom)]))]]
        return
    masks = replace(objects.masks, soft=None)
    for k in range(len(masks)):
        yield [[_closed(ring) for ring in part] for part in masks[k].polygons()[0]]


def _closed(ring: Ring) -> Ring:
    closed: Ring = np.concatenate([ring, ring[:1]])
    return closed
