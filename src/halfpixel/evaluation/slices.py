"""The same numbers for all images, some of them, one class, and objects of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation.bootstrap import (
    RESAMPLES,
    Floats,
    Interval,
    Intervals,
    bootstrap_ratios,
    divide,
    named_intervals,
    resampled_sums,
)
from halfpixel.evaluation.coco.average_precision import N_COCO_RANGES, CocoAP, CocoMatches
from halfpixel.evaluation.conditions import Conditions
from halfpixel.evaluation.counts.count_errors import CountError, count_error, count_image
from halfpixel.evaluation.detection.error_types import (
    ERROR_TYPES,
    ErrorTypeCount,
    classify_overlaps,
    count_error_types,
    tally_error_types,
)
from halfpixel.evaluation.detection.object_matching import DetectionCounts, ImageOverlaps, match_overlaps, tally
from halfpixel.evaluation.detection.overlaps import Areas, Indices, Kind
from halfpixel.evaluation.detection.size_ranges import SizeRange, group_by_size
from halfpixel.structures.instances import Instances

Estimate = tuple[float | None, Interval | None]


@dataclass(frozen=True)
class DetectionEstimate:
    """Pooled counts at one IoU, and the intervals of the ratios among its properties, by name."""

    counts: DetectionCounts
    intervals: Intervals

    @property
    def interval(self) -> Interval | None:
        """The one of `counts.accuracy`; None for fewer than two images."""
        return self.intervals.get("accuracy")


@dataclass(frozen=True)
class ErrorTypeRate:
    """How often one type of error happened, also per 100 annotated objects (None where there are none)."""

    count: ErrorTypeCount
    per_100: float | None
    interval: Interval | None


@dataclass(frozen=True)
class SliceEvaluation:
    """Some of the images, or one of the classes.

    Attributes:
        n_images: how many.
        n_objects: annotated objects on them, ignored regions not included.
        mask_ap: COCO mask AP at the limit of `Evaluation.max_detections`, over all predictions; None for boxes.
        mask_ap_interval: where it was asked for.
        box_ap: the same of boxes, where the objects have nothing else; else None.
        box_ap_interval: likewise.
        detection: pooled true and false positives and false negatives at each IoU, ascending, at the score threshold.
        count: errors of the images' totals, at the score threshold.
        error_types: what went wrong, at the score threshold.
    """

    n_images: int
    n_objects: int
    mask_ap: float | None
    mask_ap_interval: Interval | None
    detection: tuple[DetectionEstimate, ...]
    count: CountError
    error_types: tuple[ErrorTypeRate, ...]
    box_ap: float | None = None
    box_ap_interval: Interval | None = None

    @property
    def ap(self) -> Estimate:
        """Average precision of what the objects were compared by."""
        return (self.box_ap, self.box_ap_interval) if self.mask_ap is None else (self.mask_ap, self.mask_ap_interval)

    @property
    def count_mae_interval(self) -> Interval | None:
        """Of `count.mae`; None for fewer than two images."""
        return self.count.intervals.get("mae")


@dataclass(frozen=True)
class SizeEvaluation:
    """Objects of one range of areas; the attributes are those of `SliceEvaluation`."""

    range: SizeRange
    n_objects: int
    mask_ap: float | None
    mask_ap_interval: Interval | None
    detection: tuple[DetectionEstimate, ...]
    box_ap: float | None = None
    box_ap_interval: Interval | None = None

    @property
    def ap(self) -> Estimate:
        """Average precision of what the objects were compared by."""
        return (self.box_ap, self.box_ap_interval) if self.mask_ap is None else (self.mask_ap, self.mask_ap_interval)


class Parts:
    """Tallies of every image, from which any part of the whole is summed up."""

    def __init__(
        self,
        dataset: Dataset,
        predictions: Sequence[Instances],
        matches: CocoMatches,
        ranges: Sequence[SizeRange],
        conditions: Conditions,
    ) -> None:
        self.conditions, self.matches, self.ranges = conditions, matches, ranges
        self.class_names = dataset.class_names
        kind, ious = conditions.compared_by, conditions.ious
        kept = [predicted.above(conditions.threshold) for predicted in predictions]
        n, k = len(dataset.samples), len(dataset.class_names)
        tallies, wrong, self.counts, self.errors = [], [], [], []
        for sample, objects in zip(dataset.samples, kept, strict=True):
            overlaps = ImageOverlaps.of(sample.objects, objects, sample.ignored, kind)
            self.counts.append(count_image(sample, objects, overlaps.excused))
            truth_groups = _groups(sample.objects, sample.areas_px.double().numpy(), ranges)
            found_groups = _groups(objects, overlaps.predicted_px, ranges)
            tallies.append(tally(match_overlaps(overlaps, ious), truth_groups, found_groups, k + len(ranges)))
            errors = classify_overlaps(overlaps)
            self.errors.append(errors)
            wrong.append(tally_error_types(errors, sample.objects, objects))
        groups: Floats = np.array(tallies).reshape(n, k + len(ranges), len(ious), 4)
        self.by_class, self.by_size = np.ascontiguousarray(groups[:, :k]), np.ascontiguousarray(groups[:, k:])
        self.wrong: npt.NDArray[np.int64] = np.array(wrong, dtype=np.int64).reshape(n, k, len(ERROR_TYPES), 3)

    def of_images(self, images: Sequence[int] | None, ap: Estimate | None = None) -> SliceEvaluation:
        """Some of the images (None: all), with AP computed here unless it is known."""
        members = np.arange(len(self.counts)) if images is None else np.array(images, dtype=np.int64)
        if ap is None:
            ap = self._ap_of(images=members)
        count = count_error([self.counts[k] for k in members.tolist()], resamples=RESAMPLES, seed=self.conditions.seed)
        return self._slice(count, ap, self.by_class[members].sum(1), self.wrong[members].sum(1))

    def of_classes(self, ap: CocoAP) -> dict[str, SliceEvaluation]:
        """Each class over all images."""
        return {
            name: self._slice(
                count_error(self.counts, k, resamples=RESAMPLES, seed=self.conditions.seed),
                (ap.per_class[name], ap.per_class_intervals.get(name)),
                self.by_class[:, k],
                self.wrong[:, k],
            )
            for k, name in enumerate(self.class_names)
        }

    def of_sizes(self) -> tuple[SizeEvaluation, ...]:
        """Objects of each range of areas."""
        found = []
        for k, size in enumerate(self.ranges):
            ap = self._ap_of(area_range=N_COCO_RANGES + k)
            tallies = self.by_size[:, k]
            n_objects = int(tallies[:, 0, 0].sum() + tallies[:, 0, 2].sum())
            found.append(SizeEvaluation(size, n_objects, detection=self._detection(tallies), **self._named(ap)))
        return tuple(found)

    def _slice(self, count: CountError, ap: Estimate, tallies: Floats, wrong: npt.NDArray[np.int64]) -> SliceEvaluation:
        return SliceEvaluation(
            n_images=count.n_images,
            n_objects=count.true,
            detection=self._detection(tallies),
            count=count,
            error_types=self._rates(wrong, tallies),
            **self._named(ap),
        )

    def _ap_of(self, *, area_range: int = 0, images: Indices | None = None) -> Estimate:
        how = self.conditions
        return self.matches.part(
            how.max_detections, area_range=area_range, images=images, resamples=how.ap_resamples, seed=how.seed
        )

    def _named(self, ap: Estimate) -> dict[str, Any]:
        """By what the objects are compared by."""
        kinds: tuple[Kind, ...] = ("mask", "box")
        estimates = {kind: ap if kind == self.conditions.compared_by else (None, None) for kind in kinds}
        return {f"{kind}_ap{end}": one[k] for kind, one in estimates.items() for k, end in enumerate(("", "_interval"))}

    def _detection(self, tallies: Floats) -> tuple[DetectionEstimate, ...]:
        """From `[image, iou, 4]`: TP, FP, FN and the sum of the pairs' IoUs."""
        n, t = tallies.shape[:2]
        pooled = tallies.sum(0).tolist()
        drawn = resampled_sums(tallies.reshape(n, t * 4), seed=self.conditions.seed).reshape(-1, t, 4)
        ratios = {(k, name): one for k in range(t) for name, one in accuracy_ratios(drawn[:, k]).items()}
        intervals = named_intervals(ratios, seed=self.conditions.seed)
        return tuple(
            DetectionEstimate(
                DetectionCounts(iou, int(tp), int(fp), int(fn), iou_sum),
                {name: one for (place, name), one in intervals.items() if place == k},
            )
            for k, (iou, (tp, fp, fn, iou_sum)) in enumerate(zip(self.conditions.ious, pooled, strict=True))
        )

    def _rates(self, wrong: npt.NDArray[np.int64], tallies: Floats) -> tuple[ErrorTypeRate, ...]:
        """From `[image, type, 3]`: events, annotated and predicted objects."""
        annotated = tallies[:, 0, 0] + tallies[:, 0, 2]
        total = annotated.sum()
        intervals = bootstrap_ratios(100 * wrong[:, :, 0], annotated, seed=self.conditions.seed)
        return tuple(
            ErrorTypeRate(count, 100 * count.events / float(total) if total else None, interval)
            for count, interval in zip(count_error_types(wrong), intervals, strict=True)
        )


def _groups(objects: Instances, areas_px: Areas, ranges: Sequence[SizeRange]) -> Indices:
    """`[p, n]` for `tally`: the class of each object, then its place among COCO's size ranges and the quarters."""
    rows, first = [objects.labels.numpy()], len(objects.class_names)
    for of in ("COCO", "quarter"):
        some = [one for one in ranges if one.of == of]
        if some:
            rows.append(first + group_by_size(areas_px, some))
        first += len(some)
    return np.stack(rows)


def accuracy_ratios(sums: Floats) -> dict[str, Floats]:
    """The ratios of `DetectionCounts`, by its names, from draws `[r, 4]`."""
    tp, fp, fn, iou_sum = sums.T
    return {
        "accuracy": divide(tp, tp + fp + fn),
        "precision": divide(tp, tp + fp),
        "recall": divide(tp, tp + fn),
        "f1": divide(2 * tp, 2 * tp + fp + fn),
        "mean_matched_iou": divide(iou_sum, tp),
    }
