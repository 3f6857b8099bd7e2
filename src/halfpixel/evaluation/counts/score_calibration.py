"""How likely found objects are real, judged by their scores: from annotated images to a curve, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.detection.object_matching import in_ignored
from halfpixel.evaluation.detection.overlaps import Kind, iou_matrix, kind_of_comparison
from halfpixel.evaluation.thresholds.goals import LOWEST_SCORE
from halfpixel.structures.calibration import Floats
from halfpixel.structures.instances import Instances

IOU = 0.5
"""From here upwards a found object is real."""
FOLDS = 5
BINS = 10

Booleans = npt.NDArray[np.bool_]
Curve = tuple[tuple[float, ...], tuple[float, ...]]
"""Scores, and the probability at each."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The objects of one class on one image.

    Attributes:
        image: which sample of the data set.
        scores: `[n]` of all objects found, descending.
        real: `[n]` which of them are paired with an annotated one: the best-scoring first, each with the one it
            overlaps most, from an IoU of .5 upwards.
        true: annotated objects.
    """

    image: int
    scores: npt.NDArray[np.float32]
    real: Booleans
    true: int


@dataclass(frozen=True)
class ReliabilityBin:
    """Objects whose score or probability is in one tenth of 0..1.

    Attributes:
        said: its mean.
        real: the part of them that is real.
        n: how many.
    """

    said: float
    real: float
    n: int


def find_cells(dataset: Dataset, predictions: Sequence[Instances]) -> list[Cell]:
    """The classes of images on which something is annotated or found.

    Objects of which more than half lies in an ignored region are left out. Masks are compared, or boxes where some
    objects have no masks.

    Raises:
        ArgumentError: predictions that do not fit the data set.
    """
    kind, cells = kind_of_comparison(dataset, predictions), []
    for k, (sample, predicted) in enumerate(zip(dataset.samples, paired(dataset, predictions), strict=True)):
        found = predicted.above(LOWEST_SCORE)
        real, excused = _are_real(sample.objects, found, kind), in_ignored(found, sample.ignored, kind)
        scores, labels = found.scores.numpy().astype(np.float32), found.labels.numpy()
        for label, true in enumerate(sample.objects.counts().values()):
            chosen = (labels == label) & ~(excused & ~real)
            if true or chosen.any():
                cells.append(Cell(k, scores[chosen], real[chosen], true))
    return cells


def fit_platt(scores: Floats, real: Booleans) -> Curve:
    """A logistic function of the score's log odds (Platt 1999), as 101 points.

    Args:
        scores: `[n]` in 0..1.
        real: `[n]` which objects are.
    """
    x, sign = _log_odds(scores), np.where(real, 1.0, -1.0)

    def loss(theta: Floats) -> tuple[float, Floats]:
        z = sign * (theta[0] * x + theta[1])
        # a slight pull towards the scores as they are, for objects that are all real or all not
        pull = theta - [1.0, 0.0]
        slope = -sign * expit(-z)
        return float(np.logaddexp(0, -z).sum() + 0.5 * pull @ pull), np.array([slope @ x, slope.sum()]) + pull

    a, b = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    knots = np.linspace(0, 1, 101)
    return tuple(knots.tolist()), tuple(expit(a * _log_odds(knots) + b).tolist())


def fit_isotonic(scores: Floats, real: Booleans) -> Curve:
    """The rising steps that fit best (pool adjacent violators), linear between them, never quite 0 or 1.

    Args:
        scores: `[n]` in 0..1.
        real: `[n]` which objects are.
    """
    x, places, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    if not len(x):
        return (0.0, 1.0), (0.5, 0.5)
    means = np.bincount(places, weights=real) / sizes
    found = isotonic_regression(means, weights=sizes)
    first, last = found.blocks[:-1], found.blocks[1:] - 1
    ends = np.unique(np.concatenate([first, last]))
    margin = 1 / (len(scores) + 2)
    return tuple(x[ends].tolist()), tuple(np.clip(found.x[ends], margin, 1 - margin).tolist())


METHODS: dict[str, Callable[[Floats, Booleans], Curve]] = {"platt": fit_platt, "isotonic": fit_isotonic}


def folds(cells: Sequence[Cell]) -> list[tuple[Booleans, Booleans]]:
    """Which cells are inside and outside of each fold; the cells of an image stay together."""
    images, places = np.unique([cell.image for cell in cells], return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(images))[places] % FOLDS
    return [(fold != k, fold == k) for k in range(FOLDS) if (fold == k).any()]


def cross_validated_loss(cells: Sequence[Cell], fit: Callable[[Floats, Booleans], Curve]) -> float:
    """Mean of -log(probability of what was true) over objects, each judged by a curve that never saw its image."""
    total, n = 0.0, 0
    for inside, outside in folds(cells):
        knots, probabilities = fit(*pooled([c for c, yes in zip(cells, inside, strict=True) if yes]))
        scores, real = pooled([c for c, yes in zip(cells, outside, strict=True) if yes])
        p = np.interp(scores, knots, probabilities)
        total -= float(np.log(np.where(real, p, 1 - p)).sum())
        n += len(real)
    return total / max(n, 1)


def pooled(cells: Sequence[Cell]) -> tuple[Floats, Booleans]:
    """The objects of all cells: their scores, and which are real."""
    if not cells:
        return np.zeros(0), np.zeros(0, dtype=bool)
    scores = np.concatenate([cell.scores for cell in cells]).astype(np.float64)
    return scores, np.concatenate([cell.real for cell in cells])


def reliability_bins(said: Floats, real: Booleans) -> tuple[ReliabilityBin, ...]:
    """Objects by tenths of what was said of them; empty tenths are left out."""
    place = np.minimum((said * BINS).astype(np.int64), BINS - 1)
    inside = [place == k for k in range(BINS)]
    return tuple(
        ReliabilityBin(float(said[one].mean()), float(real[one].mean()), int(one.sum())) for one in inside if one.any()
    )


def _log_odds(scores: Floats) -> Floats:
    found: Floats = logit(np.clip(scores, 0.001, 0.999))
    return found


def _are_real(truth: Instances, found: Instances, kind: Kind) -> Booleans:
    real = np.zeros(len(found), dtype=bool)
    if not len(truth) or not len(found):
        return real
    overlaps = iou_matrix(found, truth, kind)
    overlaps[found.labels.numpy()[:, None] != truth.labels.numpy()[None, :]] = 0
    for k in np.argsort(-found.scores.numpy(), kind="stable"):
        best = int(overlaps[k].argmax())
        if overlaps[k, best] >= IOU:
            real[k] = True
            overlaps[:, best] = 0
    return real
