"""Everything that is measured of a set of predictions, with what each number means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from halfpixel.evaluation.detection.object_matching import IOUS
from halfpixel.evaluation.detection.overlaps import Kind, compared_by
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

_APS = ("mask_ap_100", "box_ap_100", "mask_ap", "box_ap")
_UNKNOWN = "unknown"
_NO_BOUNDARY = None, "not computed: it was not asked for (--boundary)"


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
        compared_by: masks, or boxes where the predicted objects have nothing else; `accuracy` and all that follows.
        mask_ap_100: COCO mask AP, over all predictions, as COCO has it: at most 100 of each class and image; None where
            objects are compared by boxes.
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
    compared_by: Kind
    mask_ap_100: CocoAP | None
    box_ap_100: CocoAP
    mask_ap: CocoAP | None
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
    def ap(self) -> CocoAP:
        """COCO AP at `max_detections` of what the objects were compared by."""
        return self.box_ap if self.mask_ap is None else self.mask_ap

    @property
    def definitions(self) -> dict[str, str]:
        """What each number means, by its name in `to_json()`."""
        boundary = self.boundary_ap.definition if self.boundary_ap else f"Boundary AP is {self.boundary_note}."
        return {
            **{name: ap.definition for name in _APS if (ap := getattr(self, name)) is not None},
            "boundary_ap": boundary,
            **definitions.define(f"{self.threshold:g}", self.seed, self.ap_resamples, self.slice_by, self.compared_by),
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
        predictions: one per sample, in the order of `dataset.samples`. AP needs them down to low scores; accuracy,
            counts and error types take those that score at least `threshold`. Without masks, boxes are compared.
        threshold: a score in 0..1.
        max_detections: the limit of AP for each class and image.
        slice_by: an image attribute; everything is also given for each of its values. Images without it are put under
            "unknown".
        ious: of the accuracy.
        seed: of the bootstrap intervals.
        ap_resamples: draws for the intervals of AP, which take longer than the others (see `AP_RESAMPLES`); 0 for none.
        boundary: compute boundary AP, which takes long on large images; without faster-coco-eval it is left out, and
            `boundary_note` says so.

    Raises:
        ArgumentError: predictions that do not fit the data set, or a number out of range.
    """
    _check(threshold, max_detections, ious)
    predictions = paired(dataset, predictions)
    kind, ranges, most = compared_by(predictions), size_ranges(dataset), max(max_detections, COCO_LIMIT)
    matches = match_coco(dataset, predictions, kind=kind, max_detections=most, ranges_px=_closed_px(ranges))
    boxes = matches if kind == "box" else match_coco(dataset, predictions, kind="box", max_detections=most)
    aps = {one.kind: _at_both_limits(one, max_detections, ap_resamples, seed) for one in (matches, boxes)}
    kept = [predicted.above(threshold) for predicted in predictions]
    errors = [
        classify_errors(sample.objects, objects, sample.ignored)
        for sample, objects in zip(dataset.samples, kept, strict=True)
    ]
    parts = Parts(dataset, kept, errors, matches, tuple(ious), ranges, max_detections, ap_resamples, seed)
    outlines = _boundary(dataset, predictions, kind, max_detections, ap_resamples, seed) if boundary else _NO_BOUNDARY
    return _sum_up(dataset, predictions, threshold, parts, aps, outlines, errors, slice_by)


def _sum_up(
    dataset: Dataset,
    predictions: Sequence[Instances],
    threshold: float,
    parts: Parts,
    aps: Mapping[Kind, tuple[CocoAP, CocoAP]],
    outlines: tuple[BoundaryAP | None, str],
    errors: Sequence[ImageErrors],
    slice_by: str | None,
) -> Evaluation:
    """All numbers of the whole and of its parts."""
    kind, groups = parts.ap.kind, images_by(dataset, slice_by)
    mask_ap_100, mask_ap = aps.get("mask", (None, None))
    box_ap_100, box_ap = aps["box"]
    ap = aps[kind][1]
    return Evaluation(
        data=dataset.path.name,
        class_names=dataset.class_names,
        threshold=threshold,
        max_detections=parts.max_detections,
        seed=parts.seed,
        ap_resamples=parts.ap_resamples,
        n_ignored=sum(len(sample.ignored) for sample in dataset.samples),
        n_saturated=sum(predicted.saturated for predicted in predictions),
        compared_by=kind,
        mask_ap_100=mask_ap_100,
        box_ap_100=box_ap_100,
        mask_ap=mask_ap,
        box_ap=box_ap,
        boundary_ap=outlines[0],
        boundary_note=outlines[1],
        overall=parts.of_images(None, (ap.ap, ap.intervals.get("ap"))),
        slice_by=slice_by if groups else None,
        slices={name: parts.of_images(members) for name, members in groups.items()},
        classes=parts.of_classes(ap) if len(dataset.class_names) > 1 else {},
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
    dataset: Dataset, predictions: Sequence[Instances], kind: Kind, max_detections: int, resamples: int, seed: int
) -> tuple[BoundaryAP | None, str]:
    if kind == "box":
        return None, "not computed: the objects have no masks"
    try:
        options = {"max_detections": max_detections, "resamples": resamples, "seed": seed}
        return boundary_ap(dataset, predictions, **options), ""
    except MissingDependencyError as error:
        return None, f"not computed: {error}"
