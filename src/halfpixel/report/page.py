"""An evaluation as a page to read and a file to compute with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from halfpixel.evaluation.evaluation import Evaluation, SliceEvaluation
from halfpixel.jobs.wording import COMPARED
from halfpixel.plots import evaluation_plots as plots
from halfpixel.report.plotted import agreement_of, count_pairs, ends_of
from halfpixel.report.rendering import estimate, pictures_shown, plots_shown, render, write_page
from halfpixel.report.sections import images_left_out, tables
from halfpixel.report.worst_images import WorstImage


def write_report(
    evaluation: Evaluation,
    out: Path,
    *,
    title: str = "Evaluation",
    about: Mapping[str, str] | None = None,
    worst: Sequence[WorstImage] = (),
) -> Path:
    """Write `report.json` and `index.html` to a folder, which is made if need be.

    The page stands alone: no scripts, nothing to fetch.

    Args:
        evaluation: what was measured.
        out: the folder.
        title: the page's heading.
        about: what else to state, for example the model's name; shown under the heading and stored in the file.
        worst: pictures for the page, see `worst.draw_worst`.

    Returns:
        The page.
    """
    about = dict(about or {})
    page = render_page(evaluation, title=title, about=about, worst=worst)
    return write_page(out, page, {"title": title, "about": about, **evaluation.to_json()})


def render_page(
    evaluation: Evaluation, *, title: str, about: Mapping[str, str], worst: Sequence[WorstImage] = ()
) -> str:
    """The page as HTML text."""
    said = evaluation.definitions
    values = {
        "title": title,
        "said": said,
        "evaluation": evaluation,
        "stated": _stated(evaluation, about),
        "key_numbers": _key_numbers(evaluation),
        "plots": plots_shown(_plots(evaluation)),
        "tables": tables(evaluation),
        "left_out": images_left_out(evaluation.overall.count),
        "error_types": [(one.count.label.capitalize(), said[one.count.name]) for one in evaluation.overall.error_types],
        "worst": pictures_shown(worst),
    }
    return render("evaluation.html.j2", values)


def _stated(evaluation: Evaluation, about: Mapping[str, str]) -> dict[str, str]:
    """What the page is about."""
    overall = evaluation.overall
    stated = {
        **about,
        "data": evaluation.data,
        "images": f"{overall.n_images:,}",
        "annotated objects": f"{overall.n_objects:,}",
        "score threshold": f"{evaluation.threshold:g}",
        "compared by": COMPARED[evaluation.compared_by],
    }
    if evaluation.n_ignored:
        stated["ignored regions"] = f"{evaluation.n_ignored:,}"
    return stated


def _key_numbers(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """The few that matter most: what, the number, and a note."""
    overall = evaluation.overall
    first, count = overall.detection[0], overall.count
    numbers = [
        (
            f"COCO {evaluation.compared_by} AP",
            estimate(*overall.ap),
            f"at most {evaluation.max_detections:,} detections",
        ),
        (
            f"TP/(TP+FP+FN) at IoU {first.counts.iou:.2f}",
            estimate(first.counts.accuracy, first.interval),
            "at the threshold",
        ),
        ("Count error (MAE)", estimate(count.mae, count.intervals.get("mae"), 2), "objects an image"),
        ("Count bias", estimate(count.bias, count.intervals.get("bias"), 2, sign=True), "objects an image"),
    ]
    return [
        (name, cell.text, f"{note}, 95% interval {cell.note}" if cell.note else note) for name, cell, note in numbers
    ]


def _plots(evaluation: Evaluation) -> list[tuple[Figure, str]]:
    pairs = count_pairs(evaluation.images)
    rates: dict[str, plots.Estimate] = {
        one.count.label: plots.Estimate(one.per_100, ends_of(one.interval))
        for one in evaluation.overall.error_types
        if one.per_100 is not None
    }
    slices = sorted(evaluation.slices.items(), key=lambda item: -item[1].n_images)  # there are few colours
    return [
        (
            plots.predicted_against_true({"": pairs}),
            "Predicted against annotated number of objects, a dot per image. On the line they agree.",
        ),
        (
            plots.bland_altman(pairs, agreement_of(evaluation.overall.count)),
            "Bland-Altman plot: the difference of the two counts against their mean, a dot per image, with the bias, "
            "the limits of agreement, and their 95% intervals as bands.",
        ),
        (
            plots.error_rates(rates),
            "What goes wrong how often, per 100 annotated objects, with 95% intervals.",
        ),
        (
            plots.accuracy_against_iou(
                _by_iou(evaluation.overall),
                {f"{name} ({one.n_images})": _by_iou(one) for name, one in slices},
                f"{evaluation.compared_by} IoU",
            ),
            f"Accuracy against the {evaluation.compared_by} IoU that a pair must reach. The band is the "
            "95% interval of all images; beside each slice, its number of images.",
        ),
    ]


def _by_iou(part: SliceEvaluation) -> dict[float, plots.Estimate]:
    return {
        one.counts.iou: plots.Estimate(one.counts.accuracy, ends_of(one.interval))
        for one in part.detection
        if one.counts.accuracy is not None
    }
