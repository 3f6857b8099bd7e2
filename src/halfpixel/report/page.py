"""An evaluation as a page to read and a file to compute with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from halfpixel.evaluation.evaluation import Evaluation
from halfpixel.plots import evaluation_plots as plots
from halfpixel.report.html import about_intervals, document, estimate, facts, figure, heading, key_numbers, write_page
from halfpixel.report.sections import average_precision, counts, mistakes, parts, quality
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
    return document(
        title,
        [
            _head(evaluation, title, about),
            _key_numbers(evaluation),
            _plots(evaluation),
            counts(evaluation),
            mistakes(evaluation),
            quality(evaluation),
            average_precision(evaluation),
            parts(evaluation),
            _worst(worst),
        ],
    )


def _head(evaluation: Evaluation, title: str, about: Mapping[str, str]) -> str:
    overall = evaluation.overall
    stated = {
        **about,
        "data": evaluation.data,
        "images": f"{overall.n_images:,}",
        "annotated objects": f"{overall.n_objects:,}",
        "score threshold": f"{evaluation.threshold:g}",
    }
    if evaluation.n_ignored:
        stated["ignored regions"] = f"{evaluation.n_ignored:,}"
    warning = ""
    if evaluation.n_saturated:
        warning = (
            f'\n<p class="warning">In {evaluation.n_saturated:,} of {overall.n_images:,} images the detection limit '
            f"was reached: there may be more objects than were listed. Raise the limit and evaluate again.</p>"
        )
    return (
        f"<h1>{escape(title)}</h1>\n{facts(stated)}{warning}{_search(evaluation)}\n"
        f"{about_intervals(evaluation.definitions['intervals'])}"
    )


def _search(evaluation: Evaluation) -> str:
    if evaluation.search is None:
        return ""
    search, savings = evaluation.search, evaluation.search.savings
    return (
        f"\n<p>A first pass let the network look at {savings.looked_at_px / savings.area_px:.1%} of the pixels. "
        f"{search.lost:,} of {search.n_objects:,} annotated objects lie, by the larger part, where it did not look.</p>"
    )


def _key_numbers(evaluation: Evaluation) -> str:
    overall = evaluation.overall
    first, count = overall.quality[0], overall.count
    numbers = [
        (
            "COCO mask AP",
            estimate(overall.mask_ap, overall.mask_ap_interval),
            f"at most {evaluation.max_detections:,} detections",
        ),
        (
            f"TP/(TP+FP+FN) at IoU {first.counts.iou:.2f}",
            estimate(first.counts.quality, first.interval),
            "at the threshold",
        ),
        ("Count error (MAE)", estimate(count.mae, count.intervals.get("mae"), 2), "objects an image"),
        ("Count bias", estimate(count.bias, count.intervals.get("bias"), 2, sign=True), "objects an image"),
    ]
    return key_numbers(
        (name, cell.text, f"{note}, 95% interval {cell.note}" if cell.note else note) for name, cell, note in numbers
    )


def _plots(evaluation: Evaluation) -> str:
    drawn = [
        (
            plots.predicted_against_true(evaluation),
            "Predicted against annotated number of objects, a dot per image. On the line they agree.",
        ),
        (
            plots.bland_altman(evaluation),
            "Bland-Altman plot: the difference of the two counts against their mean, a dot per image, with the bias, "
            "the limits of agreement, and their 95% intervals as bands.",
        ),
        (
            plots.mistake_rates(evaluation),
            "What goes wrong how often, per 100 annotated objects, with 95% intervals.",
        ),
        (
            plots.quality_against_iou(evaluation),
            "Quality against the mask IoU that a pair must reach. The band is the "
            "95% interval of all images; beside each slice, its number of images.",
        ),
    ]
    return plots.side_by_side(drawn)


def _worst(worst: Sequence[WorstImage]) -> str:
    if not worst:
        return ""
    shown = "".join(figure("image/jpeg", one.jpeg, one.caption) for one in worst)
    explained = (
        "Those whose counts are furthest off and those with most mistakes. Blue outlines are annotated objects, orange "
        "ones predictions, bright where they have no partner. Words name the mistakes. Of an image that is too large, "
        "the part with most of them is shown."
    )
    return f'{heading("The worst images", explained)}\n<div class="plots worst">{shown}</div>'
