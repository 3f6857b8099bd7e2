"""What one model did in each image, from which its numbers on any images follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.bootstrap import Floats, divide
from halfpixel.evaluation.coco.average_precision import CocoMatches, match_coco
from halfpixel.evaluation.counts.count_errors import ImageCount, count_image
from halfpixel.evaluation.detection.error_types import (
    ERROR_TYPES,
    ErrorType,
    ImageErrors,
    classify_overlaps,
    count_error_types,
    tally_error_types,
)
from halfpixel.evaluation.detection.object_matching import (
    DetectionCounts,
    ImageMatch,
    ImageOverlaps,
    match_overlaps,
    pool,
)
from halfpixel.evaluation.detection.overlaps import Indices, Kind
from halfpixel.evaluation.slices import accuracy_ratios
from halfpixel.structures.instances import Instances

IOUS = (0.5, 0.75)
RATIOS = ("accuracy", "precision", "recall", "f1")

_AT_ONCE = 4_000_000


@dataclass(frozen=True, eq=False)
class Candidate:
    """What takes part in a comparison.

    Attributes:
        name: the model's or the file's.
        predictions: one per sample; AP needs them down to low scores.
        threshold: all other numbers take those that score at least this, 0..1.
        max_detections: the limit of AP, for each class and image.
    """

    name: str
    predictions: Sequence[Instances] = field(repr=False)
    threshold: float
    max_detections: int


@dataclass(frozen=True)
class Totals:
    """What a model found in some images, summed up.

    Attributes:
        objects: predicted.
        area_px: of those objects; where they overlap, pixels count for each.
        events: how often each thing went wrong.
        detection: pairs and objects left over, at each IoU.
    """

    objects: int
    area_px: int
    events: dict[ErrorType, int]
    detection: tuple[DetectionCounts, ...]


@dataclass(frozen=True, eq=False)
class Audit:
    """What a model did in each image; nothing is summed up yet.

    Attributes:
        candidate: the model.
        counts: true and predicted objects of each image.
        error_types: of each image; indices into the annotated objects, and the predicted ones at the threshold.
        matches: of each image at each of the `IOUS`.
        events: of each image, how often each thing went wrong.
        areas_px: for each image the areas of the predicted objects, those in ignored regions left out.
        true_areas_px: the same of the annotated objects.
        area_ratios: for each image the predicted over the annotated area of each pair at IoU .5.
        ap: what average precision is computed from.
    """

    candidate: Candidate
    counts: tuple[ImageCount, ...]
    error_types: tuple[ImageErrors, ...]
    matches: tuple[tuple[ImageMatch, ...], ...]
    events: tuple[dict[ErrorType, int], ...]
    areas_px: tuple[Floats, ...]
    true_areas_px: tuple[Floats, ...]
    area_ratios: tuple[Floats, ...]
    ap: CocoMatches

    def totals(self, images: Indices) -> Totals:
        """Sums over some images."""
        chosen = images.tolist()
        return Totals(
            objects=sum(sum(self.counts[k].predicted) for k in chosen),
            area_px=int(sum(self.areas_px[k].sum() for k in chosen)),
            events={name: sum(self.events[k][name] for k in chosen) for name in ERROR_TYPES},
            detection=tuple(pool(iou, (self.matches[k][n].counts for k in chosen)) for n, iou in enumerate(IOUS)),
        )

    def numbers(self, images: Indices, weights: npt.NDArray[np.float32]) -> dict[str, Floats]:
        """Every number but AP `[r]`, NaN where undefined, when images count several times.

        Args:
            images: the images to look at.
            weights: `[r, n]` how often each of them counts.
        """
        chosen = images.tolist()
        n, absolute, error, annotated, found_px, true_px, *rest = (weights @ self._terms[images]).T
        events, pairs = rest[: len(ERROR_TYPES)], rest[len(ERROR_TYPES) :]
        values = {"count_mae": divide(absolute, n), "count_bias": divide(error, n)}
        for name, number in zip(ERROR_TYPES, events, strict=True):
            values[name] = divide(100 * number, annotated)
        for k, iou in enumerate(IOUS):
            ratios = accuracy_ratios(np.stack(pairs[4 * k : 4 * k + 4], axis=1))
            values |= {f"{name}_{100 * iou:.0f}": ratios[name] for name in RATIOS}
        if self.ap.kind == "mask":  # a box says little about the area of what is in it
            values["area_ratio"] = divide(found_px, true_px)
            values["median_area_ratio"] = weighted_median([self.area_ratios[k] for k in chosen], weights)
        return values

    def mean_ap(self, images: Indices, weights: npt.NDArray[np.float32]) -> Floats:
        """COCO AP `[r]` at the model's limit; arguments as for `numbers`."""
        return self.ap.mean_ap(weights, self.candidate.max_detections, images=images)

    @cached_property
    def _terms(self) -> Floats:
        """`[n, m]`: for each image the terms of which `numbers` needs the sums."""
        rows = [
            [
                1, abs(count.error), count.error, len(true_px), found_px.sum(), true_px.sum(), *events.values(),
                *(term for one in matches for term in (one.counts.tp, one.counts.fp, one.counts.fn, 0)),
            ]
            for count, true_px, found_px, events, matches in zip(
                self.counts, self.true_areas_px, self.areas_px, self.events, self.matches, strict=True
            )
        ]  # fmt: skip
        return np.array(rows, dtype=np.float64).reshape(len(rows), 6 + len(ERROR_TYPES) + 4 * len(IOUS))


