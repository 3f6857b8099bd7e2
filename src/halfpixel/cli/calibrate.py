"""`halfpixel calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, plain_table, say, say_json, say_sizes, say_tied, show
from halfpixel.cli.option_groups import Reading, Sizes
from halfpixel.data.formats.format_names import Format
from halfpixel.jobs.annotated import AS_WRITTEN
from halfpixel.jobs.model_options import describe_model
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.wording import plural
from halfpixel.zoo.names import DEFAULT_MODEL

if TYPE_CHECKING:
    from halfpixel.evaluation.counts.calibration_fit import CalibrationReport

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
    reading: Reading = AS_WRITTEN,
    sizes: Sizes = SIZES_FOUND,
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
        reading: How the annotations are taken.
        sizes: At which size images are looked at.
    """
    from halfpixel.jobs.calibrate import calibrate as run

    with Listener() as listener:
        result = run(
            data, out=out, model=model, level=level, goal=goal, threshold=threshold, images=images, format=format,
            predictions=predictions, overwrite=overwrite, reading=reading, sizes=sizes, tell=listener,
        )  # fmt: skip
    if result.report is not None and as_json:
        say_json(result.to_json())
    elif result.report is not None:
        _print(result.report, describe_model(model), result.n_images)
        say_sizes(result.outcome.looked_at)
        say(f"The calibrated model: {out}   The reliability plot: {result.plot}   All numbers: {result.numbers}")
    return listener.finish(result.outcome)


def _print(report: CalibrationReport, whose: str, n_images: int) -> None:
    calibration = report.calibration
    fitted, measured = calibration.n_images
    say(f"{whose}, calibrated on {plural(n_images, 'image')}: fitted on {fitted}, measured on {measured} others.")
    say()
    why = "as given" if report.goal is None else f"the best for {report.goal} on the images of the fit"
    say(f"Score threshold {calibration.threshold:g}, {why}{say_tied(report.tied)}.")
    say()
    if report.compared_by == "box":
        say("Objects without masks are compared by their boxes: found ones are real from a box IoU of .5 upwards.")
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
