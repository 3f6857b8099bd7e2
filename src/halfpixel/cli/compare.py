"""`halfpixel compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from halfpixel.cli.console import Listener, between, number, plain_table, say, say_json, say_sizes, show
from halfpixel.cli.option_groups import Reading, Sizes
from halfpixel.data.formats.format_names import Format
from halfpixel.jobs.annotated import AS_WRITTEN
from halfpixel.jobs.size_options import SIZES_FOUND
from halfpixel.jobs.wording import COMPARED, plural

if TYPE_CHECKING:
    from halfpixel.evaluation.model_comparison import Comparison

SHOWN = (
    "count_mae", "count_bias", "miss", "false positive", "merge", "split", "duplicate", "localisation",
    "class confusion", "accuracy_50", "accuracy_75", "mask_ap", "box_ap", "area_ratio",
)  # fmt: skip
"""The page has more."""


def compare(
    data: Path,
    /,
    *,
    out: Path,
    model: list[str] | None = None,
    predictions: list[Path] | None = None,
    images: Path | None = None,
    format: Format | None = None,
    threshold: list[float] | None = None,
    limit: int | None = None,
    slice_by: str = "modality",
    pictures: int = 8,
    overwrite: bool = False,
    as_json: Annotated[bool, Parameter("--json")] = False,
    reading: Reading = AS_WRITTEN,
    sizes: Sizes = SIZES_FOUND,
) -> int:
    """Audit two models side by side on annotated images: count errors, merges, splits, misses, areas, pictures.

    Give --model twice, --predictions twice, or each once. The first is called A; a model comes before a file.

    Args:
        data: Annotated images: a file or a folder, in any format that `halfpixel data convert` reads.
        out: The folder for the page (index.html), report.json and, of models, the predictions (a/instances.json,
            b/instances.json).
        model: A named model (see `halfpixel models`) or a model file.
        predictions: A COCO file of predictions, for which no model runs.
        images: The folder of the images, where they are not beside the annotation file.
        format: The format of the annotations, where it is not found by looking.
        threshold: All but average precision takes objects that score at least this, 0 to 1. Once for both, or twice.
            Default: each model's own.
        limit: At most this many objects an image. Default: each model's own.
        slice_by: An attribute of the images; everything is also measured for each of its values.
        pictures: How many images the page shows, of those on which the two differ most, at most.
        overwrite: Replace an earlier comparison in the folder.
        as_json: Print the whole report as JSON.
        reading: How the annotations are taken.
        sizes: At which size images are looked at.
    """
    from halfpixel.report.comparison_run import compare as run

    with Listener() as listener:
        result = run(
            data, out=out, models=model or (), predictions=predictions or (), images=images, format=format,
            thresholds=threshold or (), limit=limit, slice_by=slice_by, pictures=pictures, overwrite=overwrite,
            reading=reading, sizes=sizes, tell=listener,
        )  # fmt: skip
    if result.comparison is not None and as_json:
        say_json(result.to_json())
    elif result.comparison is not None:
        print_comparison(result.comparison)
        for side, looked_at in result.looked_at.items():
            say_sizes(looked_at, f"{side.upper()}: ")
        say(f"The page: {out / 'index.html'}   All numbers and definitions: {out / 'report.json'}")
    return listener.finish(result.outcome)


def print_comparison(comparison: Comparison) -> None:
    """The main numbers, side by side."""
    from halfpixel.evaluation.model_comparison import MEASURES

    overall = comparison.overall
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        say(f"{name}: {side.name}, score threshold {side.threshold:g}")
    say(f"On {comparison.data}: {plural(overall.n_images, 'image')}, {plural(overall.n_objects, 'annotated object')}.")
    say()
    numbers = ("A", "B", "A - B", "A / B")
    table = plain_table("with 95% intervals", *numbers, "better", right=numbers)
    for key in (key for key in SHOWN if key in overall.contrasts):
        measure, one = MEASURES[key], overall.contrasts[key]
        if measure.group == "error_types" and not one.a and not one.b:
            continue
        label = f"{measure.label} per 100 objects" if measure.group == "error_types" else measure.label
        digits = measure.digits
        difference = f"{number(one.difference, digits, '+')}{between(one.difference_interval, digits)}"
        ratio = f"{number(one.ratio, 2)}{between(one.ratio_interval, 2)}" if measure.with_ratio else ""
        sign = "+" if key == "count_bias" else ""
        a, b = (number(value, digits, sign) for value in (one.a, one.b))
        table.add_row(label, a, b, difference, ratio, one.better or "")
    show(table)
    say("  count MAE: mean over images of |found - annotated|; bias: mean of found - annotated, above 0 is too many")
    what = COMPARED[comparison.compared_by]
    say(f"  accuracy: TP / (TP + FP + FN) of {what} paired one to one, summed over images (not COCO AP)")
    say("  merge: objects that one prediction covers together; they are not counted as misses")
    say("  better: where the interval leaves no doubt; the page says how, and shows where the two differ")
    say()
    if comparison.slices:
        _print_slices(comparison)


def _print_slices(comparison: Comparison) -> None:
    numbers = ("images", "objects", "count MAE A", "B", "A / B", "merges A", "merges B")
    table = plain_table(comparison.slice_by or "", *numbers, right=numbers)
    for name, part in comparison.slices.items():
        mae = part.contrasts["count_mae"]
        ratio = f"{number(mae.ratio, 2)}{between(mae.ratio_interval, 2)}"
        merges = (f"{one.events['merge']:,}" for one in (part.a, part.b))
        cells = (f"{part.n_images:,}", f"{part.n_objects:,}", number(mae.a, 2), number(mae.b, 2), ratio)
        table.add_row(name, *cells, *merges)
    show(table)
    say()
