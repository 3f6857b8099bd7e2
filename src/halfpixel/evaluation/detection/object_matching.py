"""Predicted objects paired one to one with annotated ones by their overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.detection.overlaps import Indices, Kind, intersections, iou_matrix, kind_of_comparison
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
    overlaps = iou_matrix(truth, predicted, kind)
    overlaps[truth.labels.numpy()[:, None] != predicted.labels.numpy()[None, :]] = 0
    excused = in_ignored(predicted, ignored, kind)
    matches = []
    for iou in ious:
        pairs = _assign(overlaps, iou)
        unpaired = np.ones(len(predicted), dtype=bool)
        unpaired[pairs[:, 1]] = False
        missed = np.ones(len(truth), dtype=bool)
        missed[pairs[:, 0]] = False
        matches.append(
            ImageMatch(
                iou=iou,
                pairs=pairs,
                pair_ious=overlaps[pairs[:, 0], pairs[:, 1]],
                false_positives=np.flatnonzero(unpaired & ~excused),
                false_negatives=np.flatnonzero(missed),
                ignored=np.flatnonzero(unpaired & excused),
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
        truth_groups: `[n]` the group of each annotated object, 0..n_groups - 1.
        predicted_groups: the same for the predicted objects.
        n_groups: how many groups.
    """

    def count(groups: Indices, weights: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float64]:
        return np.bincount(groups, weights, minlength=n_groups).astype(np.float64)

    rows = []
    for match in matches:
        paired_with = truth_groups[match.pairs[:, 0]]
        rows.append([
            count(paired_with), count(predicted_groups[match.false_positives]),
            count(truth_groups[match.false_negatives]), count(paired_with, match.pair_ious),
        ])  # fmt: skip
    return np.array(rows, dtype=np.float64).reshape(len(matches), 4, n_groups).transpose(2, 0, 1)


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def _assign(overlaps: npt.NDArray[np.float32], iou: float) -> Indices:
    """`[tp, 2]` row and column of each pair."""
    allowed = overlaps >= iou
    rows, columns = np.flatnonzero(allowed.any(1)), np.flatnonzero(allowed.any(0))
    allowed = allowed[np.ix_(rows, columns)]
    # one more pair outweighs any gain in overlap
    values = allowed * (1 + overlaps[np.ix_(rows, columns)].astype(np.float64) / (2 * max(len(rows), 1)))
    chosen_rows, chosen_columns = linear_sum_assignment(values, maximize=True)
    kept = allowed[chosen_rows, chosen_columns]
    return np.stack([rows[chosen_rows[kept]], columns[chosen_columns[kept]]], axis=1).astype(np.int64)
