"""Annotated images, whatever format they came in. Light: torch is imported when a sample is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from jaxtyping import Float
    from torch import Tensor

    from halfpixel.structures.instances import Instances
    from halfpixel.structures.masks import CropMasks

ONE_CLASS = "object"
"""What the objects of formats without classes are called."""


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
        source: the name of the data set that it comes from, where several were combined.
    """

    image_id: int
    path: Path
    size_hw: tuple[int, int]
    objects: Instances
    areas_px: Float[Tensor, "n"]
    annotation_ids: tuple[int, ...]
    ignored: Instances
    attributes: Mapping[str, object] = field(default_factory=dict)
    source: str = ""


def annotated_sample(
    image_id: int,
    path: Path,
    masks: CropMasks,
    labels: Sequence[int],
    class_names: tuple[str, ...],
    ignored: npt.NDArray[np.bool_] | None = None,
) -> Sample:
    """A sample whose boxes and areas are those of its masks, annotations numbered from 1; for formats without ids.

    Args:
        image_id: the number of the image.
        path: the image file.
        masks: the objects.
        labels: the class of each.
        class_names: all classes.
        ignored: `[h, w]` pixels that are neither objects, of whatever class, nor background.
    """
    import torch

    from halfpixel.structures.masks import CropMasks

    objects = _instances(masks, labels, class_names)
    regions = CropMasks.empty(masks.size_hw)
    if ignored is not None and ignored.any():
        whole = CropMasks.from_dense(torch.from_numpy(ignored)[None])
        regions = whole[torch.zeros(len(class_names), dtype=torch.int64)]
    numbers = tuple(range(1, len(masks) + 1))
    crowd = _instances(regions, range(len(regions)), class_names)
    return Sample(image_id, path, masks.size_hw, objects, masks.areas_px().double(), numbers, crowd)


def _instances(masks: CropMasks, labels: Sequence[int], class_names: tuple[str, ...]) -> Instances:
    import torch

    from halfpixel.structures.instances import Instances

    return Instances(
        size_hw=masks.size_hw,
        boxes_xyxy=masks.boxes_xyxy(),
        scores=torch.ones(len(masks)),
        labels=torch.tensor(labels, dtype=torch.int64),
        class_names=class_names,
        masks=masks,
    )


@dataclass(frozen=True)
class Issue:
    """Something wrong in a data set, or worth knowing, at one place in it.

    Attributes:
        kind: what sort of issue, in `snake_case`, for machines.
        path: the file it is in.
        where: the place in it, for example "annotation 17" or "line 3"; empty for the file as a whole.
        what: the cause and what was done about it, for people.
        image: the image file that it is about, where there is one.
        objects: which of that image's objects it is about, where they are known.
    """

    kind: str
    path: Path
    where: str
    what: str
    image: Path | None = None
    objects: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.path), self.where, self.what) if part)

    @property
    def brief(self) -> str:
        """As `str`, with the file's name instead of its path."""
        return ": ".join(part for part in (self.path.name, self.where, self.what) if part)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Annotated images that share their classes.

    Attributes:
        path: the annotation file or folder they came from; the folder that holds all of several.
        class_names: names; labels index into them.
        category_ids: the file's number for each class.
        samples: the images.
        warnings: what was wrong and left out or mended.
        sources: names of the data sets that were combined, see `halfpixel.data.combine`; empty where it is one.
    """

    path: Path
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    samples: tuple[Sample, ...]
    warnings: tuple[Issue, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The file or folder without where it is, or the names of all that were combined."""
        return ", ".join(self.sources) or self.path.name
