"""Finds the numbers of a `Calibration` on a small annotated set.

The images are divided at random. On one half everything is chosen and fitted: the threshold, the probabilities, the
correction of counts, how the scale of their residuals depends on what is known without annotations. On the other half
it is only measured how far off that is, which gives the intervals their coverage (split conformal prediction, Lei et
al. 2018, arXiv:1604.04173) and the figures of the report their honesty.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, nnls

from halfpixel.data.dataset import Dataset
from halfpixel.errors import AnnotationError
from halfpixel.evaluation.counts.score_calibration import (
    FOLDS,
    IOU,
    METHODS,
    Cell,
    ReliabilityBin,
    cross_validated_loss,
    find_cells,
    folds,
    pooled,
    reliability_bins,
)
from halfpixel.evaluation.detection.overlaps import Kind, kind_of_comparison
from halfpixel.evaluation.thresholds.goals import LOWEST_SCORE, Goal, check_calibration, thresholds_between
from halfpixel.evaluation.thresholds.threshold_sweep import Sweep, SweepPoint
from halfpixel.structures.calibration import Calibration, Evidence, Floats, residual_scale_terms, whole_bounds
from halfpixel.structures.instances import Instances

FEWEST_FITTED = 5
"""Images that the fit needs, whatever the level."""
THRESHOLDS = thresholds_between(0.1, 0.9, 0.05)


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration and how good it is on the half of the images that nothing was fitted on.

    Attributes:
        calibration: the numbers to store.
        goal: what the threshold was chosen for, None if it was given.
        method: `platt` or `isotonic`.
        log_loss: of each of the two, cross-validated over the images of the fit.
        reliability: the bins of `scores` as they are and of `probabilities`.
        calibration_error: expected calibration error of both: the mean over objects of their bin's |said - real|.
        count_mae: mean absolute error of the `listed` counts and of the `estimated` ones.
        count_bias: their mean error, above 0 is too many.
        median_width: of the intervals, from end to end, in objects.
        n_listed: objects that score at least the threshold, on the same images...
        n_real: ...and those of them that are paired with an annotated one...
        n_true: ...of which there are this many.
        tied: thresholds that are as good for the goal on the images of the fit, and the one chosen; empty if given.
        compared_by: what found and annotated objects overlap by.
    """

    calibration: Calibration
    goal: Goal | None
    method: str
    log_loss: dict[str, float]
    reliability: dict[str, tuple[ReliabilityBin, ...]]
    calibration_error: dict[str, float]
    count_mae: dict[str, float]
    count_bias: dict[str, float]
    median_width: float
    n_listed: int
    n_real: int
    n_true: int
    tied: tuple[float, ...] = ()
    compared_by: Kind = "mask"

    def to_json(self) -> dict[str, object]:
        """Plain values, with what they mean."""
        plain = dataclasses.asdict(self) | {"goal": None if self.goal is None else str(self.goal)}
        return plain | {"calibration": self.calibration.to_json(), "definitions": _definitions(self.compared_by)}


def _definitions(kind: Kind) -> dict[str, str]:
    return {
        "log_loss": (
            "Mean of -log(probability of what was true) over objects, cross-validated over the images of the fit."
        ),
        "calibration_error": (
            f"Expected calibration error: mean over objects of |mean of what was said - part that is real| of their "
            f"bin, ten bins of equal width, on the images that nothing was fitted on. An object is real when its "
            f"{kind} overlaps an annotated one of its class from an IoU of .5 upwards, each annotated one taken "
            f"once, best scores first."
        ),
        "count_mae": "Mean of |count - true| over images (and classes) that nothing was fitted on.",
        "count_bias": "Mean of count - true over the same: above 0 is too many.",
        "median_width": "Of the intervals around counts, high - low, on the same images.",
        "n_listed": "Objects that score at least the threshold, on the same images.",
        "n_real": "Those of them that are real.",
        "n_true": "Annotated objects on the same images.",
        "tied": "Thresholds that are equally good for the goal on the images of the fit; the middle one is taken.",
    }


