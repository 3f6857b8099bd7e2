"""Two models on the same annotated images, audited side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation import definitions
from halfpixel.evaluation.bootstrap import RESAMPLES, Floats, image_draws
from halfpixel.evaluation.counts.count_errors import CountError, ImageCount, count_error
from halfpixel.evaluation.detection.error_types import ERROR_TYPES, LABELS, ErrorType, ImageErrors
from halfpixel.evaluation.detection.overlaps import Indices, Kind, kind_of_comparison
from halfpixel.evaluation.evaluation import images_by
from halfpixel.evaluation.paired_difference import FEWEST_IMAGES, Contrast, contrast
from halfpixel.evaluation.per_image import IOUS, RATIOS, Audit, Candidate, Totals, audit
from halfpixel.evaluation.to_json import plain, with_old_names


@dataclass(frozen=True)
class Measure:
    """A number that both models get.

    Attributes:
        label: for people.
        best: what neither can be better than: 0 for an error, 1 for an accuracy.
        group: what it is about.
        digits: to show after the point.
        with_ratio: A / B is of interest, too.
    """

    label: str
    best: float
    group: str
    digits: int = 3
    with_ratio: bool = False


def _measures() -> dict[str, Measure]:
    """In the order in which they are shown."""
    measures = {
        "count_mae": Measure("count MAE", 0, "counts", 2, with_ratio=True),
        "count_bias": Measure("count bias", 0, "counts", 2),
    }
    measures |= {name: Measure(LABELS[name], 0, "error_types", 2, with_ratio=True) for name in ERROR_TYPES}
    for iou in IOUS:
        for name in RATIOS:
            label = f"{'F1' if name == 'f1' else name} at IoU {iou:.2f}"
            measures[f"{name}_{100 * iou:.0f}"] = Measure(label, 1, "accuracy")
    measures["mask_ap"] = Measure("COCO mask AP", 1, "accuracy")
    measures["box_ap"] = Measure("COCO box AP", 1, "accuracy")
    measures["area_ratio"] = Measure("total area, found / annotated", 1, "areas")
    measures["median_area_ratio"] = Measure("median area of pairs, found / annotated", 1, "areas")
    return measures


MEASURES: Mapping[str, Measure] = _measures()
"""By their names in the report, of which masks and boxes each have their own AP; error types are events per 100
annotated objects."""


@dataclass(frozen=True)
class PartComparison:
    """All images or some of them.

    Attributes:
        n_images: how many.
        n_objects: annotated objects on them, ignored regions not included.
        area_px: of those objects.
        a: what A found.
        b: what B found.
        contrasts: each of the `MEASURES` that there is.
    """

    n_images: int
    n_objects: int
    area_px: int
    a: Totals
    b: Totals
    contrasts: dict[str, Contrast]


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two, and what it did in each image.

    Attributes:
        name: the model's or the file's.
        threshold: its score threshold.
        max_detections: the limit of its AP.
        n_saturated: images in which the predictor's own limit cut objects off.
        count: errors of the images' totals.
        images: true and predicted counts of each image.
        error_types: of each image; indices into the annotated objects, and the predicted ones at the threshold.
        events: for each image how often each thing went wrong.
        areas_px: of all its objects, those in ignored regions left out.
    """

    name: str
    threshold: float
    max_detections: int
    n_saturated: int
    count: CountError
    images: tuple[ImageCount, ...]
    error_types: tuple[ImageErrors, ...]
    events: tuple[dict[ErrorType, int], ...]
    areas_px: Floats

    def of_image(self, k: int) -> dict[str, object]:
        """What `to_json` says of an image."""
        error_types = {name: number for name, number in self.events[k].items() if number}
        return with_old_names({"predicted": sum(self.images[k].predicted), "error_types": error_types})


