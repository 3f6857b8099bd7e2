"""What a score threshold does to counts and to detection quality, and which one suits a goal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from halfpixel.data.sample import Dataset
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.counting import CountError, ImageCount, count_error, image_counts
from halfpixel.evaluation.matching import DetectionQuality, match_dataset, pool
from halfpixel.structures.instances import Instances

Floats = npt.NDArray[np.float64]

RESAMPLES, LEVEL = 2000, 0.95
_BLOCK = 100
"""Resamples drawn at a time, to bound the memory."""
_ROUNDING = 1e-9


def thresholds_between(first: float = 0.3, last: float = 0.9, step: float = 0.1) -> tuple[float, ...]:
    """Score thresholds from `first` up to `last`, without the digits that adding floats leaves behind.

    Raises:
        ArgumentError: not 0 <= first <= last < 1, a step that is not above 0, or more than 1,000 thresholds.
    """
    if not (0 <= first <= last < 1 and step > 0):
        raise ArgumentError(f"expected 0 <= from <= to < 1 and a step above 0, got {first}, {last} and {step}")
    n = int((last - first) / step + _ROUNDING) + 1
    if n > 1000:
        raise ArgumentError(f"from {first} to {last} by {step} are {n:,} thresholds; at most 1,000 are swept")
    return tuple(round(first + k * step, 10) for k in range(n))


@dataclass(frozen=True)
class Goal:
    """What a threshold is to be good for.

    Attributes:
        kind: `f1`, the largest F1; `count`, the smallest count MAE, of equal ones that with the smallest bias;
            `precision`, the lowest threshold at which precision is at least `precision`, so that most is found. Of
            thresholds that are equally good, the highest is taken for `f1` and `count`.
        precision: in 0..1, for that kind only.
    """

    kind: str
    precision: float | None = None

    @classmethod
    def parse(cls, text: str) -> Goal:
        """From `f1`, `count` or `precision=0.95`.

        Raises:
            ArgumentError: anything else.
        """
        kind, _, number = text.partition("=")
        try:
            if kind == "precision":
                precision = float(number)
                if 0 < precision <= 1:
                    return cls(kind, precision)
            elif kind in ("f1", "count") and text == kind:
                return cls(kind)
        except ValueError:
            pass
        raise ArgumentError(f"expected the goal f1, count or precision=0.95 (above 0, at most 1), got {text!r}")

    def __str__(self) -> str:
        return self.kind if self.precision is None else f"{self.kind}={self.precision:g}"


@dataclass(frozen=True)
class SweepPoint:
    """Everything at one score threshold.

    Attributes:
        threshold: objects that score at least this are taken.
        found: how many those are, on all images.
        quality: pooled over images, at the sweep's IoU; None without annotations.
        count: errors of the images' totals; None without annotations.
    """

    threshold: float
    found: int
    quality: DetectionQuality | None = None
    count: CountError | None = None

    def to_json(self) -> dict[str, object]:
        """One row of the table: plain numbers, None where there is nothing to divide by or nothing annotated."""
        row: dict[str, object] = {"threshold": self.threshold, "found": self.found}
        if self.quality is None or self.count is None:
            return row
        ratios = ("precision", "recall", "f1", "quality")
        row |= {"true": self.count.true, "count_bias": self.count.bias, "count_mae": self.count.mae}
        row |= {name: getattr(self.quality, name) for name in ratios}
        return row | {name: getattr(self.quality, name) for name in ("tp", "fp", "fn")}


@dataclass(frozen=True)
class Recommendation:
    """The threshold that suits a goal best, of those that were swept.

    Attributes:
        goal: what it is good for.
        threshold: the choice.
        interval: what would have been chosen on other images of the same kind: 95% of bootstrap resamples of the images
            choose from `low` to `high`. None for fewer than two images, or where no resample reaches the goal.
        unreached: the part of the resamples in which no threshold reaches the goal, in 0..1; left out of the interval.
    """

    goal: Goal
    threshold: float
    interval: Interval | None
    unreached: float

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "for": str(self.goal),
            "threshold": self.threshold,
            "interval": None if self.interval is None else asdict(self.interval),
            "unreached": self.unreached,
        }


@dataclass(frozen=True, eq=False)
class Sweep:
    """A range of thresholds on one set of images.

    Attributes:
        iou: the mask IoU from which a found and an annotated object count as the same.
        points: by ascending threshold.
        n_images: how many images.
        outcomes: `[thresholds, images, 4]` true positives, false positives, false negatives and the error of the count;
            None without annotations.
    """

    iou: float
    points: tuple[SweepPoint, ...]
    n_images: int
    outcomes: Floats | None

    def recommend(self, goal: Goal, seed: int = 0) -> Recommendation | None:
        """The threshold for a goal; None where none reaches it.

        Raises:
            ArgumentError: there are no annotations.
        """
        if self.outcomes is None:
            raise ArgumentError("a threshold can be recommended only where objects are annotated")
        once = int(self._chosen(goal, np.ones((1, self.n_images), dtype=np.int64))[0])
        if once < 0:
            return None
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
        return Recommendation(goal, self.points[once].threshold, interval, float(np.mean(chosen < 0)))

    def _chosen(self, goal: Goal, times: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """`[draws]` the best threshold's place, -1 for none, when images are taken `[draws, images]` times."""
        assert self.outcomes is not None
        tp, fp, fn, errors = np.moveaxis(self.outcomes, 2, 0)
        if goal.precision is not None:
            hits, false = times @ tp.T, times @ fp.T
            enough = (hits > 0) & (hits >= goal.precision * (hits + false) - _ROUNDING)
            return np.where(enough.any(1), enough.argmax(1), -1)
        if goal.kind == "f1":
            return _last_smallest(-(times @ (2 * tp).T) / np.maximum(times @ (2 * tp + fp + fn).T, 1))
        mae, bias = times @ np.abs(errors).T / self.n_images, times @ errors.T / self.n_images
        tied = mae <= mae.min(1, keepdims=True) + _ROUNDING
        return _last_smallest(np.where(tied, np.abs(bias), np.inf))


