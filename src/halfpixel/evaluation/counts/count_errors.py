"""How many objects there are against how many were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.bootstrap import Floats, Intervals, divide, named_intervals, resampled_sums
from halfpixel.evaluation.detection.object_matching import in_ignored
from halfpixel.evaluation.detection.overlaps import Kind, kind_of_comparison
from halfpixel.structures.instances import Instances

_NORMAL_95 = 1.96


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

    @property
    def error(self) -> int:
        """Predicted - true, of all classes together."""
        return sum(self.predicted) - sum(self.true)


@dataclass(frozen=True)
class CountError:
    """How far the counts of a set of images are off; a number that is undefined there is None.

    Attributes:
        n_images: images counted.
        true: annotated objects in all of them.
        predicted: predicted objects in all of them.
        n_empty: images without an annotated object; MAPE leaves them out.
        mae: the mean over images of |predicted - true|.
        mape: the mean of |predicted - true| / true, over images where true is above 0.
        bias: the mean over images of predicted - true.
        r2: 1 - sum of (predicted - true)^2 / sum of (true - mean true)^2; below 0 where the mean count of the data
            would be a better guess, None where all true counts are equal.
        agreement_low: lower limit of agreement, bias - 1.96 standard deviations of predicted - true (Bland and Altman
            1986); None for fewer than two images.
        agreement_high: the upper one.
        intervals: of the numbers from `mae` on, by name, where they were asked for.
    """

    n_images: int
    true: int
    predicted: int
    n_empty: int
    mae: float | None
    mape: float | None
    bias: float | None
    r2: float | None
    agreement_low: float | None
    agreement_high: float | None
    intervals: Intervals = field(default_factory=dict)


def image_counts(dataset: Dataset, predictions: Sequence[Instances], *, kind: Kind | None = None) -> list[ImageCount]:
    """Annotated and predicted objects of each image and class.

    Predicted objects of which more than half lies in an ignored region of their class are not counted: nobody knows
    how many there should be.

    Args:
        dataset: the annotations.
        predictions: one per sample, already cut at a score threshold.
        kind: look at masks or boxes. Default: as `kind_of_comparison` finds.

    Raises:
        ArgumentError: predictions that do not fit the data set, or without masks where masks are looked at.
    """
    kind = kind or kind_of_comparison(dataset, predictions)
    return [
        count_image(sample, predicted, in_ignored(predicted, sample.ignored, kind))
        for sample, predicted in zip(dataset.samples, paired(dataset, predictions), strict=True)
    ]


def count_image(sample: Sample, predicted: Instances, excused: npt.NDArray[np.bool_]) -> ImageCount:
    """The objects of one image.

    Args:
        sample: the annotations.
        predicted: objects with the classes of the annotations.
        excused: `[n]` which of them are not counted.
    """
    n_classes = len(predicted.class_names)
    true, found = sample.objects.labels.numpy(), predicted.labels.numpy()[~excused]
    counts = (tuple(np.bincount(labels, minlength=n_classes).tolist()) for labels in (true, found))
    return ImageCount(sample.image_id, sample.path, *counts)


def count_error(
    counts: Sequence[ImageCount], class_index: int | None = None, *, resamples: int = 0, seed: int = 0
) -> CountError:
    """Errors of the counts of all objects or of one class, with intervals from `resamples` draws of the images.

    With all classes together an image's error is that of its total, so one class too many and another too few cancel.
    """
    chosen = slice(None) if class_index is None else slice(class_index, class_index + 1)
    true = np.array([sum(one.true[chosen]) for one in counts], dtype=np.float64)
    errors = np.array([sum(one.predicted[chosen]) for one in counts], dtype=np.float64) - true
    sums = _sums(true, errors)
    values = _errors(sums.sum(0, keepdims=True))
    return CountError(
        n_images=len(counts),
        true=int(true.sum()),
        predicted=int((true + errors).sum()),
        n_empty=int((true == 0).sum()),
        **{name: None if np.isnan(value[0]) else float(value[0]) for name, value in values.items()},
        intervals=named_intervals(_errors(resampled_sums(sums, seed=seed, resamples=resamples)), seed=seed),
    )


def _sums(true: Floats, errors: Floats) -> Floats:
    """`[n, 8]`: for each image the terms of which `_errors` needs the sums."""
    some = true > 0
    relative = np.divide(np.abs(errors), true, out=np.zeros_like(true), where=some)
    return np.stack([np.ones_like(true), np.abs(errors), relative, some, errors, errors**2, true, true**2], axis=1)


def _errors(sums: Floats) -> dict[str, Floats]:
    """Every number `[r]`, NaN where undefined, from `[r, 8]` sums over images."""
    n, absolute, relative, some, error, squared, true, true_squared = sums.T
    bias = divide(error, n)
    # whole numbers: exact as long as they are added up before they are divided
    deviation = np.sqrt(np.maximum(divide(n * squared - error**2, n * (n - 1)), 0))
    return {
        "mae": divide(absolute, n),
        "mape": divide(relative, some),
        "bias": bias,
        "r2": 1 - divide(n * squared, n * true_squared - true**2),
        "agreement_low": bias - _NORMAL_95 * deviation,
        "agreement_high": bias + _NORMAL_95 * deviation,
    }
