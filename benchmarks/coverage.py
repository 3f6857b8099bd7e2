"""Do the intervals around counts hold on images that nothing was fitted on, and on few and on many objects alike?

`halfpixel calibrate` is fitted on one set of predictions and tested on another. The first should be out of fold, made
by models that did not train on the image they predict, or the model looks surer than it is on new images.

Beside it stand what it has to beat and what shows that coverage alone says little, both by split conformal prediction
on all of the first set: `constant width` puts the same margin around every listed count; `nonsense` does so around the
count of another image, drawn by lot.

    python benchmarks/coverage.py --fit train.json --fit-predictions oof.json --test val.json --predictions found.json
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco_results import read_coco_results
from halfpixel.data.formats.detect import read_dataset
from halfpixel.evaluation.bootstrap import bootstrap_ratios
from halfpixel.evaluation.counts.calibration_fit import calibrate_found, conformal_rank, winkler
from halfpixel.evaluation.counts.score_calibration import Cell, find_cells
from halfpixel.evaluation.thresholds.goals import Goal
from halfpixel.files import write_whole
from halfpixel.structures.calibration import Calibration, Floats

OURS, BASELINE, NONSENSE = "halfpixel calibrate", "constant width", "nonsense"
FEWEST, LOWEST_COVERAGE, HIGHEST_RATIO = 15, 0.8, 0.85
"""The bar: coverage in every group of so many images, and the Winkler score relative to the baseline's."""

Bounds = tuple[Floats, Floats]


def listed(cells: Sequence[Cell], threshold: float) -> Floats:
    """`[n]` objects that score at least the threshold."""
    return np.array([float(np.count_nonzero(cell.scores >= np.float32(threshold))) for cell in cells])


def counted(cells: Sequence[Cell]) -> Floats:
    """`[n]` annotated objects."""
    return np.array([float(cell.true) for cell in cells])


def constant_width(fit: tuple[Floats, Floats], test: Floats, level: float) -> Bounds:
    """The same margin around every count, by the rank of absolute errors.

    Args:
        fit: counts and true counts of the images that the margin is measured on.
        test: counts to put it around.
        level: of coverage.
    """
    errors = np.sort(np.abs(fit[0] - fit[1]))
    margin = errors[conformal_rank(len(errors), level) - 1]
    return np.maximum(test - margin, 0), test + margin


def rows(fit: Sequence[Cell], test: Sequence[Cell], calibration: Calibration, seed: int) -> dict[str, Bounds]:
    """The intervals of each contender on the test images."""
    level, threshold = calibration.level, calibration.threshold
    found = calibration.intervals([cell.scores for cell in test])
    counts, true, new = listed(fit, threshold), counted(fit), listed(test, threshold)
    rng = np.random.default_rng(seed)
    shuffled = (rng.permutation(counts), true)
    return {
        OURS: (np.array([float(one.low) for one in found]), np.array([float(one.high) for one in found])),
        BASELINE: constant_width((counts, true), new, level),
        NONSENSE: constant_width(shuffled, rng.permutation(new), level),
    }


def groups(dataset: Dataset, cells: Sequence[Cell], attribute: str) -> dict[str, list[int]]:
    """All images, thirds of them by their true count, and those of each value of an attribute."""
    by_count = np.argsort(counted(cells), kind="stable")
    found = {"all": list(range(len(cells)))}
    for name, third in zip(("few", "some", "many"), np.array_split(by_count, 3), strict=True):
        low, high = (cells[int(k)].true for k in third[[0, -1]])
        found[f"{name} ({low} to {high})"] = third.tolist()
    values = [str(dataset.samples[cell.image].attributes.get(attribute, "")) for cell in cells]
    for value in sorted(set(values) - {""}):
        found[value] = [k for k, one in enumerate(values) if one == value]
    return found


