"""Predicted objects paired one to one with annotated ones by their overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.detection.overlaps import (
    Areas,
    Floats,
    Indices,
    Kind,
    intersections,
    iou_from_areas,
    kind_of_comparison,
)
from halfpixel.ops.assignment import assign_sparsely
from halfpixel.structures.instances import Instances

IOUS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class DetectionCounts:
    """How well objects were found at one IoU; each ratio is None where there is nothing to divide by.

    Attributes:
        iou: a pair counts from this IoU upwards.
        tp: predicted objects paired with an annotated one.
        fp: predicted objects left over.
        fn: annotated objects left over.
        iou_sum: the IoUs of the pairs, added up.
    """

    iou: float
    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def accuracy(self) -> float | None:
        """TP / (TP + FP + FN): "AP" in the StarDist paper, the Jaccard index of the two sets of objects."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float | None:
        """The part of the predicted objects that is right."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """The part of the annotated objects that was found."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def mean_matched_iou(self) -> float | None:
        """The mean IoU of the pairs."""
        return _ratio(self.iou_sum, self.tp)


@dataclass(frozen=True, eq=False)
class ImageMatch:
    """Who was paired with whom in one image, at one IoU.

    Attributes:
        iou: a pair counts from this IoU upwards.
        pairs: `[tp, 2]` indices (annotated, predicted).
        pair_ious: `[tp]` the IoU of each pair.
        false_positives: indices of predicted objects left over.
        false_negatives: indices of annotated objects left over.
        ignored: indices of predicted objects without a partner that lie in an ignored region.
    """

    iou: float
    pairs: Indices
    pair_ious: npt.NDArray[np.float32]
    false_positives: Indices
    false_negatives: Indices
    ignored: Indices

    @property
    def counts(self) -> DetectionCounts:
        """How many there are of each."""
        return DetectionCounts(
            iou=self.iou,
            tp=len(self.pairs),
            fp=len(self.false_positives),
            fn=len(self.false_negatives),
            iou_sum=float(self.pair_ious.sum(dtype=np.float64)),
        )


@dataclass(frozen=True, eq=False)
class ImageOverlaps:
    """What the annotated and the predicted objects of an image have in common: computed once, asked for often.

    Attributes:
        truth: the annotated objects.
        predicted: the predicted objects, already cut at a score threshold.
        common_px: `[n, m]` pixels that each annotated and each predicted object have in common.
        truth_px: `[n]` areas of the annotated objects.
        predicted_px: `[m]` areas of the predicted ones.
        excused: `[m]` whether a predicted object lies in an ignored region, see `in_ignored`.
    """

    truth: Instances
    predicted: Instances
    common_px: Areas
    truth_px: Areas
    predicted_px: Areas
    excused: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, truth: Instances, predicted: Instances, ignored: Instances | None = None, kind: Kind = "mask"
    ) -> ImageOverlaps:
        """Compare the masks or boxes of an image.

        Raises:
            ArgumentError: objects without masks where masks are compared, or of images of different sizes.
        """
        common_px, truth_px, predicted_px = intersections(truth, predicted, kind)
        return cls(truth, predicted, common_px, truth_px, predicted_px, in_ignored(predicted, ignored, kind))

    @cached_property
    def ious(self) -> npt.NDArray[np.float32]:
        """`[n, m]` intersection over union, in 0..1."""
        return iou_from_areas(self.common_px, self.truth_px, self.predicted_px)

    @cached_property
    def same_class(self) -> npt.NDArray[np.bool_]:
        """`[n, m]` whether an annotated and a predicted object are of one class."""
        same: npt.NDArray[np.bool_] = self.truth.labels.numpy()[:, None] == self.predicted.labels.numpy()[None, :]
        return same


def match_image(
    truth: Instances,
    predicted: Instances,
    ignored: Instances | None = None,
    ious: Sequence[float] = IOUS,
    *,
    kind: Kind = "mask",
) -> list[ImageMatch]:
    """Pair objects of the same class, as many as possible at each IoU, then with the largest sum of IoUs.

    The assignment is optimal (Hungarian method), as in StarDist's evaluation: where objects overlap each other a greedy
    pairing can lose pairs. Scores play no part.

    Args:
        truth: the annotated objects.
        predicted: the predicted objects, already cut at a score threshold.
        ignored: crowd regions: a predicted object without a partner counts neither way when more than half of it lies
            in one of its own class.
        ious: thresholds above 0, inclusive.
        kind: compare masks or boxes.

    Raises:
        ArgumentError: objects without masks where masks are compared, or of images of different sizes.
    """
    return match_overlaps(ImageOverlaps.of(truth, predicted, ignored, kind), ious)


def match_overlaps(image: ImageOverlaps, ious: Sequence[float] = IOUS) -> list[ImageMatch]:
    """`match_image` of what was compared already."""
    overlaps = image.ious * image.same_class
    rows, columns = np.nonzero(overlaps >= min(ious, default=1))
    values = overlaps[rows, columns]
    matches = []
    for iou in ious:
        allowed = values >= iou
        pairs = _assign(rows[allowed], columns[allowed], values[allowed], image.ious.shape)
        unpaired = np.ones(len(image.predicted), dtype=bool)
        unpaired[pairs[:, 1]] = False
        missed = np.ones(len(image.truth), dtype=bool)
        missed[pairs[:, 0]] = False
        matches.append(
            ImageMatch(
                iou=iou,
                pairs=pairs,
                pair_ious=overlaps[pairs[:, 0], pairs[:, 1]],
                false_positives=(unpaired & ~image.excused).nonzero()[0],
                false_negatives=missed.nonzero()[0],
                ignored=(unpaired & image.excused).nonzero()[0],
            )
        )
    return matches


