"""A comparison as a page to read and a file to compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from halfpixel.evaluation.detection.error_types import ERROR_TYPES, LABELS
from halfpixel.evaluation.model_comparison import MEASURES, Comparison, PartComparison
from halfpixel.evaluation.paired_difference import Contrast
from halfpixel.jobs.wording import COMPARED
from halfpixel.plots import comparison_plots as plots
from halfpixel.plots.evaluation_plots import Estimate, predicted_against_true
from halfpixel.report.differences import LEGEND
from halfpixel.report.plotted import agreement_of, count_pairs, ends_of
from halfpixel.report.rendering import Cell, Table, estimate, number, pictures_shown, plots_shown, render, write_page
from halfpixel.report.worst_images import WorstImage

OF_SLICES = ("count_mae", "count_bias", "merge", "split", "miss", "accuracy_50")
"""What is shown of each slice; the file has all."""


def write_comparison(
    comparison: Comparison,
    out: Path,
    *,
    title: str = "Comparison",
    about: Mapping[str, str] | None = None,
    pictures: Sequence[WorstImage] = (),
) -> Path:
    """Write `report.json` and `index.html` to a folder, which is made if need be.

    The page stands alone: no scripts, nothing to fetch.

    Args:
        comparison: what was measured.
        out: the folder.
        title: the page's heading.
        about: what else to state; shown under the heading and stored in the file.
        pictures: for the page, see `differences.draw_differences`.

    Returns:
        The page.
    """
    about = dict(about or {})
    page = render_comparison(comparison, title=title, about=about, pictures=pictures)
    return write_page(out, page, {"title": title, "about": about, **comparison.to_json()})


def render_comparison(
    comparison: Comparison, *, title: str, about: Mapping[str, str], pictures: Sequence[WorstImage] = ()
) -> str:
    """The page as HTML text."""
    overall, confusable = comparison.overall, len(comparison.class_names) > 1
    sides = ((comparison.a, plots.COLOUR_A), (comparison.b, plots.COLOUR_B))
    values = {
        "title": title,
        "said": comparison.definitions,
        "comparison": comparison,
        "sides": [{"letter": x, "of": side, "colour": colour} for x, (side, colour) in zip("AB", sides, strict=True)],
        "stated": _stated(comparison, about),
        "key_numbers": _key_numbers(overall.contrasts),
        "plots": plots_shown(_plots(comparison)),
        "tables": {"side_by_side": _side_by_side(comparison), "slices": _slices(comparison)},
        "pictures": pictures_shown(pictures),
        "legend": {
            LABELS.get(name, name): colour for name, colour in LEGEND.items() if name != "class confusion" or confusable
        },
        "definitions": _definitions(comparison),
    }
    return render("comparison.html.j2", values)


def _stated(comparison: Comparison, about: Mapping[str, str]) -> dict[str, str]:
    """What the page is about."""
    overall = comparison.overall
    stated = {
        **about,
        "data": comparison.data,
        "images": f"{overall.n_images:,}",
        "annotated objects": f"{overall.n_objects:,}",
        "compared by": COMPARED[comparison.compared_by],
    }
    if comparison.n_ignored:
        stated["ignored regions"] = f"{comparison.n_ignored:,}"
    return stated


def _key_numbers(contrasts: Mapping[str, Contrast]) -> list[tuple[str, str, str]]:
    """The few that matter most: what, the number, and a note."""
    items = []
    for name, what in (
        ("count_mae", "Count error (MAE), objects an image"),
        ("merge", "Merges per 100 objects"),
        ("accuracy_50", "TP/(TP+FP+FN) at IoU .50"),
        ("area_ratio", "Total area, found / annotated"),
    ):
        if name not in contrasts:
            continue
        one, digits = contrasts[name], MEASURES[name].digits
        verdict = f"{one.better} is better" if one.better else "neither is clearly better"
        by = one.ratio if MEASURES[name].with_ratio else one.difference
        sign, interval = (
            ("A / B", one.ratio_interval) if MEASURES[name].with_ratio else ("A - B", one.difference_interval)
        )
        cell = estimate(by, interval, digits)
        note = f", 95% interval {cell.note}" if cell.note else ""
        items.append(
            (what, f"{number(one.a, digits)} | {number(one.b, digits)}", f"{sign} {cell.text}{note}: {verdict}")
        )
    return items


def _plots(comparison: Comparison) -> list[tuple[Figure, str]]:
    objects = "objects" if comparison.compared_by == "mask" else "objects' boxes"
    a, b = ((count_pairs(side.images), agreement_of(side.count)) for side in (comparison.a, comparison.b))
    return [
        (
            predicted_against_true({"A": a[0], "B": b[0]}),
            "Predicted against annotated number of objects, a dot per image and model. On the line they agree.",
        ),
        (
            plots.error_rates_of_both(_error_rates(comparison.overall.contrasts)),
            "What goes wrong how often, per 100 annotated objects, with 95% intervals.",
        ),
        (
            plots.agreement_of_both(a, b),
            "Bland-Altman plots: the difference of predicted and annotated count against their mean, a dot per image, "
            "with the bias, the limits of agreement, and their 95% intervals as bands.",
        ),
        (
            plots.areas_of_both(comparison.areas_px, comparison.a.areas_px, comparison.b.areas_px),
            f"How large the {objects} are. Merged objects are missing where the annotated ones have their peak, and "
            "come in addition to the right of it.",
        ),
    ]


def _error_rates(contrasts: Mapping[str, Contrast]) -> dict[str, tuple[Estimate, Estimate]]:
    """Of those that happened."""
    found: dict[str, tuple[Estimate, Estimate]] = {}
    for name in ERROR_TYPES:
        one = contrasts[name]
        if one.a or one.b:
            a, b = (one.a or 0.0, one.a_interval), (one.b or 0.0, one.b_interval)
            found[LABELS[name]] = (Estimate(a[0], ends_of(a[1])), Estimate(b[0], ends_of(b[1])))
    return found


def _side_by_side(comparison: Comparison) -> list[Table]:
    """Totals, then what is measured, group by group."""
    overall = comparison.overall
    headings = {
        "counts": "Counts",
        "error_types": "Error types, per 100 annotated objects",
        "accuracy": "Detection accuracy",
        "areas": "Areas",
    }
    confusable = len(comparison.class_names) > 1
    area = "area in pixels" if comparison.compared_by == "mask" else "area of the boxes in pixels"
    found = [Table.of(["Totals", "annotated", "A", "B"], _totals(overall, area))]
    for group, title in headings.items():
        rows = [
            [measure.label, *_contrast_row(name, overall.contrasts[name])]
            for name, measure in MEASURES.items()
            if measure.group == group and name in overall.contrasts and (name != "class confusion" or confusable)
        ]
        if rows:
            found.append(Table.of([title, "A", "B", "A - B", "A / B", "better"], rows))
    return found


def _totals(part: PartComparison, area: str) -> Iterator[list[str]]:
    yield ["objects", f"{part.n_objects:,}", f"{part.a.objects:,}", f"{part.b.objects:,}"]
    yield [area, f"{part.area_px:,}", f"{part.a.area_px:,}", f"{part.b.area_px:,}"]
    for name in ERROR_TYPES:
        if part.a.events[name] or part.b.events[name]:
            yield [LABELS[name], "", f"{part.a.events[name]:,}", f"{part.b.events[name]:,}"]
    for one, other in zip(part.a.detection, part.b.detection, strict=True):
        yield [f"pairs at IoU {one.iou:.2f}", "", f"{one.tp:,}", f"{other.tp:,}"]


def _contrast_row(name: str, one: Contrast) -> list[Cell | str]:
    digits, sign = MEASURES[name].digits, name == "count_bias"
    return [
        estimate(one.a, one.a_interval, digits, sign=sign),
        estimate(one.b, one.b_interval, digits, sign=sign),
        estimate(one.difference, one.difference_interval, digits, sign=True),
        estimate(one.ratio, one.ratio_interval, 2) if MEASURES[name].with_ratio else "",
        one.better or "",
    ]


def _slices(comparison: Comparison) -> Table:
    rows = []
    for name, part in comparison.slices.items():
        cells: list[Cell | str] = [Cell(name, f"{part.n_objects:,} objects"), f"{part.n_images:,}"]
        for measure in OF_SLICES:
            one = part.contrasts[measure]
            text = " | ".join(number(value, 2, sign=measure == "count_bias") for value in (one.a, one.b))
            cells.append(Cell(text, f"{one.better} is better" if one.better else ""))
        ratio = part.contrasts["count_mae"]
        cells.insert(3, estimate(ratio.ratio, ratio.ratio_interval, 2))
        rows.append(cells)
    names = [MEASURES[name].label.replace(" at IoU", "") for name in OF_SLICES]
    header = ["", "images", names[0], "A / B", *names[1:]]
    return Table.of(header, rows)


def _definitions(comparison: Comparison) -> list[tuple[str, str]]:
    said = comparison.definitions
    labels = {
        "count_mae": "Count MAE", "count_bias": "Count bias", "error_types": "Error types", "accuracy": "Accuracy",
        "f1": "F1", "compared_by": "Compared by", "mask_ap": "COCO mask AP", "box_ap": "COCO box AP",
        "area_ratio": "Total area, found / annotated",
        "median_area_ratio": "Median area of pairs, found / annotated",
    }  # fmt: skip
    shown = [name for name in said if name not in {"intervals", "difference", "ratio", "better", "slices"}]
    return [(labels.get(name, LABELS.get(name, name).capitalize()), said[name]) for name in shown]