def calibrate(
    dataset: Dataset,
    predictions: Sequence[Instances],
    *,
    level: float = 0.9,
    goal: Goal | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> CalibrationReport:
    """Fit a calibration on annotated images.

    With several classes, each class of each image is a case of its own, and one calibration is fitted to all of them;
    its intervals are for the count of one class on one image, and hold on average over classes. Cases with nothing
    annotated and nothing found are left out.

    Args:
        dataset: the annotations.
        predictions: one per sample, from a score of at most .05 upwards. Masks are compared, or boxes where some
            objects have no masks.
        level: the part of images whose true count is to be inside its interval, between 0 and 1.
        goal: what to choose the threshold for; default the smallest mean absolute error of counts.
        threshold: or this one, from .05 up to, but not including, 1.
        seed: of the random halves.

    Raises:
        AnnotationError: too few images for the level.
        ArgumentError: predictions that do not fit the data set, or a number out of range.
    """
    cells = find_cells(dataset, predictions)
    report = calibrate_found(cells, str(dataset.path), level=level, goal=goal, threshold=threshold, seed=seed)
    return dataclasses.replace(report, compared_by=kind_of_comparison(dataset, predictions))


def calibrate_found(
    cells: Sequence[Cell],
    whose: str,
    *,
    level: float = 0.9,
    goal: Goal | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> CalibrationReport:
    """`calibrate`, for objects that are paired already; `whose` names the images in errors."""
    check_calibration(level, threshold)
    fitted, measured = halves(cells, level, whose, seed)
    if threshold is not None:
        return calibrate_cells(fitted, measured, threshold, level)
    goal = goal or Goal("count")
    best = sweep_cells(fitted, THRESHOLDS).recommend(goal)
    if best is None:
        raise AnnotationError(f"{whose}: no threshold from .1 to .9 reaches {goal} on half of these images")
    return dataclasses.replace(calibrate_cells(fitted, measured, best.threshold, level, goal), tied=best.tied)


def sweep_cells(cells: Sequence[Cell], thresholds: Sequence[float]) -> Sweep:
    """`sweep`, for objects that are paired already: each cell stands for an image, and best scores pair first."""
    found = np.array([[np.count_nonzero(c.scores >= np.float32(t)) for c in cells] for t in thresholds], dtype=float)
    hits = np.array([[np.count_nonzero(c.scores[c.real] >= np.float32(t)) for c in cells] for t in thresholds])
    true = np.array([cell.true for cell in cells])
    points = tuple(SweepPoint(t, int(row.sum())) for t, row in zip(thresholds, found, strict=True))
    return Sweep(IOU, points, len(cells), np.stack([hits, found - hits, true - hits, found - true], axis=2))


def calibrate_cells(
    fitted: Sequence[Cell], measured: Sequence[Cell], threshold: float, level: float, goal: Goal | None = None
) -> CalibrationReport:
    """Fit on some cells, measure on others; see `calibrate`."""
    losses = {name: cross_validated_loss(fitted, fit) for name, fit in METHODS.items()}
    method = min(losses, key=losses.__getitem__)
    knots, probabilities = METHODS[method](*pooled(fitted))
    sizes = (len({cell.image for cell in fitted}), len({cell.image for cell in measured}))
    blank = Calibration(
        threshold, LOWEST_SCORE, level, knots, probabilities, (1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0), sizes
    )
    evidence, true = _evidence(blank, fitted)
    counted = dataclasses.replace(blank, count_weights=fit_count(evidence, true))
    errors = true - counted.estimates(evidence)
    scaled = dataclasses.replace(counted, residual_scale_weights=fit_residual_scale(evidence, errors))
    sided = _two_sided_is_better(scaled, fitted, len(measured))
    calibration = dataclasses.replace(scaled, conformal_quantiles=measure_conformal_quantiles(scaled, measured, sided))
    return _report(calibration, measured, goal, method, losses)


def fewest_measured(level: float) -> int:
    """The smallest number of cells of which a conformal interval of this level can be made: 9 for 90%."""
    n = 1
    while conformal_rank(n, level) > n:
        n += 1
    return n


def check_enough(n_images: int, level: float, whose: str) -> None:
    """Refuse fewer images than an interval of this level takes; `whose` names them.

    Raises:
        AnnotationError: says how many it takes.
    """
    needed = fewest_measured(level) + FEWEST_FITTED
    if n_images < needed:
        raise AnnotationError(
            f"{whose}: {n_images} images with objects are too few for intervals that hold for {level:.0%} of images; "
            f"it takes at least {needed}"
        )


def halves(cells: Sequence[Cell], level: float, whose: str, seed: int = 0) -> tuple[list[Cell], list[Cell]]:
    """Cells to fit on and cells to measure on, divided at random by images; `whose` names them in the error.

    Raises:
        AnnotationError: too few images.
    """
    images = np.unique([cell.image for cell in cells])
    check_enough(len(images), level, whose)
    n_measured = max(fewest_measured(level), len(images) // 2)
    chosen = set(np.random.default_rng(seed).permutation(images)[:n_measured].tolist())
    return [one for one in cells if one.image not in chosen], [one for one in cells if one.image in chosen]


PULL = 3.0
"""Squared, the number of images that would pull as much."""


def fit_count(evidence: Evidence, true: Floats) -> tuple[float, float]:
    """Weights of the listed objects and of the summed probabilities that give the true count without bias.

    Least squares, relative to the square root of the count as if objects were counted by chance; no weight is below 0;
    pulled towards the listed count as it is, or a few images would change it by chance.
    """
    certainty = 1 / np.sqrt(1 + evidence.expected)
    columns = np.stack([evidence.listed, evidence.expected], axis=1) * certainty[:, None]
    pull = PULL * np.sqrt(np.mean(columns**2)) * np.eye(2)
    weights, _ = nnls(np.concatenate([columns, pull]), np.concatenate([true * certainty, pull @ [1.0, 0.0]]))
    return float(weights[0]), float(weights[1])


SLOPES = np.array([0.25, 0.5])
"""Of the residual scale, where nothing is known: the root of the doubt, as if objects were real each by its own chance,
and something for what grows with the count and has no score, like merged neighbours."""
HALF_AN_OBJECT = 0.5
"""Added to every error: that there were none on a few images does not mean that there never are."""


def fit_residual_scale(evidence: Evidence, errors: Floats) -> tuple[float, float, float]:
    """How the size of errors grows with the evidence: the likeliest weights if errors were Laplace distributed.

    Args:
        evidence: of n images.
        errors: `[n]` true counts less the estimates.
    """
    terms, sizes = residual_scale_terms(evidence), np.abs(errors) + HALF_AN_OBJECT

    def loss(theta: Floats) -> tuple[float, Floats]:
        log_scale = terms @ theta
        relative = sizes * np.exp(-log_scale)
        pull = theta[1:] - SLOPES
        gradient = (1 - relative) @ terms
        gradient[1:] += 2 * STIFFNESS * pull
        return float((log_scale + relative).sum() + STIFFNESS * pull @ pull), gradient

    start = np.array([0.0, *SLOPES])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(None, None), (0, None), (0, None)]).x
    return float(found[0]), float(found[1]), float(found[2])


STIFFNESS = 5.0
"""Of the pull towards `SLOPES`: it takes tens of images to change them."""


def measure_conformal_quantiles(
    calibration: Calibration, measured: Sequence[Cell], two_sided: bool
) -> tuple[float, float]:
    """How many residual scales below and above the estimate hold the true counts, by the ranks of conformal prediction.

    Args:
        calibration: all but its `conformal_quantiles` is used.
        measured: cells that it was not fitted on.
        two_sided: measure each end on its own, so that each is passed by half of what is left out.
    """
    evidence, true = _evidence(calibration, measured)
    relative = (true - calibration.estimates(evidence)) / calibration.residual_scales(evidence)
    return _conformal_quantiles(relative, calibration.level, two_sided)


def winkler(low: npt.ArrayLike, high: npt.ArrayLike, true: npt.ArrayLike, level: float) -> Floats:
    """`[n]` interval scores (Winkler 1972): the width, and 2 / (1 - level) times by how much the truth is outside."""
    lows, highs, truth = (np.asarray(one, dtype=np.float64) for one in (low, high, true))
    outside = np.maximum(lows - truth, 0) + np.maximum(truth - highs, 0)
    scores: Floats = highs - lows + 2 / (1 - level) * outside
    return scores


def _conformal_quantiles(relative: Floats, level: float, two_sided: bool) -> tuple[float, float]:
    n = len(relative)
    if not two_sided:
        quantile = float(np.sort(np.abs(relative))[conformal_rank(n, level) - 1])
        return quantile, quantile
    rank = conformal_rank(n, (1 + level) / 2) - 1
    return float(np.sort(-relative)[rank]), float(np.sort(relative)[rank])


def conformal_rank(n: int, level: float) -> int:
    """Which of n ascending errors bounds a new one with this probability, counted from 1; above n where none does."""
    return math.ceil((n + 1) * level - 1e-9)


def _two_sided_is_better(calibration: Calibration, fitted: Sequence[Cell], n_measured: int) -> bool:
    """Whether intervals with two ends of their own have the smaller Winkler score, cross-validated."""
    fewest = fewest_measured((1 + calibration.level) / 2)
    if min(n_measured, len(fitted) * (FOLDS - 1) // FOLDS) < fewest:
        return False
    evidence, true = _evidence(calibration, fitted)
    estimates, scales = calibration.estimates(evidence), calibration.residual_scales(evidence)
    relative = (true - estimates) / scales
    totals = [0.0, 0.0]
    for inside, outside in folds(fitted):
        for two_sided in (False, True):
            below, above = _conformal_quantiles(relative[inside], calibration.level, two_sided)
            middle, scale = estimates[outside], scales[outside]
            bounds = whole_bounds(middle, middle - below * scale, middle + above * scale)
            totals[two_sided] += float(winkler(*bounds, true[outside], calibration.level).sum())
    return totals[1] < totals[0]


def _evidence(calibration: Calibration, cells: Sequence[Cell]) -> tuple[Evidence, Floats]:
    return calibration.evidence([cell.scores for cell in cells]), np.array([float(cell.true) for cell in cells])


def _report(
    calibration: Calibration, measured: Sequence[Cell], goal: Goal | None, method: str, losses: dict[str, float]
) -> CalibrationReport:
    scores, real = pooled(measured)
    said = {"scores": scores, "probabilities": calibration.probability(scores)}
    reliability = {name: reliability_bins(one, real) for name, one in said.items()}
    evidence, true = _evidence(calibration, measured)
    above = scores.astype(np.float32) >= np.float32(calibration.threshold)
    errors = {"listed": evidence.listed - true, "estimated": calibration.estimates(evidence) - true}
    return CalibrationReport(
        calibration,
        goal,
        method,
        losses,
        reliability,
        {
            name: sum(one.n * abs(one.said - one.real) for one in bins) / max(len(scores), 1)
            for name, bins in reliability.items()
        },
        {name: float(np.abs(one).mean()) for name, one in errors.items()},
        {name: float(one.mean()) for name, one in errors.items()},
        float(np.median([one.high - one.low for one in calibration.intervals([cell.scores for cell in measured])])),
        n_listed=int(above.sum()),
        n_real=int(real[above].sum()),
        n_true=int(true.sum()),
    )
