"""Everything that is measured of a set of predictions, with what each number means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from halfpixel.data.sample import Dataset
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.bootstrap import Interval, bootstrap_ratio
from halfpixel.evaluation.coco_ap import CocoAP, coco_ap
from halfpixel.evaluation.counting import CountError, ImageCount, count_error, image_counts
from halfpixel.evaluation.matching import IOUS, DetectionQuality, match_dataset, pool
from halfpixel.structures.instances import Instances

AP_SCORE = 0.05
"""Average precision looks at objects down to this score, as the usual evaluations of COCO do."""

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class QualityWithInterval:
    """Pooled counts at one IoU, and the interval of `counts.quality` (None for fewer than two images)."""

    counts: DetectionQuality
    interval: Interval | None


@dataclass(frozen=True)
class SliceEvaluation:
    """Quality and counts of some of the images, at the score threshold.

    Attributes:
        n_images: how many.
        n_objects: annotated objects on them, ignored regions not included.
        quality: pooled detection quality at each IoU, ascending.
        count: errors of the images' totals.
        count_mae_interval: for `count.mae`; None for fewer than two images.
        count_per_class: the same errors for each class; empty when there is only one.
    """

    n_images: int
    n_objects: int
    quality: tuple[QualityWithInterval, ...]
    count: CountError
    count_mae_interval: Interval | None
    count_per_class: dict[str, CountError]


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and how.

    Attributes:
        data: the name of the annotation file or folder.
        class_names: the data set's classes.
        threshold: the score threshold of quality and counts.
        max_detections: the limit of AP, for each class and image.
        seed: of the bootstrap.
        n_ignored: ignored (crowd) regions.
        n_saturated: images in which the predictor's own limit cut objects off.
        mask_ap: COCO mask AP, over all predictions.
        box_ap: COCO box AP, over all predictions.
        overall: quality and counts over all images.
        slice_by: the image attribute that `slices` divides by, None when no image carries it.
        slices: quality and counts for each value of that attribute.
        images: true and predicted counts of each image.
    """

    data: str
    class_names: tuple[str, ...]
    threshold: float
    max_detections: int
    seed: int
    n_ignored: int
    n_saturated: int
    mask_ap: CocoAP
    box_ap: CocoAP
    overall: SliceEvaluation
    slice_by: str | None
    slices: dict[str, SliceEvaluation]
    images: tuple[ImageCount, ...]

    @property
    def definitions(self) -> dict[str, str]:
        """What each number means, by its name in `to_json()`."""
        interval = f"95% percentile bootstrap over images, seed {self.seed}."
        return {
            "mask_ap": self.mask_ap.definition,
            "box_ap": self.box_ap.definition,
            "quality": (
                f"TP / (TP + FP + FN), summed over images before dividing, of the objects that score at least "
                f"{self.threshold:g}. Predicted and annotated objects of the same class are paired one to one, as "
                f"many as possible, from the given mask IoU upwards. The StarDist paper (Schmidt et al. 2018, Table 1) "
                f"calls this average precision; it is not COCO AP. Interval: {interval}"
            ),
            "count_mae": (
                f"Mean over images of |predicted - true| number of objects, those that score at least "
                f"{self.threshold:g}. Objects mostly inside an ignored region are not counted. Interval: {interval}"
            ),
            "count_bias": "Mean over images of predicted - true: above 0 is too many.",
        }

    def to_json(self) -> dict[str, object]:
        """Plain dictionaries, lists, numbers, strings and None; undefined numbers are None."""
        return {
            "data": self.data,
            "class_names": list(self.class_names),
            "threshold": self.threshold,
            "max_detections": self.max_detections,
            "seed": self.seed,
            "n_images": self.overall.n_images,
            "n_objects": self.overall.n_objects,
            "n_ignored": self.n_ignored,
            "n_saturated": self.n_saturated,
            "mask_ap": asdict(self.mask_ap),
            "box_ap": asdict(self.box_ap),
            "overall": _slice_json(self.overall),
            "slice_by": self.slice_by,
            "slices": {name: _slice_json(one) for name, one in self.slices.items()},
            "images": [
                {
                    "image_id": one.image_id,
                    "file_name": one.path.name,
                    "true": dict(zip(self.class_names, one.true, strict=True)),
                    "predicted": dict(zip(self.class_names, one.predicted, strict=True)),
                }
                for one in self.images
            ],
            "definitions": self.definitions,
        }


