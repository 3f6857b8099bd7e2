"""How many objects there are against how many were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from halfpixel.data.sample import Dataset
from halfpixel.evaluation.matching import in_ignored
from halfpixel.evaluation.pairing import paired
from halfpixel.structures.instances import Instances


@dataclass(frozen=True)
class ImageCount:
    """The objects of one image, by class.

    Attributes:
        image_id: the annotation file's number for the image.
        path: the image file.
        true: annotated objects of each class, in the order of the data set's class names.
        predicted: predicted objects of each class.
    """

    image_id: int
    path: Path
    true: tuple[int, ...]
    predicted: tuple[int, ...]


@dataclass(frozen=True)
class CountError:
    """How far the counts of a set of images are off.

    Attributes:
        n_images: images counted.
        true: annotated objects in all of them.
        predicted: predicted objects in all of them.
        mae: the mean over images of |predicted - true|, None without images.
        bias: the mean over images of predicted - true, None without images.
    """

    n_images: int
    true: int
    predicted: int
    mae: float | None
    bias: float | None


def image_counts(dataset: Dataset, predictions: Sequence[Instances]) -> list[ImageCount]:
    """Annotated and predicted objects of each image and class.

    Predicted objects of which more than half lies in an ignored region of their class are not counted: nobody knows
    how many there should be.

    Args:
        dataset: the annotations.
        predictions: one per sample, already cut at a score threshold.

    Raises:
        ArgumentError: predictions that do not fit the data set, or without masks where there are ignored regions.
    """
    counts = []
    for sample, predicted in zip(dataset.samples, paired(dataset, predictions), strict=True):
        counted = predicted[torch.from_numpy(~in_ignored(predicted, sample.ignored))]
        true = tuple(sample.objects.counts().values())
        counts.append(ImageCount(sample.image_id, sample.path, true, tuple(counted.counts().values())))
    return counts


def count_error(counts: Sequence[ImageCount], class_index: int | None = None) -> CountError:
    """Mean absolute error and bias over images, of all objects or of one class.

    With all classes together an image's error is that of its total, so one class too many and another too few cancel.
    """
    chosen = slice(None) if class_index is None else slice(class_index, class_index + 1)
    true = np.array([sum(one.true[chosen]) for one in counts], dtype=np.int64)
    errors = np.array([sum(one.predicted[chosen]) for one in counts], dtype=np.int64) - true
    return CountError(
        n_images=len(counts),
        true=int(true.sum()),
        predicted=int((true + errors).sum()),
        mae=float(np.abs(errors).mean()) if counts else None,
        bias=float(errors.mean()) if counts else None,
    )
