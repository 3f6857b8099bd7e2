"""What a score threshold does to counts and to detection accuracy, and which one suits a goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from halfpixel.data.dataset import Dataset
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.counts.count_errors import CountError, ImageCount, count_error, image_counts
from halfpixel.evaluation.detection.object_matching import DetectionCounts, match_dataset, pool
from halfpixel.evaluation.detection.overlaps import Kind, kind_of_comparison
from halfpixel.evaluation.thresholds.goals import ROUNDING, Goal, check_wishes
from halfpixel.structures.instances import Instances

Floats = npt.NDArray[np.float64]

RESAMPLES, LEVEL = 2000, 0.95
_BLOCK = 100
"""Resamples drawn at a time, to bound the memory."""


@dataclass(frozen=True)
class SweepPoint:
    """Everything at one score threshold.

    Attributes:
        threshold: objects that score at least this are taken.
        found: how many those are, on all images.
        detection: pooled over images, at the sweep's IoU; None without annotations.
        count: errors of the images' totals; None without annotations.
    """

    threshold: float
    found: int
    detection: DetectionCounts | None = None
    count: CountError | None = None

    def to_json(self) -> dict[str, object]:
        """One row of the table: plain numbers, None where there is nothing to divide by or nothing annotated."""
        row: dict[str, object] = {"threshold": self.threshold, "found": self.found}
        if self.detection is None or self.count is None:
            return row
        row |= {"true": self.count.true, "count_bias": self.count.bias, "count_mae": self.count.mae}
        found = self.detection
        row |= {"precision": found.precision, "recall": found.recall, "f1": found.f1}
        row |= {"quality": found.accuracy}  # the old name, for one version
        return row | {"tp": found.tp, "fp": found.fp, "fn": found.fn, "accuracy": found.accuracy}


@dataclass(frozen=True)
class Recommendation:
    """The threshold that suits a goal best, of those that were swept.

    Attributes:
        goal: what it is good for.
        threshold: the choice.
        interval: what would have been chosen on other images of the same kind: 95% of bootstrap resamples of the images
            choose from `low` to `high`. None for fewer than two images, or where no resample reaches the goal.
        unreached: the part of the resamples in which no threshold reaches the goal, in 0..1; left out of the interval.
        tied: all thresholds that are as good as the choice, ascending, and the choice among them.
    """

    goal: Goal
    threshold: float
    interval: Interval | None
    unreached: float
    tied: tuple[float, ...]

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "for": str(self.goal),
            "threshold": self.threshold,
            "interval": None if self.interval is None else asdict(self.interval),
            "unreached": self.unreached,
            "tied": list(self.tied),
        }


@dataclass(frozen=True, eq=False)
class Sweep:
    """A range of thresholds on one set of images.

    Attributes:
        iou: the IoU from which a found and an annotated object count as the same.
        points: by ascending threshold.
        n_images: how many images.
        outcomes: `[thresholds, images, 4]` true positives, false positives, false negatives and the error of the count;
            None without annotations.
        compared_by: masks, or boxes where some objects have no masks.
    """

    iou: float
    points: tuple[SweepPoint, ...]
    n_images: int
    outcomes: Floats | None
    compared_by: Kind = "mask"

    def recommend(self, goal: Goal, seed: int = 0) -> Recommendation | None:
        """The threshold for a goal; None where none reaches it.

        Raises:
            ArgumentError: there are no annotations.
        """
        if self.outcomes is None:
            raise ArgumentError("a threshold can be recommended only where objects are annotated")
        best = self._best(goal, np.ones((1, self.n_images), dtype=np.int64))
        once = int(_middle(best)[0])
        if once < 0:
            return None
        tied = tuple(self.points[k].threshold for k in np.flatnonzero(best[0]).tolist())
        rng, share = np.random.default_rng(seed), np.full(self.n_images, 1 / self.n_images)
        blocks = [
            self._chosen(goal, rng.multinomial(self.n_images, share, size=min(_BLOCK, RESAMPLES - k)))
            for k in range(0, RESAMPLES, _BLOCK)
        ]
        chosen = np.concatenate(blocks)
        reached = np.array([point.threshold for point in self.points])[chosen[chosen >= 0]]
        interval = None
        if self.n_images > 1 and len(reached):
            low, high = np.quantile(reached, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest").tolist()
            interval = Interval(low, high, LEVEL, RESAMPLES, seed)
        return Recommendation(goal, self.points[once].threshold, interval, float(np.mean(chosen < 0)), tied)

    def _chosen(self, goal: Goal, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """`[draws]` the best threshold's place, -1 for none, when images are taken `[draws, images]` times."""
        return _middle(self._best(goal, times))

    def _best(self, goal: Goal, times: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """`[draws, thresholds]` which are best, and equally good; none of a row where none reaches the goal."""
        assert self.outcomes is not None
        tp, fp, fn, errors = np.moveaxis(self.outcomes, 2, 0)
        if goal.precision is not None:
            hits, false = times @ tp.T, times @ fp.T
            enough = (hits > 0) & (hits >= goal.precision * (hits + false) - ROUNDING)
            first: npt.NDArray[np.bool_] = enough & (enough.cumsum(1) == 1)
            return first
        if goal.kind == "f1":
            return _smallest(-(times @ (2 * tp).T) / np.maximum(times @ (2 * tp + fp + fn).T, 1))
        mae, bias = times @ np.abs(errors).T / self.n_images, times @ errors.T / self.n_images
        return _smallest(np.where(_smallest(mae), np.abs(bias), np.inf))


def sweep(
    dataset: Dataset, predictions: Sequence[Instances], thresholds: Sequence[float], *, iou: float = 0.5
) -> Sweep:
    """Compare predictions with annotations at each of several score thresholds.

    Objects are paired, and objects in ignored regions left out, as `halfpixel.evaluation.evaluation` does it: by their
    masks, or by their boxes where some objects have no masks.

    Args:
        dataset: the annotations.
        predictions: one per sample, from a score of at most the lowest threshold upwards.
        thresholds: ascending, in 0..1.
        iou: of masks or boxes, above 0 and at most 1.

    Raises:
        ArgumentError: predictions that do not fit the data set, or a number out of range.
    """
    check_wishes(thresholds, iou)
    kind = kind_of_comparison(dataset, predictions)
    points, outcomes = [], []
    for threshold in thresholds:
        kept = [predicted.above(threshold) for predicted in predictions]
        matched = [match.counts for (match,) in match_dataset(dataset, kept, [iou], kind=kind)]
        counts = image_counts(dataset, kept, kind=kind)
        error = count_error(counts)
        points.append(SweepPoint(threshold, error.predicted, pool(iou, matched), error))
        outcomes.append([(q.tp, q.fp, q.fn, _error(one)) for q, one in zip(matched, counts, strict=True)])
    table = np.array(outcomes, dtype=np.float64).reshape(len(points), -1, 4)
    return Sweep(iou, tuple(points), len(predictions), table, kind)


def count_curve(predictions: Sequence[Instances], thresholds: Sequence[float]) -> Sweep:
    """How many objects there are at each threshold, with nothing to compare them with.

    Raises:
        ArgumentError: thresholds that do not ascend, or are out of range.
    """
    check_wishes(thresholds, 0.5)
    points = tuple(SweepPoint(t, sum(len(one.above(t)) for one in predictions)) for t in thresholds)
    return Sweep(0.5, points, len(predictions), None)


def _error(one: ImageCount) -> int:
    return sum(one.predicted) - sum(one.true)


def _smallest(values: Floats) -> npt.NDArray[np.bool_]:
    """Where each row is smallest."""
    places: npt.NDArray[np.bool_] = values <= values.min(1, keepdims=True) + ROUNDING
    return places


def _middle(tied: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """`[draws]` the middle one of each row's places, the lower of two, -1 for none: the ends are so by chance."""
    rank = (tied.sum(1, keepdims=True) + 1) // 2
    return np.where(tied.any(1), (tied.cumsum(1) >= rank).argmax(1), -1)
