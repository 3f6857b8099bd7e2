"""Everything that is measured of a set of predictions, with what each number means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError, MissingDependencyError
from halfpixel.evaluation import definitions
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.coco.average_precision import COCO_LIMIT, CocoAP, CocoMatches, match_coco
from halfpixel.evaluation.coco.boundary_ap import BoundaryAP, boundary_ap
from halfpixel.evaluation.counts.count_errors import ImageCount
from halfpixel.evaluation.detection.error_types import ImageErrors, classify_errors
from halfpixel.evaluation.detection.mask_matching import IOUS
from halfpixel.evaluation.detection.size_ranges import SizeRange, size_ranges
from halfpixel.evaluation.prefilter_savings import PrefilterEvaluation, evaluate_prefilter
from halfpixel.evaluation.slices import Parts, SizeEvaluation, SliceEvaluation
from halfpixel.evaluation.to_json import plain, with_old_names
from halfpixel.structures.instances import Instances

__all__ = ["AP_RESAMPLES", "AP_SCORE", "Evaluation", "SizeEvaluation", "SliceEvaluation", "evaluate"]

AP_SCORE = 0.05
"""Average precision looks at objects down to this score, as the usual evaluations of COCO do."""
AP_RESAMPLES = 500
"""Enough draws for the intervals of a report; they take seconds."""

_UNKNOWN = "unknown"
_NOT_ASKED = "not computed: it was not asked for (--boundary)"


@dataclass(frozen=True)
class Evaluation:
    """What was measured, and how.

    Attributes:
        data: the name of the annotation file or folder.
        class_names: the data set's classes.
        threshold: the score threshold of accuracy, counts and error types.
        max_detections: the limit of AP, for each class and image.
        seed: of the bootstrap.
        ap_resamples: draws for the intervals of AP.
        n_ignored: ignored (crowd) regions.
        n_saturated: images in which the predictor's own limit cut objects off.
        mask_ap_100: COCO mask AP, over all predictions, as COCO has it: at most 100 of each class and image.
        box_ap_100: the same for boxes.
        mask_ap: COCO mask AP at `max_detections`.
        box_ap: the same for boxes.
        boundary_ap: AP of outlines, None if not computed.
        boundary_note: why not, else "".
        overall: all images.
        slice_by: the image attribute that `slices` divides by, None when no image carries it.
        slices: the images of each value of that attribute.
        classes: each class; empty when there is only one.
        sizes: objects by area.
        images: true and predicted counts of each image.
        prefilter: what a first pass saved and lost; None where there was none, or it let the network look everywhere.
        error_types: of each image; indices into the annotated objects, and the predicted ones at the score threshold.
    """

    data: str
    class_names: tuple[str, ...]
    threshold: float
    max_detections: int
    seed: int
    ap_resamples: int
    n_ignored: int
    n_saturated: int
    mask_ap_100: CocoAP
    box_ap_100: CocoAP
    mask_ap: CocoAP
    box_ap: CocoAP
    boundary_ap: BoundaryAP | None
    boundary_note: str
    overall: SliceEvaluation
    slice_by: str | None
    slices: dict[str, SliceEvaluation]
    classes: dict[str, SliceEvaluation]
    sizes: tuple[SizeEvaluation, ...]
    images: tuple[ImageCount, ...]
    prefilter: PrefilterEvaluation | None
    error_types: tuple[ImageErrors, ...] = field(repr=False)

    @property
    def definitions(self) -> dict[str, str]:
        """What each number means, by its name in `to_json()`."""
        boundary = self.boundary_ap.definition if self.boundary_ap else f"Boundary AP is {self.boundary_note}."
        return {
            "mask_ap_100": self.mask_ap_100.definition,
            "box_ap_100": self.box_ap_100.definition,
            "mask_ap": self.mask_ap.definition,
            "box_ap": self.box_ap.definition,
            "boundary_ap": boundary,
            **definitions.define(f"{self.threshold:g}", self.seed, self.ap_resamples, self.slice_by),
            **definitions.ERROR_TYPES,
            **({} if self.prefilter is None else {"prefilter": definitions.PREFILTER}),
        }

    def to_json(self) -> dict[str, object]:
        """Plain dictionaries, lists, numbers, strings and None; undefined numbers are None, intervals two numbers."""
        everything: dict[str, object] = plain(self)
        everything["n_images"], everything["n_objects"] = self.overall.n_images, self.overall.n_objects
        everything["images"] = [
            self._image(one, wrong) for one, wrong in zip(self.images, self.error_types, strict=True)
        ]
        for name in ("error_types", "mistakes"):  # of single images
            del everything[name]
        return {**everything, "definitions": with_old_names(self.definitions)}

    def _image(self, one: ImageCount, wrong: ImageErrors) -> dict[str, object]:
        """What `to_json` says of an image."""
        error_types = {
            name: {"annotated": len(wrong.truths[name]), "predicted": len(wrong.predictions[name])}
            for name in wrong.truths
            if len(wrong.truths[name]) or len(wrong.predictions[name])
        }
        return with_old_names(
            {
                "image_id": one.image_id,
                "file_name": one.path.name,
                "true": dict(zip(self.class_names, one.true, strict=True)),
                "predicted": dict(zip(self.class_names, one.predicted, strict=True)),
                "error_types": error_types,
            }
        )


def evaluate(
    dataset: Dataset,
    predictions: Sequence[Instances],
    *,
    threshold: float,
    max_detections: int,
    slice_by: str | None = "modality",
    ious: Sequence[float] = IOUS,
    seed: int = 0,
    ap_resamples: int = 0,
    boundary: bool = False,
) -> Evaluation:
    """Compare predictions with annotations.

    Args:
        dataset: the annotations.
        predictions: one per sample, in the order of `dataset.samples`, with masks. AP needs them down to low scores;
            accuracy, counts and error types take those that score at least `threshold`.
        threshold: a score in 0..1.
        max_detections: the limit of AP for each class and image.
        slice_by: an image attribute; everything is also given for each of its values. Images without it are put under
            "unknown".
        ious: mask IoUs of the accuracy.
        seed: of the bootstrap intervals.
        ap_resamples: draws for the intervals of AP, which take longer than the others (see `AP_RESAMPLES`); 0 for none.
        boundary: compute boundary AP, which takes long on large images; without faster-coco-eval it is left out, and
            `boundary_note` says so.

    Raises:
        ArgumentError: predictions that do not fit the data set, objects without masks, or a number out of range.
    """
    _check(threshold, max_detections, ious)
    predictions = paired(dataset, predictions)
    kept = [predicted.above(threshold) for predicted in predictions]
    ranges, most = size_ranges(dataset), max(max_detections, COCO_LIMIT)
    masks = match_coco(dataset, predictions, kind="mask", max_detections=most, ranges_px=_closed_px(ranges))
    boxes = match_coco(dataset, predictions, kind="box", max_detections=most)
    errors = [
        classify_errors(sample.objects, objects, sample.ignored)
        for sample, objects in zip(dataset.samples, kept, strict=True)
    ]
    parts = Parts(dataset, kept, errors, masks, tuple(ious), ranges, max_detections, ap_resamples, seed)
    groups = images_by(dataset, slice_by)
    mask_ap_100, mask_ap = _at_both_limits(masks, max_detections, ap_resamples, seed)
    box_ap_100, box_ap = _at_both_limits(boxes, max_detections, ap_resamples, seed)
    outlines, note = (
        _boundary(dataset, predictions, max_detections, ap_resamples, seed) if boundary else (None, _NOT_ASKED)
    )
    return Evaluation(
        data=dataset.path.name,
        class_names=dataset.class_names,
        threshold=threshold,
        max_detections=max_detections,
        seed=seed,
        ap_resamples=ap_resamples,
        n_ignored=sum(len(sample.ignored) for sample in dataset.samples),
        n_saturated=sum(predicted.saturated for predicted in predictions),
        mask_ap_100=mask_ap_100,
        box_ap_100=box_ap_100,
        mask_ap=mask_ap,
        box_ap=box_ap,
        boundary_ap=outlines,
        boundary_note=note,
        overall=parts.of_images(None, (mask_ap.ap, mask_ap.intervals.get("ap"))),
        slice_by=slice_by if groups else None,
        slices={name: parts.of_images(members) for name, members in groups.items()},
        classes=parts.of_classes(mask_ap) if len(dataset.class_names) > 1 else {},
        sizes=parts.of_sizes(),
        images=tuple(parts.counts),
        prefilter=evaluate_prefilter(dataset, predictions),
        error_types=tuple(errors),
    )


def images_by(dataset: Dataset, slice_by: str | None) -> dict[str, list[int]]:
    """The images of each value of an attribute; none when no image carries it."""
    if slice_by is None or not any(slice_by in sample.attributes for sample in dataset.samples):
        return {}
    values = [str(sample.attributes.get(slice_by, _UNKNOWN)) for sample in dataset.samples]
    return {value: [k for k, one in enumerate(values) if one == value] for value in sorted(set(values))}


def _closed_px(ranges: Sequence[SizeRange]) -> list[tuple[float, float]]:
    """With their upper ends, as COCO's ranges have them."""
    return [(one.low_px, np.inf if one.high_px is None else np.nextafter(one.high_px, 0)) for one in ranges]