def audit(dataset: Dataset, candidate: Candidate, kind: Kind) -> Audit:
    """Look at every image.

    Args:
        dataset: the annotations.
        candidate: the model.
        kind: compare masks or boxes.

    Raises:
        ArgumentError: predictions that do not fit the data set, without masks where masks are compared, or a number
            out of range.
    """
    if not 0 <= candidate.threshold <= 1:
        raise ArgumentError(f"{candidate.name}: the score threshold must be in 0..1, got {candidate.threshold}")
    predictions = paired(dataset, candidate.predictions)
    kept = [one.above(candidate.threshold) for one in predictions]
    counts, errors, matches, events, areas, true_areas, ratios = [], [], [], [], [], [], []
    for sample, found in zip(dataset.samples, kept, strict=True):
        overlaps = ImageOverlaps.of(sample.objects, found, sample.ignored, kind)
        matched, wrong = match_overlaps(overlaps, IOUS), classify_overlaps(overlaps)
        truth_px, found_px = (one.astype(np.float64) for one in (overlaps.truth_px, overlaps.predicted_px))
        truths, partners = matched[0].pairs.T
        errors.append(wrong)
        matches.append(tuple(matched))
        tallies = tally_error_types(wrong, sample.objects, found)
        events.append({one.name: one.events for one in count_error_types(tallies)})
        counts.append(count_image(sample, found, overlaps.excused))
        areas.append(found_px[~overlaps.excused])
        true_areas.append(truth_px)
        ratios.append(found_px[partners] / truth_px[truths])
    return Audit(
        candidate=candidate,
        counts=tuple(counts),
        error_types=tuple(errors),
        matches=tuple(matches),
        events=tuple(events),
        areas_px=tuple(areas),
        true_areas_px=tuple(true_areas),
        area_ratios=tuple(ratios),
        ap=match_coco(dataset, predictions, kind=kind, max_detections=candidate.max_detections),
    )


def weighted_median(values: Sequence[Floats], weights: npt.NDArray[np.float32]) -> Floats:
    """The median `[r]` of the values of all images, NaN where there are none.

    Args:
        values: of each image.
        weights: `[r, n]` whole numbers: how often each image counts. Of an even number of values the two in the middle
            are averaged, as `numpy.median` does.
    """
    medians = np.full(len(weights), np.nan)
    everything = np.concatenate([np.zeros(0), *values])
    if everything.size == 0:
        return medians
    ascending = np.argsort(everything)
    image = np.repeat(np.arange(len(values)), [len(one) for one in values])[ascending]
    everything = everything[ascending]
    block = max(_AT_ONCE // everything.size, 1)
    for start in range(0, len(weights), block):
        passed = weights[start : start + block, image].cumsum(1, dtype=np.float64)
        for k, row in enumerate(passed, start=start):
            if row[-1]:
                middle = np.searchsorted(row, [row[-1] / 2, row[-1] / 2 + 0.5], side="left")
                medians[k] = everything[middle].mean()
    return medians
