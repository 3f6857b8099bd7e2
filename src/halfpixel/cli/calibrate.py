"""`halfpixel calibrate`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import (
    Walk,
    check_folder,
    describe,
    open_model,
    plain_table,
    plural,
    say,
    say_json,
    say_tied,
    show,
    warn,
    write_with_folder,
)
from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.jobs.collect import check_classes, few_overlap, open_dataset, open_predictions
from halfpixel.jobs.result_kinds import refuse_to_overwrite
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.evaluation.counts.calibration_fit import CalibrationReport
    from halfpixel.structures.calibration import Calibration
    from halfpixel.zoo.modelfile import ModelInfo

COUNTS = ("listed objects", "estimate")
"""Two ways to count that are shown side by side, which are no before and after."""


def calibrate(
    data: Path,
    /,
    *,
    out: Path,
    model: str = DEFAULT_MODEL,
    level: float = 0.9,
    goal: Annotated[str | None, Parameter("--for")] = None,
    threshold: float | None = None,
    images: Path | None = None,
    format: Format | None = None,
    predictions: Path | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
) -> int:
    """Calibrate a model on a small annotated set: a threshold, probabilities, and intervals for counts.

    They are stored in a copy of the model file; `halfpixel count --model FILE` then prints each count with its
    interval. Take images that neither trained the model nor are reported on.

    Args:
        data: Annotated images: a file or a folder, in any format that `halfpixel data convert` reads.
        out: The model file to write, a .safetensors file; beside it go a plot (.png) and all numbers (.json) of the
            same name.
        model: A named model (see `halfpixel models`) or a model file.
        level: The part of images whose true count is to be inside its interval, between 0 and 1.
        goal: What to choose the threshold for: count, f1 or precision=0.95. Default: count.
        threshold: Take this threshold and choose none, 0.05 to 1.
        images: The folder of the images, where they are not beside the annotation file.
        format: The format of the annotations, where it is not found by looking.
        predictions: Take the predictions of this COCO file, which the model made, and do not run it.
        overwrite: Replace an earlier file.
        as_json: Print all numbers as JSON.
    """
    from halfpixel.evaluation.counts.calibration_fit import calibrate as fit
    from halfpixel.evaluation.counts.calibration_fit import check_enough, check_wishes
    from halfpixel.evaluation.counts.score_calibration import LOWEST_SCORE
    from halfpixel.evaluation.thresholds.goals import Goal

    if threshold is not None and goal is not None:
        raise ArgumentError("--threshold and --for: give one of the two")
    check_wishes(level, threshold)
    aim = None if goal is None else Goal.parse(goal)
    plot, numbers = out.with_suffix(".png"), out.with_suffix(".json")
    _check_out(out)
    if not overwrite:
        refuse_to_overwrite([out, plot, numbers])
    dataset = open_dataset(data, images, format)
    check_enough(len(dataset.samples), level, str(dataset.path))
    info = open_model(model).info
    check_classes(dataset, info.class_names, f"the model {model}")
    walk = Walk()
    who = model if predictions is None else None
    found = open_predictions(walk, dataset, predictions, who, LOWEST_SCORE, info.detection_limit)
    if not found.objects:
        return walk.exit_code
    if predictions is not None and found.lowest_score > 2 * LOWEST_SCORE:
        lowest = f"no object scores under {found.lowest_score:.2g}"
        warn(f"{predictions}: {lowest}; intervals are wrong if the model finds more from {LOWEST_SCORE} upwards")
    report = fit(found.dataset, found.objects, level=level, goal=aim, threshold=threshold)
    if predictions is not None and (doubt := few_overlap(report.n_real, report.n_listed, report.n_true)):
        raise ArgumentError(f"{predictions}: {doubt}")
    about = {"model": model, "data": str(data), "predictions": None if predictions is None else str(predictions)}
    everything = {**about, **report.to_json(), "failed": walk.failures_json()}
    _store(out, model, info, report.calibration)
    write_with_folder(plot, _plot(report))
    write_with_folder(numbers, json.dumps(everything, indent=1, allow_nan=False).encode())
    if as_json:
        say_json(everything)
    else:
        _print(report, describe(model), len(found.objects))
        say(f"The calibrated model: {out}   The reliability plot: {plot}   All numbers: {numbers}")
    walk.warn(found.limit)
    return walk.exit_code


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors" or out.is_dir():
        raise ArgumentError(f"--out {out}: expected the name of a .safetensors file")
    check_folder(out.parent)


def _store(out: Path, model: str, info: ModelInfo, calibration: Calibration) -> None:
    from halfpixel.zoo.modelfile import save_described, save_model
    from halfpixel.zoo.names import locate

    path = locate(model)
    info = replace(info, calibration=calibration, score_threshold=calibration.threshold)
    out.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_described(out, path, info)
    else:
        save_model(out, open_model(model).model, info)


def _plot(report: CalibrationReport) -> bytes:
    from halfpixel.plots.score_curves import draw_reliability

    curves = {name: [(one.said, one.real, one.n) for one in bins] for name, bins in report.reliability.items()}
    errors = [f"(expected calibration error {report.calibration_error[name]:.3f})" for name in curves]
    return draw_reliability(curves, errors)


def _print(report: CalibrationReport, whose: str, n_images: int) -> None:
    calibration = report.calibration
    fitted, measured = calibration.n_images
    say(f"{whose}, calibrated on {plural(n_images, 'image')}: fitted on {fitted}, measured on {measured} others.")
    say()
    why = "as given" if report.goal is None else f"the best for {report.goal} on the images of the fit"
    say(f"Score threshold {calibration.threshold:g}, {why}{say_tied(report.tied)}.")
    say()
    error, mae, bias = report.calibration_error, report.count_mae, report.count_bias
    kinds = ("scores", "probabilities")
    table = plain_table("on the images that nothing was fitted on", *kinds, right=kinds)
    table.add_row("expected calibration error", *(f"{error[one]:.3f}" for one in kinds))
    show(table)
    say()
    table = plain_table("counts of the same images", *COUNTS, right=COUNTS)
    table.add_row("count MAE", f"{mae['listed']:.2f}", f"{mae['estimated']:.2f}")
    table.add_row("count bias", f"{bias['listed']:+.2f}", f"{bias['estimated']:+.2f}")
    show(table)
    other = ", ".join(f"{name} {loss:.4f}" for name, loss in report.log_loss.items())
    say(f"  probabilities: {report.method} (cross-validated log loss: {other})")
    say("  the count that `count` prints stays that of the listed objects; its interval is made around the estimate")
    say()
    say(f"For {calibration.level:.0%} of images like these the true count is inside the interval that `count` prints;")
    say(f"here it reaches {report.median_width:g} objects from end to end on half of the images.")