def sweep(
    dataset: Dataset, predictions: Sequence[Instances], thresholds: Sequence[float], *, iou: float = 0.5
) -> Sweep:
    """Compare predictions with annotations at each of several score thresholds.

    Objects are paired, and objects in ignored regions left out, as `halfpixel.evaluation.evaluate` does it.

    Args:
        dataset: the annotations.
        predictions: one per sample, with masks, from a score of at most the lowest threshold upwards.
        thresholds: ascending, in 0..1.
        iou: of masks, above 0 and at most 1.

    Raises:
        ArgumentError: predictions that do not fit the data set, objects without masks, or a number out of range.
    """
    check_wishes(thresholds, iou)
    points, outcomes = [], []
    for threshold in thresholds:
        kept = [predicted.above(threshold) for predicted in predictions]
        qualities = [match.quality for (match,) in match_dataset(dataset, kept, [iou])]
        counts = image_counts(dataset, kept)
        error = count_error(counts)
        points.append(SweepPoint(threshold, error.predicted, pool(iou, qualities), error))
        outcomes.append([(q.tp, q.fp, q.fn, _error(one)) for q, one in zip(qualities, counts, strict=True)])
    table = np.array(outcomes, dtype=np.float64).reshape(len(points), -1, 4)
    return Sweep(iou, tuple(points), len(predictions), table)


def count_curve(predictions: Sequence[Instances], thresholds: Sequence[float]) -> Sweep:
    """How many objects there are at each threshold, with nothing to compare them with.

    Raises:
        ArgumentError: thresholds that do not ascend, or are out of range.
    """
    check_wishes(thresholds, 0.5)
    points = tuple(SweepPoint(t, sum(len(one.above(t)) for one in predictions)) for t in thresholds)
    return Sweep(0.5, points, len(predictions), None)


def check_wishes(thresholds: Sequence[float], iou: float) -> None:
    """Refuse numbers out of range before a model is run.

    Raises:
        ArgumentError: thresholds that do not ascend or are outside of 0..1, or an IoU that is not in 0..1 or is 0.
    """
    inside = all(0 <= one <= 1 for one in thresholds)
    if not thresholds or not inside or any(a >= b for a, b in itertools.pairwise(thresholds)):
        raise ArgumentError(f"expected ascending score thresholds in 0..1, got {list(thresholds)}")
    if not 0 < iou <= 1:
        raise ArgumentError(f"the IoU must be above 0 and at most 1, got {iou}")


def _error(one: ImageCount) -> int:
    return sum(one.predicted) - sum(one.true)


def _last_smallest(values: Floats) -> npt.NDArray[np.int64]:
    """`[draws]` where each row is smallest; of equal places the last, which lists the fewest doubtful objects."""
    smallest = values <= values.min(1, keepdims=True) + _ROUNDING
    last: npt.NDArray[np.int64] = values.shape[1] - 1 - smallest[:, ::-1].argmax(1)
    return last
