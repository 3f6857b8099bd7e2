"""COCO's average precision and recall, counted by hotcoco."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from hotcoco import COCO, COCOeval

from halfpixel.data.sample import Dataset, Sample
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.pairing import paired
from halfpixel.structures.instances import Instances

Kind = Literal["mask", "box"]

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)


@dataclass(frozen=True)
class CocoAP:
    """COCO's twelve numbers, each in 0..1, or None where no annotated object falls under it.

    Attributes:
        kind: what the intersection over union (IoU) is taken of.
        max_detections: how many objects of each class and image were scored, the best first.
        ap: mean over classes and the IoU thresholds .50, .55 ... .95.
        ap50: at IoU .50.
        ap75: at IoU .75.
        ap_small: objects of an annotated area under 32 x 32 pixels.
        ap_medium: objects from there to 96 x 96 pixels.
        ap_large: objects over 96 x 96 pixels.
        ar_1: mean recall when one object of each class and image may be named.
        ar_10: the same for ten (or `max_detections`, if that is less).
        ar_max: the same for `max_detections`.
        ar_small: as `ar_max`, small objects.
        ar_medium: as `ar_max`, medium objects.
        ar_large: as `ar_max`, large objects.
        per_class: `ap` of each class by name.
    """

    kind: Kind
    max_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar_1: float | None
    ar_10: float | None
    ar_max: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    per_class: dict[str, float | None]

    @property
    def definition(self) -> str:
        """What the numbers mean, in a sentence or two."""
        return (
            f"COCO {self.kind} AP: area under the interpolated precision-recall curve (101 points), mean over classes "
            f"and {self.kind} IoU .50 to .95 in steps of .05, all predictions whatever their score, at most "
            f"{self.max_detections:,} of each class and image. Crowd regions count neither way."
        )


def coco_ap(dataset: Dataset, predictions: Sequence[Instances], *, kind: Kind, max_detections: int = 100) -> CocoAP:
    """Average precision as COCO defines it (Lin et al. 2014), equal to pycocotools.

    Annotated areas are `Sample.areas_px`, and every image of the data set is scored, also one without predictions.
    pycocotools always summarises at 100 detections; here AP is at `max_detections`. There is no interval
    yet: AP is not a ratio of sums over images.

    Args:
        dataset: the annotations.
        predictions: one per sample, in the order of `dataset.samples`, not cut by any score threshold.
        kind: compare masks or boxes.
        max_detections: the limit for each class and image, at least 1.

    Raises:
        ArgumentError: predictions that do not fit the data set, masks missing for `kind="mask"`, or a limit below 1.
    """
    if max_detections < 1:
        raise ArgumentError(f"max_detections must be at least 1, got {max_detections}")
    limits = sorted({1, min(10, max_detections), max_detections})
    precision, recall = _curves(dataset, paired(dataset, predictions), kind, limits)
    last = len(limits) - 1
    return CocoAP(
        kind=kind,
        max_detections=max_detections,
        ap=_mean(precision[..., _ALL, last]),
        ap50=_mean(precision[0, ..., _ALL, last]),
        ap75=_mean(precision[5, ..., _ALL, last]),
        ap_small=_mean(precision[..., _SMALL, last]),
        ap_medium=_mean(precision[..., _MEDIUM, last]),
        ap_large=_mean(precision[..., _LARGE, last]),
        ar_1=_mean(recall[..., _ALL, 0]),
        ar_10=_mean(recall[..., _ALL, limits.index(min(10, max_detections))]),
        ar_max=_mean(recall[..., _ALL, last]),
        ar_small=_mean(recall[..., _SMALL, last]),
        ar_medium=_mean(recall[..., _MEDIUM, last]),
        ar_large=_mean(recall[..., _LARGE, last]),
        per_class={name: _mean(precision[:, :, k, _ALL, last]) for k, name in enumerate(dataset.class_names)},
    )


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _curves(
    dataset: Dataset, predictions: Sequence[Instances], kind: Kind, limits: list[int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Precision `[IoU, recall, class, area, limit]` and recall `[IoU, class, area, limit]`; -1 is undefined."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for sample, predicted in zip(dataset.samples, predictions, strict=True):
        annotations += _annotations(sample, kind)
        objects = _objects(predicted, kind, sample)
        results += [
            {**one, "image_id": sample.image_id, "score": s}
            for one, s in zip(objects, predicted.scores.tolist(), strict=True)
        ]
    # our own numbers from 1: id 0 means "unmatched" to COCO's evaluation, so a file that uses it would lose an object
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    truth = COCO(
        {
            "images": [{"id": s.image_id, "height": s.size_hw[0], "width": s.size_hw[1]} for s in dataset.samples],
            "categories": [{"id": k + 1, "name": name} for k, name in enumerate(dataset.class_names)],
            "annotations": annotations,
        }
    )
    evaluation = COCOeval(truth, truth.load_res(results), "segm" if kind == "mask" else "bbox")
    evaluation.params.max_dets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    curves: dict[str, Any] = evaluation.eval or {}
    return np.asarray(curves["precision"]), np.asarray(curves["recall"])


def _annotations(sample: Sample, kind: Kind) -> list[dict[str, Any]]:
    # a crowd region counts in every size range, so its area plays no part
    objects = zip(_objects(sample.objects, kind, sample), sample.areas_px.tolist(), strict=True)
    return [{**one, "image_id": sample.image_id, "area": area, "iscrowd": 0} for one, area in objects] + [
        {**one, "image_id": sample.image_id, "area": 1.0, "iscrowd": 1}
        for one in _objects(sample.ignored, kind, sample)
    ]


def _objects(objects: Instances, kind: Kind, sample: Sample) -> list[dict[str, Any]]:
    categories = (objects.labels + 1).tolist()
    if kind == "box":
        return [
            {"category_id": category, "bbox": [left, top, right - left, bottom - top]}
            for category, (left, top, right, bottom) in zip(categories, objects.boxes_xyxy.tolist(), strict=True)
        ]
    if objects.masks is None:
        if len(objects):
            raise ArgumentError(f"{sample.path}: mask AP needs masks, and these objects have boxes only")
        return []
    return [
        {"category_id": category, "segmentation": rle}
        for category, rle in zip(categories, objects.masks.rles(), strict=True)
    ]