def in_ignored(predicted: Instances, ignored: Instances | None, kind: Kind = "mask") -> npt.NDArray[np.bool_]:
    """`[n]` whether more than half of each predicted object, by mask or box, is in one ignored region of its class."""
    if ignored is None or len(ignored) == 0 or len(predicted) == 0:
        return np.zeros(len(predicted), dtype=bool)
    common_px, areas_px, _ = intersections(predicted, ignored, kind)
    same_class = predicted.labels.numpy()[:, None] == ignored.labels.numpy()[None, :]
    covered: npt.NDArray[np.bool_] = (same_class & (2 * common_px > areas_px[:, None])).any(1)
    return covered


def match_dataset(
    dataset: Dataset, predictions: Sequence[Instances], ious: Sequence[float] = IOUS, *, kind: Kind | None = None
) -> list[list[ImageMatch]]:
    """`match_image` for every sample: for each image, one match per IoU.

    Args:
        dataset: the annotations.
        predictions: one per sample, already cut at a score threshold.
        ious: thresholds above 0, inclusive.
        kind: compare masks or boxes. Default: as `kind_of_comparison` finds.

    Raises:
        ArgumentError: predictions that do not fit the data set, or without masks where masks are compared.
    """
    kind = kind or kind_of_comparison(dataset, predictions)
    return [
        match_image(sample.objects, predicted, sample.ignored, ious, kind=kind)
        for sample, predicted in zip(dataset.samples, paired(dataset, predictions), strict=True)
    ]


def pooled_detection_counts(
    dataset: Dataset, predictions: Sequence[Instances], ious: Sequence[float] = IOUS
) -> list[DetectionCounts]:
    """TP, FP and FN summed over all images, for each IoU; their ratio is taken last.

    This is the number of Table 1 in Schmidt et al. 2018 (StarDist), who call it average precision. An image with
    neither objects nor predictions adds nothing. Masks are compared, or boxes where some objects have no masks.

    Raises:
        ArgumentError: predictions that do not fit the data set.
    """
    matches = match_dataset(dataset, predictions, ious)
    return [pool(iou, (image[k].counts for image in matches)) for k, iou in enumerate(ious)]


def pool(iou: float, counts: Iterable[DetectionCounts]) -> DetectionCounts:
    """The counts of several images, added up."""
    tp, fp, fn, iou_sum = 0, 0, 0, 0.0
    for one in counts:
        tp, fp, fn, iou_sum = tp + one.tp, fp + one.fp, fn + one.fn, iou_sum + one.iou_sum
    return DetectionCounts(iou, tp, fp, fn, iou_sum)


def tally(
    matches: Sequence[ImageMatch], truth_groups: Indices, predicted_groups: Indices, n_groups: int
) -> npt.NDArray[np.float64]:
    """TP, FP, FN and the sum of the pairs' IoUs in one image, `[group, iou, 4]`, apart for each group of objects.

    A pair, as a missed object, belongs to the annotated object's group, so that the groups add up to the whole.

    Args:
        matches: of one image, one for each IoU.
        truth_groups: `[p, n]` the group of each annotated object, 0..n_groups - 1, in each of `p` ways to group them.
        predicted_groups: `[p, m]` the same for the predicted objects.
        n_groups: how many groups, those of all ways together.
    """

    def count(groups: Indices, chosen: Sequence[Indices], weights: Sequence[npt.NDArray[np.float32]] = ()) -> Floats:
        rows = np.repeat(np.arange(len(chosen)) * n_groups, [len(one) for one in chosen])
        bins = groups[:, np.concatenate(chosen)] + rows
        each = np.tile(np.concatenate(weights), len(groups)) if weights else None
        return np.bincount(bins.ravel(), each, minlength=len(chosen) * n_groups).astype(np.float64)

    if not matches:
        return np.zeros((n_groups, 0, 4))
    in_pairs = [match.pairs[:, 0] for match in matches]
    sums = np.stack([
        count(truth_groups, in_pairs),
        count(predicted_groups, [match.false_positives for match in matches]),
        count(truth_groups, [match.false_negatives for match in matches]),
        count(truth_groups, in_pairs, [match.pair_ious for match in matches]),
    ])  # fmt: skip
    return sums.reshape(4, len(matches), n_groups).transpose(2, 1, 0)


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def _assign(rows: Indices, columns: Indices, overlaps: npt.NDArray[np.float32], shape: tuple[int, int]) -> Indices:
    """`[tp, 2]` row and column of each pair, out of those that are allowed, by ascending row."""
    # one more pair outweighs any gain in overlap
    gains = 1 + overlaps.astype(np.float64) / (2 * max(shape[0], 1))
    kept = assign_sparsely(rows, columns, gains, shape)
    return np.stack([rows[kept], columns[kept]], axis=1)