def evaluate(
    dataset: Dataset,
    predictions: Sequence[Instances],
    *,
    threshold: float,
    max_detections: int,
    slice_by: str | None = "modality",
    ious: Sequence[float] = IOUS,
    seed: int = 0,
) -> Evaluation:
    """Compare predictions with annotations.

    Args:
        dataset: the annotations.
        predictions: one per sample, in the order of `dataset.samples`, with masks. AP needs them down to low scores;
            quality and counts take those that score at least `threshold`.
        threshold: a score in 0..1.
        max_detections: the limit of AP for each class and image.
        slice_by: an image attribute; quality and counts are also given for each of its values. Images without it are
            put under "unknown".
        ious: mask IoUs of the quality.
        seed: of the bootstrap intervals.

    Raises:
        ArgumentError: predictions that do not fit the data set, objects without masks, or a number out of range.
    """
    if not 0 <= threshold <= 1:
        raise ArgumentError(f"the score threshold must be in 0..1, got {threshold}")
    kept = [predicted.above(threshold) for predicted in predictions]
    matches = [[match.quality for match in image] for image in match_dataset(dataset, kept, ious)]
    counts = image_counts(dataset, kept)

    def summary(members: Sequence[int]) -> SliceEvaluation:
        return _summary(
            [matches[k] for k in members], [counts[k] for k in members], tuple(ious), dataset.class_names, seed
        )

    groups = _groups(dataset, slice_by)
    return Evaluation(
        data=dataset.path.name,
        class_names=dataset.class_names,
        threshold=threshold,
        max_detections=max_detections,
        seed=seed,
        n_ignored=sum(len(sample.ignored) for sample in dataset.samples),
        n_saturated=sum(predicted.saturated for predicted in predictions),
        mask_ap=coco_ap(dataset, predictions, kind="mask", max_detections=max_detections),
        box_ap=coco_ap(dataset, predictions, kind="box", max_detections=max_detections),
        overall=summary(range(len(counts))),
        slice_by=slice_by if groups else None,
        slices={name: summary(members) for name, members in groups.items()},
        images=tuple(counts),
    )


def _groups(dataset: Dataset, slice_by: str | None) -> dict[str, list[int]]:
    """The images of each value of an attribute; none when no image carries it."""
    if slice_by is None or not any(slice_by in sample.attributes for sample in dataset.samples):
        return {}
    values = [str(sample.attributes.get(slice_by, _UNKNOWN)) for sample in dataset.samples]
    return {value: [k for k, one in enumerate(values) if one == value] for value in sorted(set(values))}


def _summary(
    matches: Sequence[Sequence[DetectionQuality]],
    counts: Sequence[ImageCount],
    ious: tuple[float, ...],
    class_names: tuple[str, ...],
    seed: int,
) -> SliceEvaluation:
    quality = []
    for k, iou in enumerate(ious):
        column = [image[k] for image in matches]
        interval = bootstrap_ratio([q.tp for q in column], [q.tp + q.fp + q.fn for q in column], seed=seed)
        quality.append(QualityWithInterval(pool(iou, column), interval))
    errors = [abs(sum(one.predicted) - sum(one.true)) for one in counts]
    per_class = {name: count_error(counts, k) for k, name in enumerate(class_names)} if len(class_names) > 1 else {}
    count = count_error(counts)
    return SliceEvaluation(
        n_images=len(counts),
        n_objects=count.true,
        quality=tuple(quality),
        count=count,
        count_mae_interval=bootstrap_ratio(errors, [1] * len(errors), seed=seed),
        count_per_class=per_class,
    )


def _slice_json(one: SliceEvaluation) -> dict[str, object]:
    return {
        "n_images": one.n_images,
        "n_objects": one.n_objects,
        "quality": [
            {
                "iou": q.counts.iou,
                "quality": q.counts.quality,
                "interval": None if q.interval is None else [q.interval.low, q.interval.high],
                "tp": q.counts.tp,
                "fp": q.counts.fp,
                "fn": q.counts.fn,
                "precision": q.counts.precision,
                "recall": q.counts.recall,
                "f1": q.counts.f1,
                "mean_matched_iou": q.counts.mean_matched_iou,
            }
            for q in one.quality
        ],
        "count": {
            **asdict(one.count),
            "mae_interval": None
            if one.count_mae_interval is None
            else [one.count_mae_interval.low, one.count_mae_interval.high],
        },
        "count_per_class": {name: asdict(error) for name, error in one.count_per_class.items()},
    }
