"""COCO's average precision and recall: objects are matched by hotcoco, image by image."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from hotcoco import COCO, COCOeval

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.bootstrap import (
    Floats,
    Interval,
    Intervals,
    divide,
    image_draws,
    named_intervals,
    percentile_interval,
)
from halfpixel.evaluation.coco.accumulate import Ints, ScoredMatches, average_precision, average_recall
from halfpixel.evaluation.detection.overlaps import Kind
from halfpixel.structures.instances import Instances

COCO_LIMIT = 100
"""How many detections of a class and image the usual twelve numbers look at."""

_RANGES_PX = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
N_COCO_RANGES = len(_RANGES_PX)
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
N_IOUS = 10


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
        intervals: of the twelve numbers, by name, where they were asked for.
        per_class_intervals: of `per_class`.
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
    intervals: Intervals = field(default_factory=dict)
    per_class_intervals: Intervals = field(default_factory=dict)

    @property
    def definition(self) -> str:
        """What the numbers mean, in a sentence or two."""
        return (
            f"COCO {self.kind} AP: area under the interpolated precision-recall curve (101 points), mean over classes "
            f"and {self.kind} IoU .50 to .95 in steps of .05, all predictions whatever their score, at most "
            f"{self.max_detections:,} of each class and image. Crowd regions count neither way."
        )


@dataclass(frozen=True, eq=False)
class CocoMatches:
    """Who was matched with whom by COCO's rules, in every image: all that its numbers are computed from.

    Attributes:
        kind: what was compared.
        class_names: the data set's classes.
        n_images: how many.
        most_detections: matched per class and image; no number can be had at a higher limit.
        by_range: for each range of areas (COCO's four, then those asked for), the matches of each class.
    """

    kind: Kind
    class_names: tuple[str, ...]
    n_images: int
    most_detections: int
    by_range: tuple[tuple[ScoredMatches, ...], ...]

    def summary(self, max_detections: int, *, resamples: int = 0, seed: int = 0) -> CocoAP:
        """The twelve numbers at a limit, with intervals from `resamples` draws of the images."""
        self._check(max_detections)
        once = np.ones((1, self.n_images), dtype=np.float32)
        (values, classes), (drawn, drawn_classes) = (
            self._numbers(weights, max_detections)
            for weights in (once, image_draws(self.n_images, seed=seed, resamples=resamples))
        )
        return CocoAP(
            kind=self.kind,
            max_detections=max_detections,
            **{name: _number(value[0]) for name, value in values.items()},
            per_class={name: _number(value[0]) for name, value in classes.items()},
            intervals=named_intervals(drawn, seed=seed),
            per_class_intervals=named_intervals(drawn_classes, seed=seed),
        )

    def part(
        self, max_detections: int, *, area_range: int = 0, images: Ints | None = None, resamples: int = 0, seed: int = 0
    ) -> tuple[float | None, Interval | None]:
        """AP and its interval of some of the images, or of one of the ranges of areas in `by_range`."""
        n = self.n_images if images is None else len(images)
        once, draws = np.ones((1, n), dtype=np.float32), image_draws(n, seed=seed, resamples=resamples)
        value, drawn = (
            self.mean_ap(weights, max_detections, area_range=area_range, images=images) for weights in (once, draws)
        )
        return _number(value[0]), percentile_interval(drawn, seed=seed)

    def mean_ap(
        self, weights: npt.NDArray[np.float32], max_detections: int, *, area_range: int = 0, images: Ints | None = None
    ) -> Floats:
        """AP `[r]` when each of the images counts as often as `weights` `[r, n]` say; NaN without objects to find."""
        self._check(max_detections)
        matches = self.by_range[area_range]
        if images is not None:
            matches = tuple(one.of_images(images) for one in matches)
        return _mean(_precision(matches, weights, max_detections))

    @property
    def most_found(self) -> int:
        """The most detections of one class in one image: higher limits than this change nothing."""
        return max((int(one.rank.max(initial=-1)) + 1 for one in self.by_range[_ALL]), default=0)

    def _check(self, max_detections: int) -> None:
        if not 1 <= max_detections <= self.most_detections:
            raise ArgumentError(f"max_detections must be in 1..{self.most_detections}, got {max_detections}")

    def _numbers(self, weights: npt.NDArray[np.float32], limit: int) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Each of the twelve numbers, and each class's AP, as `[r]`."""
        ranges = {"small": _SMALL, "medium": _MEDIUM, "large": _LARGE}
        everything = self.by_range[_ALL]
        precision = _precision(everything, weights, limit)
        values = {"ap": _mean(precision), "ap50": _mean(precision[..., :1]), "ap75": _mean(precision[..., 5:6])}
        values |= {f"ap_{name}": _mean(_precision(self.by_range[k], weights, limit)) for name, k in ranges.items()}
        recalls = {"ar_1": (_ALL, 1), "ar_10": (_ALL, min(10, limit)), "ar_max": (_ALL, limit)}
        recalls |= {f"ar_{name}": (k, limit) for name, k in ranges.items()}
        for name, (k, cut) in recalls.items():
            values[name] = _mean(_recall(self.by_range[k], weights, cut))
        classes = {name: _mean(precision[k : k + 1]) for k, name in enumerate(self.class_names)}
        return values, classes


def coco_ap(
    dataset: Dataset, predictions: Sequence[Instances], *, kind: Kind, max_detections: int = COCO_LIMIT
) -> CocoAP:
    """Average precision as COCO defines it (Lin et al. 2014), equal to pycocotools.

    Annotated areas are `Sample.areas_px`, and every image of the data set is scored, also one without predictions.
    pycocotools always summarises at 100 detections; here AP is at `max_detections`. For intervals see
    `match_coco(...).summary`.

    Args:
        dataset: the annotations.
        predictions: one per sample, in the order of `dataset.samples`, not cut by any score threshold.
        kind: compare masks or boxes.
        max_detections: the limit for each class and image, at least 1.

    Raises:
        ArgumentError: predictions that do not fit the data set, masks missing for `kind="mask"`, or a limit below 1.
    """
    return match_coco(dataset, predictions, kind=kind, max_detections=max_detections).summary(max_detections)


def match_coco(
    dataset: Dataset,
    predictions: Sequence[Instances],
    *,
    kind: Kind,
    max_detections: int,
    ranges_px: Sequence[tuple[float, float]] = (),
) -> CocoMatches:
    """Match predicted and annotated objects by COCO's rules, the best scores first.

    Args:
        dataset: the annotations.
        predictions: one per sample, in the order of `dataset.samples`, not cut by any score threshold.
        kind: compare masks or boxes.
        max_detections: the highest limit that a number will be asked for at.
        ranges_px: more ranges of areas, both ends included, beside COCO's four.

    Raises:
        ArgumentError: see `coco_ap`.
    """
    if max_detections < 1:
        raise ArgumentError(f"max_detections must be at least 1, got {max_detections}")
    ranges = [*_RANGES_PX, *ranges_px]
    entries: dict[tuple[int, float, float], dict[int, dict[str, Any]]] = {}
    image_ids = [sample.image_id for sample in dataset.samples]
    with _no_search_for_cycles():
        for entry in _evaluated_images(dataset, paired(dataset, predictions), kind, max_detections, ranges):
            entries.setdefault((entry["category_id"], *entry["aRng"]), {})[entry["image_id"]] = entry
        by_range = tuple(
            tuple(_scored(entries.get((k + 1, *limits), {}), image_ids) for k in range(len(dataset.class_names)))
            for limits in ranges
        )
    return CocoMatches(kind, dataset.class_names, len(image_ids), max_detections, by_range)


def _scored(entries: dict[int, dict[str, Any]], image_ids: list[int]) -> ScoredMatches:
    """The images of one class and range put together."""
    annotated = np.zeros(len(image_ids), dtype=np.int64)
    scores, images, ranks = [np.zeros(0)], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    matched, ignored = [np.zeros((N_IOUS, 0), dtype=bool)], [np.zeros((N_IOUS, 0), dtype=bool)]
    # equal scores are taken in the order of the images' numbers
    for k in sorted(range(len(image_ids)), key=image_ids.__getitem__):
        entry = entries.get(image_ids[k])
        if entry is None:
            continue
        n = len(entry["dtScores"])
        annotated[k] = len(entry["gtIgnore"]) - sum(entry["gtIgnore"])
        scores.append(np.array(entry["dtScores"], dtype=np.float64))
        images.append(np.full(n, k))
        ranks.append(np.arange(n))
        matched.append(np.array(entry["dtMatched"], dtype=bool).reshape(N_IOUS, n))
        ignored.append(np.array(entry["dtIgnore"], dtype=bool).reshape(N_IOUS, n))
    best_first = np.argsort(-np.concatenate(scores), kind="stable")
    hit, passed = (np.concatenate(one, axis=1)[:, best_first] for one in (matched, ignored))
    image, rank = (np.concatenate(one)[best_first] for one in (images, ranks))
    return ScoredMatches(image, rank, right=hit & ~passed, wrong=~hit & ~passed, annotated=annotated)


def _evaluated_images(
    dataset: Dataset,
    predictions: Sequence[Instances],
    kind: Kind,
    max_detections: int,
    ranges: Sequence[tuple[float, float]],
) -> list[dict[str, Any]]:
    """Hotcoco's record of each image, class and range in which there is anything."""
    tables, results = coco_tables(dataset, predictions, kind)
    truth = COCO(tables)
    evaluation = COCOeval(truth, truth.load_res(results), "segm" if kind == "mask" else "bbox")
    evaluation.params.max_dets = [max_detections]
    evaluation.params.area_rng = [list(limits) for limits in ranges]
    evaluation.params.area_rng_lbl = [str(k) for k in range(len(ranges))]
    evaluation.evaluate()
    return [entry for entry in evaluation.eval_imgs if entry is not None]


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Hotcoco answers with millions of small lists, none of them in a cycle: looking for one takes longer than it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _precision(matches: Sequence[ScoredMatches], weights: npt.NDArray[np.float32], limit: int) -> Floats:
    """`[class, r, iou]`."""
    return np.stack([average_precision(one, weights, limit) for one in matches])


def _recall(matches: Sequence[ScoredMatches], weights: npt.NDArray[np.float32], limit: int) -> Floats:
    """`[class, r, iou]`."""
    return np.stack([average_recall(one, weights, limit) for one in matches])


def _mean(values: Floats) -> Floats:
    """Over classes and IoUs, `[r]`; a class without objects plays no part."""
    defined = ~np.isnan(values)
    return divide(np.where(defined, values, 0).sum((0, 2)), defined.sum((0, 2)))


def _number(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)


def coco_tables(
    dataset: Dataset, predictions: Sequence[Instances], kind: Kind
) -> tuple[dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Annotations and predictions (in the data set's classes) as the tables that COCO's evaluations read."""
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
    truth: dict[str, list[dict[str, Any]]] = {
        "images": [{"id": s.image_id, "height": s.size_hw[0], "width": s.size_hw[1]} for s in dataset.samples],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(dataset.class_names)],
        "annotations": annotations,
    }
    return truth, results


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