_OF_IMAGES = ("images", "error_types", "events", "areas_px")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What was measured of both, and how.

    Attributes:
        data: the name of the annotation file or folder.
        class_names: the data set's classes.
        seed: of the bootstrap.
        ap_resamples: draws for the intervals of AP.
        n_ignored: ignored (crowd) regions.
        compared_by: masks, or boxes where some predicted objects of one of the two have nothing else.
        a: the first.
        b: the second.
        areas_px: of all annotated objects.
        overall: all images.
        slice_by: the image attribute that `slices` divides by, None when no image carries it.
        slices: the images of each value of that attribute.
    """

    data: str
    class_names: tuple[str, ...]
    seed: int
    ap_resamples: int
    n_ignored: int
    compared_by: Kind
    a: Side
    b: Side
    areas_px: Floats
    overall: PartComparison
    slice_by: str | None
    slices: dict[str, PartComparison]

    @property
    def definitions(self) -> dict[str, str]:
        """What each number means."""
        thresholds = f"{self.a.threshold:g}"
        if self.a.threshold != self.b.threshold:
            thresholds += f" (A) or {self.b.threshold:g} (B)"
        kind = self.compared_by
        said = definitions.define(thresholds, self.seed, self.ap_resamples, self.slice_by, kind)
        wanted = (
            "intervals",
            "count_mae",
            "count_bias",
            "error_types",
            "accuracy",
            "precision",
            "recall",
            "f1",
            "slices",
        )
        limits = " (A) and ".join(dict.fromkeys(f"{one.max_detections:,}" for one in (self.a, self.b)))
        return {
            "compared_by": definitions.COMPARED_BY[kind],
            **{name: said[name] for name in wanted if name in said},
            **definitions.ERROR_TYPES,
            f"{kind}_ap": (
                f"Area under the precision-recall curve, mean over classes and {kind} IoU .50 to .95, of all "
                f"predictions whatever their score, at most {limits}{' (B)' if '(A)' in limits else ''} of each "
                f"class and image. It rewards a good order of the scores: a model without them, or a file cut at a "
                f"high one, gets less."
            ),
            **_DEFINITIONS,
            **({} if kind == "mask" else dict.fromkeys(_OF_MASKS, definitions.NOT_COMPUTED)),
        }

    def to_json(self) -> dict[str, object]:
        """Plain dictionaries, lists, numbers, strings and None; undefined numbers are None, intervals two numbers."""
        everything = _plain_fields(self, ("a", "b", "areas_px"))
        everything |= {"a": _plain_fields(self.a, _OF_IMAGES), "b": _plain_fields(self.b, _OF_IMAGES)}
        everything["n_images"], everything["n_objects"] = self.overall.n_images, self.overall.n_objects
        everything["images"] = [
            {
                "image_id": one.image_id,
                "file_name": one.path.name,
                "true": sum(one.true),
                "a": self.a.of_image(k),
                "b": self.b.of_image(k),
            }
            for k, one in enumerate(self.a.images)
        ]
        return {**everything, "definitions": with_old_names(self.definitions)}


_OF_MASKS = ("mask_ap", "area_ratio", "median_area_ratio")
"""What there is not where boxes are compared: a box says little about the area of what is in it."""

_DEFINITIONS = {
    "area_ratio": (
        "Sum of the areas of the predictions over the sum of the areas of the annotated objects, in pixels of their "
        "masks. Pixels in several objects count for each; predictions mostly in an ignored region are left out."
    ),
    "median_area_ratio": (
        "Median over the pairs at IoU .5 of predicted area / annotated area, which lies between .5 and 2: above 1, "
        "objects are outlined too large."
    ),
    "difference": "A - B on the same images, its interval from the same draws of images for both.",
    "ratio": (
        "A / B on the same images, its interval from the same draws of images for both, sums divided last. A draw in "
        "which B has none counts as endlessly large; there is no interval where that leaves it without an upper end."
    ),
    "better": (
        f"Who is nearer to the best value (0 for errors and bias, 1 for accuracies and for ratios of areas). Said only "
        f"where the 95% interval of the difference of the two distances leaves out 0, and from {FEWEST_IMAGES} images "
        f"upwards. If the two were equally good, one in twenty numbers would be expected to be marked by chance."
    ),
}


def compare(
    dataset: Dataset,
    a: Candidate,
    b: Candidate,
    *,
    slice_by: str | None = "modality",
    seed: int = 0,
    ap_resamples: int = 0,
) -> Comparison:
    """Measure two sets of predictions for the same images, and how far apart they are.

    Args:
        dataset: the annotations.
        a: one of the two.
        b: the other.
        slice_by: an image attribute; everything is also given for each of its values.
        seed: of the bootstrap.
        ap_resamples: draws for the intervals of AP, which take longer than the others; 0 for none.

    Raises:
        ArgumentError: predictions that do not fit the data set, or a number out of range.
    """
    kind = kind_of_comparison(dataset, a.predictions, b.predictions)
    audits = audit(dataset, a, kind), audit(dataset, b, kind)

    def part(images: Sequence[int]) -> PartComparison:
        return _compare_part(*audits, np.array(images, dtype=np.int64), seed, ap_resamples)

    groups = images_by(dataset, slice_by)
    return Comparison(
        data=dataset.name,
        class_names=dataset.class_names,
        seed=seed,
        ap_resamples=ap_resamples,
        n_ignored=sum(len(sample.ignored) for sample in dataset.samples),
        compared_by=kind,
        a=_side(audits[0], seed),
        b=_side(audits[1], seed),
        areas_px=np.concatenate([np.zeros(0), *audits[0].true_areas_px]),
        overall=part(range(len(dataset.samples))),
        slice_by=slice_by if groups else None,
        slices={name: part(images) for name, images in groups.items()},
    )


def _compare_part(a: Audit, b: Audit, images: Indices, seed: int, ap_resamples: int) -> PartComparison:
    once = np.ones((1, len(images)), dtype=np.float32)
    draws = image_draws(len(images), seed=seed)
    fewer = image_draws(len(images), seed=seed, resamples=ap_resamples)
    (values_a, drawn_a), (values_b, drawn_b) = (
        (
            {**one.numbers(images, once), f"{one.ap.kind}_ap": one.mean_ap(images, once)},
            {**one.numbers(images, draws), f"{one.ap.kind}_ap": one.mean_ap(images, fewer)},
        )
        for one in (a, b)
    )
    return PartComparison(
        n_images=len(images),
        n_objects=sum(len(a.true_areas_px[k]) for k in images.tolist()),
        area_px=int(sum(a.true_areas_px[k].sum() for k in images.tolist())),
        a=a.totals(images),
        b=b.totals(images),
        contrasts={
            name: contrast(
                (values_a[name], values_b[name]),
                (drawn_a[name], drawn_b[name]),
                best=measure.best,
                with_ratio=measure.with_ratio,
                n_images=len(images),
                seed=seed,
            )
            for name, measure in MEASURES.items()
            if name in values_a
        },
    )


def _side(one: Audit, seed: int) -> Side:
    return Side(
        name=one.candidate.name,
        threshold=one.candidate.threshold,
        max_detections=one.candidate.max_detections,
        n_saturated=sum(objects.saturated for objects in one.candidate.predictions),
        count=count_error(one.counts, resamples=RESAMPLES, seed=seed),
        images=one.counts,
        error_types=one.error_types,
        events=one.events,
        areas_px=np.concatenate([np.zeros(0), *one.areas_px]),
    )


def _plain_fields(value: object, without: Sequence[str]) -> dict[str, object]:
    return {one.name: plain(getattr(value, one.name)) for one in fields(value) if one.name not in without}  # type: ignore[arg-type]
