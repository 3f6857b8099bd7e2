"""`halfpixel sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, number, plain_table, say, say_json, say_sizes, say_tied, show
from halfpixel.cli.option_groups import Reading, Sizes
from halfpixel.data.formats.format_names import Format
from halfpixel.jobs.annotated import AS_WRITTEN
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.wording import COMPARED, plural

if TYPE_CHECKING:
    from halfpixel.evaluation.thresholds.goals import Goal
    from halfpixel.evaluation.thresholds.threshold_sweep import Recommendation, Sweep


def sweep(
    *data: Annotated[str, Parameter("DATA|PATH", required=True)],
    out: Path,
    model: str | None = None,
    first: Annotated[float, Parameter("--from")] = 0.3,
    last: Annotated[float, Parameter("--to")] = 0.9,
    step: float = 0.1,
    iou: float = 0.5,
    goal: Annotated[str, Parameter("--for")] = "count",
    images: Path | None = None,
    format: Format | None = None,
    limit: int | None = None,
    predictions: Path | None = None,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
    reading: Reading = AS_WRITTEN,
    sizes: Sizes = SIZES_FOUND,
) -> int:
    """Show what each score threshold does to counts and accuracy, and recommend one for a goal.

    Choose thresholds on images that you do not report results of. See docs/threshold.md.

    Args:
        data: Annotated images, in any format that `halfpixel data convert` reads; or plain images (files, folders,
            globs in quotes), for which only the counts are shown.
        out: The folder for the table (sweep.csv) and the plot (sweep.png).
        model: A named model (see `halfpixel models`) or a model file. Default: nuclei.
        first: The lowest score threshold, from 0 up to --to.
        last: The highest, from --from up to, but not including, 1.
        step: From one threshold to the next, above 0.
        iou: The IoU of masks (of boxes for models without masks) from which a found and an annotated object count as
            the same, above 0 and at most 1.
        goal: What to recommend a threshold for: f1, count (the smallest mean absolute error of counts), or
            precision=0.95 (the lowest threshold that is that precise).
        images: The folder of the images, where they are not beside the annotation file.
        format: The format of the annotations, where it is not found by looking.
        limit: At most this many objects an image. Default: the model's own.
        predictions: Sweep the predictions of this COCO file, and run no model.
        overwrite: Replace an earlier sweep in the folder.
        as_json: Print the table and the recommendation as JSON.
        reading: How the annotations are taken.
        sizes: At which size images are looked at.
    """
    from halfpixel.jobs.sweep import sweep as run

    with Listener() as listener:
        result = run(
            data, out=out, model=model, first=first, last=last, step=step, iou=iou, goal=goal, images=images,
            format=format, limit=limit, predictions=predictions, overwrite=overwrite, reading=reading,
            sizes=sizes, tell=listener,
        )  # fmt: skip
    if result.swept is not None and as_json:
        say_json(result.to_json())
    elif result.swept is not None:
        _print(result.swept, result.whose, result.goal, result.recommended)
        say_sizes(result.outcome.looked_at)
        say(f"The plot: {result.plot}   The table: {result.table}")
    return listener.finish(result.outcome)


def _print(swept: Sweep, whose: str, goal: Goal, best: Recommendation | None) -> None:
    say(f"{whose} on {plural(swept.n_images, 'image')}:")
    say()
    annotated = swept.outcomes is not None
    numbers = ["threshold", "found"]
    if annotated:
        numbers += ["annotated", "count bias", "count MAE", "precision", "recall", "F1", "accuracy"]
    table = plain_table(*numbers, right=tuple(numbers))
    for point in swept.points:
        cells = [f"{point.threshold:g}", f"{point.found:,}"]
        if point.count is not None and point.detection is not None:
            found = point.detection
            cells += [f"{point.count.true:,}", number(point.count.bias, 2, "+"), number(point.count.mae, 2)]
            cells += [number(one) for one in (found.precision, found.recall, found.f1, found.accuracy)]
        table.add_row(*cells)
    show(table)
    if annotated:
        what = COMPARED[swept.compared_by]
        say(f"  of {what} paired one to one at IoU {swept.iou:g}, summed over images; accuracy: TP / (TP + FP + FN)")
        say("  count bias: mean over images of found - annotated; MAE: of its absolute value")
    else:
        say("  no annotations here: how many objects survive, and nothing about how many are right")
    say()
    if best is not None:
        text = f"For {goal} the best of these thresholds is {best.threshold:g}{say_tied(best.tied)}"
        if best.interval is not None:
            text += f"; other images like these would choose from {best.interval.low:g} to {best.interval.high:g} (95%)"
        say(f"{text}.")
