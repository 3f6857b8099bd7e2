"""Annotated images, whatever format they came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from halfpixel.structures.instances import Instances


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is annotated on it.

    Attributes:
        image_id: the annotation file's number for the image.
        path: the image file; it may not exist when only annotations are compared.
        size_hw: the image's size as annotated, in pixels.
        objects: the annotated objects (scores are 1), boxes as the file gives them.
        areas_px: `[n]` areas as the file gives them (COCO sorts objects into size ranges by these).
        annotation_ids: the file's number for each object.
        ignored: crowd regions, which are neither objects nor background.
        attributes: whatever else the file says of the image, for example its modality.
    """

    image_id: int
    path: Path
    size_hw: tuple[int, int]
    objects: Instances
    areas_px: Float[Tensor, "n"]
    annotation_ids: tuple[int, ...]
    ignored: Instances
    attributes: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Annotated images that share their classes.

    Attributes:
        path: the annotation file or folder they came from.
        class_names: names; labels index into them.
        category_ids: the file's number for each class.
        samples: the images.
        warnings: what was wrong with the file and left out, one line each, naming the annotation.
    """

    path: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()