def coverage(bounds: Bounds, true: Floats, members: Sequence[int]) -> dict[str, Any]:
    """How many true counts are inside, and the 95% Clopper-Pearson interval of that share."""
    low, high, truth = bounds[0][members], bounds[1][members], true[members]
    inside = int(((low <= truth) & (truth <= high)).sum())
    exact = binomtest(inside, len(truth)).proportion_ci()
    return {
        "images": len(truth),
        "inside": inside,
        "coverage": inside / len(truth),
        "interval": [float(exact.low), float(exact.high)],
        "mean_width": float((high - low).mean()),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fit, test, and judge by the bar."""
    (fit_set, fit_found), (test_set, test_found) = (
        (dataset, read_coco_results(found, dataset))
        for dataset, found in (
            (read_dataset(arguments.fit), arguments.fit_predictions),
            (read_dataset(arguments.test), arguments.predictions),
        )
    )
    goal = None if arguments.threshold is not None else Goal("count")
    fit, test = find_cells(fit_set, fit_found), find_cells(test_set, test_found)
    report = calibrate_found(
        fit, str(arguments.fit), level=arguments.level, goal=goal, threshold=arguments.threshold, seed=arguments.seed
    )
    true, level = counted(test), arguments.level
    bounds = rows(fit, test, report.calibration, arguments.seed)
    parts = groups(test_set, test, arguments.by)
    scores = {name: winkler(*one, true, level) for name, one in bounds.items()}
    contenders = {
        name: {
            "winkler": float(scores[name].mean()),
            "groups": {part: coverage(one, true, members) for part, members in parts.items()},
        }
        for name, one in bounds.items()
    }
    ratio = float(scores[OURS].sum() / scores[BASELINE].sum())
    (interval,) = bootstrap_ratios(scores[OURS][:, None], scores[BASELINE], seed=arguments.seed)
    large = [one for one in contenders[OURS]["groups"].values() if one["images"] >= FEWEST]
    return {
        "level": level,
        "report": report.to_json(),
        "contenders": contenders,
        "winkler_ratio": ratio,
        "winkler_ratio_interval": None if interval is None else asdict(interval),
        "passed": {
            f"coverage of at least {LOWEST_COVERAGE:.0%} wherever there are {FEWEST} images": all(
                one["coverage"] >= LOWEST_COVERAGE for one in large
            ),
            f"Winkler score at most {HIGHEST_RATIO} of the constant width's": ratio <= HIGHEST_RATIO,
            "the interval of that ratio is below 1": interval is not None and interval.high < 1,
        },
    }


def show(result: dict[str, Any]) -> None:
    """Print a table for people."""
    parts = list(result["contenders"][OURS]["groups"])
    print(f"coverage of {result['level']:.0%} intervals, its 95% interval, and their mean width in objects")
    for name, one in result["contenders"].items():
        print(f"\n{name}: mean Winkler score {one['winkler']:.2f}")
        for part in parts:
            row = one["groups"][part]
            low, high = row["interval"]
            covered = f"{row['inside']:4} of {row['images']:4}  {row['coverage']:.3f} ({low:.3f} to {high:.3f})"
            print(f"  {part:20} {covered}  width {row['mean_width']:.1f}")
    interval = result["winkler_ratio_interval"]
    print(f"\nWinkler score relative to the constant width's: {result['winkler_ratio']:.3f}", end="")
    print(f" ({interval['low']:.3f} to {interval['high']:.3f}, 95%)" if interval else "")
    for what, passed in result["passed"].items():
        print(f"{'yes' if passed else 'NO':4} {what}")


def main() -> None:
    """Parse, measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, what in (
        ("--fit", "annotations to calibrate on"),
        ("--fit-predictions", "COCO file of predictions for them, out of fold"),
        ("--test", "annotations to test on, once"),
        ("--predictions", "COCO file of predictions for them"),
    ):
        parser.add_argument(name, type=Path, required=True, help=what)
    parser.add_argument("--level", type=float, default=0.9)
    parser.add_argument("--threshold", type=float, help="default: the best for counts on half of the images to fit")
    parser.add_argument("--by", default="modality", help="image attribute to group by")
    parser.add_argument("--seed", type=int, default=0, help="of the halves, the lots and the bootstrap")
    parser.add_argument("--json", type=Path, help="write all numbers here")
    arguments = parser.parse_args()
    result = measure(arguments)
    show(result)
    if arguments.json:
        write_whole(arguments.json, json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    main()
