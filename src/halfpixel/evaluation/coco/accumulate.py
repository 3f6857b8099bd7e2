"""COCO's precision and recall from the matches of single images, for any weights of the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from halfpixel.evaluation.bootstrap import Floats, divide

LEVELS = np.linspace(0, 1, 101)
"""The recalls at which COCO reads the precision."""

_AT_ONCE = 50_000

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
    counted = (matches.rank < limit) & (matches.right | matches.wrong).any(0)
    image, right, wrong = matches.image[counted], matches.right[:, counted], matches.wrong[:, counted]
    n_annotated = np.rint(weights @ matches.annotated).astype(np.int64)
    values = np.full((len(weights), len(right)), np.nan)
    values[n_annotated > 0] = 0.0
    rows = np.flatnonzero(n_annotated)
    if image.size == 0:
        return values
    work = _Workspace(right, wrong, max(_AT_ONCE // right.size, 1))
    for chosen in (rows[k : k + work.most] for k in range(0, len(rows), work.most)):
        values[chosen] = work.area_under_curve(weights[chosen][:, image], n_annotated[chosen])
    return values


def average_recall(matches: ScoredMatches, weights: npt.NDArray[np.floating], limit: int) -> Floats:
    """The part of the annotated objects that was found, `[r, iou]`; arguments as for `average_precision`."""
    found = matches.right & (matches.rank < limit)
    per_image = np.stack([np.bincount(matches.image[one], minlength=len(matches.annotated)) for one in found])
    return divide(weights @ per_image.T, (weights @ matches.annotated)[:, None])


class _Workspace:
    """Arrays of the size that a processor's cache holds, used again for draw after draw."""

    def __init__(self, right: Bools, wrong: Bools, most: int) -> None:
        self.right, self.counted, self.most = right, right | wrong, most
        shape = (most, *right.shape)
        self.found, self.total = np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.int32)
        self.levels, self.gains = np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.int32)
        self.precision = np.empty(shape)

    def area_under_curve(self, weights: npt.NDArray[np.floating], n_annotated: Ints) -> Floats:
        """`[r, iou]` from the weight of each detection `[r, d]`, for at most `most` draws."""
        r = len(weights)
        found, total, levels, gains = self.found[:r], self.total[:r], self.levels[:r], self.gains[:r]
        times = weights[:, None].astype(np.int32)
        np.cumsum(np.multiply(times, self.right, out=found), axis=-1, out=found)
        np.cumsum(np.multiply(times, self.counted, out=total), axis=-1, out=total)
        precision = np.divide(found, np.maximum(total, 1, out=total), out=self.precision[:r])
        highest_from_here_on = precision[..., ::-1]
        np.maximum.accumulate(highest_from_here_on, axis=-1, out=highest_from_here_on)
        # how many of the levels each number of found objects reaches, in one table for all draws
        reached = [np.searchsorted(LEVELS, np.arange(n + 1) / n, side="right") for n in n_annotated]
        starts = np.cumsum([0, *n_annotated[:-1] + 1], dtype=np.int32)
        np.take(
            np.concatenate(reached).astype(np.int32),
            np.add(found, starts[:, None, None], out=found),
            out=levels,
            mode="clip",
        )
        # COCO reads each level's precision at the first detection that reaches it
        gains[..., 0] = levels[..., 0]
        np.subtract(levels[..., 1:], levels[..., :-1], out=gains[..., 1:])
        areas: Floats = np.einsum("rid,rid->ri", precision, gains) / len(LEVELS)
        return areas
