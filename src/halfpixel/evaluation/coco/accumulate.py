"""COCO's precision and recall from the matches of single images, for any weights of the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from halfpixel.evaluation.bootstrap import Floats, divide

LEVELS = np.linspace(0, 1, 101)
"""The recalls at which COCO reads the precision."""

_AT_ONCE = 250_000
"""Runs of detections times draws: what a processor's cache holds."""

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ScoredMatches:
    """What was found of one class and area range in `n` images, all `d` detections in descending order of score.

    Attributes:
        image: `[d]` the image of each detection, 0..n - 1.
        rank: `[d]` its place among the detections of its image, the best is 0.
        right: `[iou, d]` paired with an annotated object.
        wrong: `[iou, d]` not paired; one that is neither (in a crowd region, of another size) does not count.
        annotated: `[n]` objects to find.
    """

    image: Ints
    rank: Ints
    right: Bools
    wrong: Bools
    annotated: Ints

    def of_images(self, images: Ints) -> ScoredMatches:
        """The same for some of the images, in their new order."""
        place = np.full(len(self.annotated), -1, dtype=np.int64)
        place[images] = np.arange(len(images))
        image = place[self.image]
        kept = image >= 0
        return ScoredMatches(
            image[kept], self.rank[kept], self.right[:, kept], self.wrong[:, kept], self.annotated[images]
        )


def average_precision(matches: ScoredMatches, weights: npt.NDArray[np.floating], limit: int) -> Floats:
    """Area under the interpolated precision-recall curve, as COCO computes it, when images count several times.

    Args:
        matches: of one class and area range.
        weights: `[r, n]` whole numbers: how often each image counts; ones for the data as they are.
        limit: only the best so many detections of an image.

    Returns:
        `[r, iou]` in 0..1, NaN where there is nothing to find.
    """
    counted = (matches.rank < limit) & (matches.right | matches.wrong)
    n_annotated = np.rint(weights @ matches.annotated).astype(np.int64)
    values = np.full((len(weights), len(counted)), np.nan)
    rows = np.flatnonzero(n_annotated)
    values[rows] = 0.0
    needed = _needed(n_annotated[rows])
    times = np.ascontiguousarray(weights[rows].T).astype(np.int32)
    for k, (right, some) in enumerate(zip(matches.right, counted, strict=True) if len(rows) else ()):
        runs = _Runs.of(matches.image[some], right[some], len(matches.annotated))
        most = max(_AT_ONCE // max(runs.n, 1), 1)
        for first in range(0, len(rows) if runs.n else 0, most):
            block = slice(first, first + most)
            values[rows[block], k] = runs.area_under_curve(times[:, block], needed[block])
    return values


def average_recall(matches: ScoredMatches, weights: npt.NDArray[np.floating], limit: int) -> Floats:
    """The part of the annotated objects that was found, `[r, iou]`; arguments as for `average_precision`."""
    found = matches.right & (matches.rank < limit)
    per_image = np.stack([np.bincount(matches.image[one], minlength=len(matches.annotated)) for one in found])
    return divide(weights @ per_image.T, (weights @ matches.annotated)[:, None])


def _needed(n_annotated: Ints) -> npt.NDArray[np.int32]:
    """`[r, 101]` of so many objects the fewest that have to be found to reach each of the `LEVELS`."""
    n = n_annotated[:, None]
    fewest = np.ceil(LEVELS * n)  # as far as floats can tell; what counts is how the recall itself is rounded
    fewest -= (fewest > 0) & ((fewest - 1) / n >= LEVELS)
    fewest += fewest / n < LEVELS
    return fewest.astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Detections of one class and IoU put together: some wrong ones, or none, and the right ones that follow them.

    Inside a run of right ones the precision can only rise, however often their images count. So the highest one from
    any of them onwards is at the end of a run, and nothing else has to be looked at. Wrong ones after the last run
    play no part.

    Attributes:
        n: how many runs.
        found: `[n, images]` right detections of each image in each run.
        total: the same for all detections.
    """

    n: int
    found: csr_array
    total: csr_array

    @classmethod
    def of(cls, image: Ints, right: Bools, n_images: int) -> _Runs:
        """From each detection's image and whether it is right, the best scores first."""
        is_last = right & ~np.append(right[1:], False)
        ends = np.flatnonzero(is_last) + 1
        shape = len(ends), n_images

        def in_runs(chosen: Bools) -> csr_array:
            before_end = np.append(0, np.cumsum(chosen)[ends - 1])
            places = image[chosen][: before_end[-1]]
            return csr_array((np.ones(len(places), dtype=np.int32), places, before_end), shape=shape)

        return cls(len(ends), in_runs(right), in_runs(np.ones_like(right)))

    def area_under_curve(self, times: npt.NDArray[np.int32], needed: npt.NDArray[np.int32]) -> Floats:
        """`[r]` for draws in which images count `[images, r]` times and recalls need `[r, 101]` objects found."""
        found, total = (
            np.ascontiguousarray((one @ times).T).cumsum(1, dtype=np.int32) for one in (self.found, self.total)
        )
        precision = found / np.maximum(total, 1)
        # COCO reads each level's precision at the first detection that reaches it: somewhere in this run
        run = np.stack([np.searchsorted(one, least) for one, least in zip(found, needed, strict=True)])
        reached = run < self.n
        firsts = np.minimum(run, self.n - 1) + self.n * np.arange(len(run))[:, None]
        highest = np.maximum.reduceat(precision.ravel(), firsts.ravel()).reshape(firsts.shape)
        from_here_on = np.maximum.accumulate(highest[:, ::-1], axis=1)[:, ::-1]
        areas: Floats = (from_here_on * reached).sum(1) / len(LEVELS)
        return areas
