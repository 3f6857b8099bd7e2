"""Everything that is measured of a set of predictions, with what each number means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from halfpixel.data.dataset import Dataset
from halfpixel.errors import MissingDependencyError
from halfpixel.evaluation import definitions
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.coco.average_precision import COCO_LIMIT, CocoAP, CocoMatches, match_coco
from halfpixel.evaluation.coco.boundary_ap import BoundaryAP, boundary_ap
from halfpixel.evaluation.conditions import Conditions
from halfpixel.evaluation.counts.count_errors import ImageCount
from halfpixel.evaluation.detection.error_types import ImageErrors
from halfpixel.evaluation.detection.object_matching import IOUS
from halfpixel.evaluation.detection.overlaps import Kind, kind_of_comparison
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
        compared_by: masks, or boxes where some objects have no masks: what accuracy, error types, sizes and ignored
            regions go by.
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
        aps = {name: getattr(self, name) for name in ("mask_ap_100", "box_ap_100", "mask_ap", "box_ap")}
        boundary = self.boundary_ap.definition if self.boundary_ap else f"Boundary AP is {self.boundary_note}."
        return {
            "compared_by": definitions.COMPARED_BY[self.compared_by],
            **{name: ap.definition if ap else definitions.NOT_COMPUTED for name, ap in aps.items()},
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
            counts and error types take those that score at least `threshold`. Masks are compared, or boxes where some
            objects have no masks.
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
    kind = kind_of_comparison(dataset, predictions)
    conditions = Conditions(kind, threshold, max_detections, tuple(ious), ap_resamples, seed)
    predictions, ranges = paired(dataset, predictions), size_ranges(dataset)
    matches = _match(dataset, predictions, ranges, conditions)
    parts = Parts(dataset, predictions, matches[kind], ranges, conditions)
    outlines = _boundary(dataset, predictions, conditions) if boundary else _NO_BOUNDARY
    return _sum_up(dataset, predictions, parts, _at_both_limits(matches, conditions), outlines, slice_by)


def _match(
    dataset: Dataset, predictions: Sequence[Instances], ranges: Sequence[SizeRange], conditions: Conditions
) -> dict[Kind, CocoMatches]:
    """Boxes by COCO's rules, and masks where they are compared; what is compared also in each range of areas."""
    most, kinds = max(conditions.max_detections, COCO_LIMIT), dict.fromkeys((conditions.compared_by, "box"))
    return {
        kind: match_coco(
            dataset,
            predictions,
            kind=kind,
            max_detections=most,
            ranges_px=_closed_px(ranges) if kind == conditions.compared_by else (),
        )
        for kind in kinds
    }


def _sum_up(
    dataset: Dataset,
    predictions: Sequence[Instances],
    parts: Parts,
    aps: Mapping[Kind, tuple[CocoAP, CocoAP]],
    outlines: tuple[BoundaryAP | None, str],
    slice_by: str | None,
) -> Evaluation:
    """The whole and its parts."""
    how, groups = parts.conditions, images_by(dataset, slice_by)
    mask_ap_100, mask_ap = aps.get("mask", (None, None))
    box_ap_100, box_ap = aps["box"]
    ap = aps[how.compared_by][1]
    return Evaluation(
        data=dataset.name,
        class_names=dataset.class_names,
        threshold=how.threshold,
        max_detections=how.max_detections,
        seed=how.seed,
        ap_resamples=how.ap_resamples,
        n_ignored=sum(len(sample.ignored) for sample in dataset.samples),
        n_saturated=sum(predicted.saturated for predicted in predictions),
        compared_by=how.compared_by,
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
        error_types=tuple(parts.errors),
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


def _at_both_limits(matches: Mapping[Kind, CocoMatches], conditions: Conditions) -> dict[Kind, tuple[CocoAP, CocoAP]]:
    """COCO's numbers at 100 detections and at the limit."""
    limit, found = conditions.max_detections, {}
    for kind, one in matches.items():
        draws = {"resamples": conditions.ap_resamples, "seed": conditions.seed}
        usual = one.summary(COCO_LIMIT, **draws)
        if one.most_found <= min(COCO_LIMIT, limit):  # neither limit cuts anything off
            found[kind] = usual, replace(usual, max_detections=limit)
        else:
            found[kind] = usual, one.summary(limit, **draws)
    return found


def _boundary(
    dataset: Dataset, predictions: Sequence[Instances], conditions: Conditions
) -> tuple[BoundaryAP | None, str]:
    if conditions.compared_by == "box":
        return None, f"not computed: {definitions.NO_MASKS}"
    limit, draws = conditions.max_detections, conditions.ap_resamples
    try:
        found = boundary_ap(dataset, predictions, max_detections=limit, resamples=draws, seed=conditions.seed)
    except MissingDependencyError as error:
        return None, f"not computed: {error}"
    return found, ""