def _check(threshold: float, max_detections: int, ious: Sequence[float]) -> None:
    if not 0 <= threshold <= 1:
        raise ArgumentError(f"the score threshold must be in 0..1, got {threshold}")
    if max_detections < 1:
        raise ArgumentError(f"max_detections must be at least 1, got {max_detections}")
    if not ious:
        raise ArgumentError("expected at least one IoU")


def _at_both_limits(matches: CocoMatches, max_detections: int, resamples: int, seed: int) -> tuple[CocoAP, CocoAP]:
    """COCO's numbers at 100 detections and at the limit."""
    coco = matches.summary(COCO_LIMIT, resamples=resamples, seed=seed)
    if matches.most_found <= min(COCO_LIMIT, max_detections):  # neither limit cuts anything off
        return coco, replace(coco, max_detections=max_detections)
    return coco, matches.summary(max_detections, resamples=resamples, seed=seed)


def _boundary(
    dataset: Dataset, predictions: Sequence[Instances], max_detections: int, resamples: int, seed: int
) -> tuple[BoundaryAP | None, str]:
    try:
        options = {"max_detections": max_detections, "resamples": resamples, "seed": seed}
        return boundary_ap(dataset, predictions, **options), ""
    except MissingDependencyError as error:
        return None, f"not computed: {error}"
