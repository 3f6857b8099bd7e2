"""A comparison as a page to read and a file to compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from halfpixel.evaluation.detection.error_types import NAMES
from halfpixel.evaluation.model_comparison import MEASURES, Comparison, PartComparison, Side
from halfpixel.evaluation.paired_difference import Contrast
from halfpixel.plots import comparison_plots as plots
from halfpixel.plots.evaluation_plots import side_by_side
from halfpixel.report.differences import LEGEND
from halfpixel.report.html import (
    Cell,
    about_intervals,
    definitions,
    document,
    estimate,
    facts,
    figure,
    heading,
    key_numbers,
    number,
    table,
    write_page,
)
from halfpixel.report.worst_images import WorstImage

OF_SLICES = ("count_mae", "count_bias", "merge", "split", "miss", "quality_50")
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
    return document(
        title,
        [
            _head(comparison, title, about),
            _key_numbers(comparison.overall.contrasts),
            _plots(comparison),
            _numbers(comparison),
            _slices(comparison),
            _pictures(comparison, pictures),
            _definitions(comparison),
        ],
    )


def _head(comparison: Comparison, title: str, about: Mapping[str, str]) -> str:
    overall = comparison.overall
    stated = {
        **about,
        "data": comparison.data,
        "images": f"{overall.n_images:,}",
        "annotated objects": f"{overall.n_objects:,}",
    }
    if comparison.n_ignored:
        stated["ignored regions"] = f"{comparison.n_ignored:,}"
    sides = (("A", comparison.a, plots.COLOUR_A), ("B", comparison.b, plots.COLOUR_B))
    who = "".join(
        f'<p><b style="color:{colour}">{name}</b>: <b>{escape(side.name)}</b>, score threshold {side.threshold:g}</p>\n'
        for name, side, colour in sides
    )
    return (
        f"<h1>{escape(title)}</h1>\n{who}{facts(stated)}\n"
        f"{''.join(_warning(name, side) for name, side, _ in sides)}"
        f"{about_intervals(comparison.definitions['intervals'])}"
    )


def _warning(name: str, side: Side) -> str:
    if not side.n_saturated:
        return ""
    return (
        f'<p class="warning">{name}: in {side.n_saturated:,} of {len(side.images):,} images the detection limit was '
        f"reached: there may be more objects than were listed. Raise the limit and compare again.</p>\n"
    )


def _key_numbers(contrasts: Mapping[str, Contrast]) -> str:
    items = []
    for name, what in (
        ("count_mae", "Count error (MAE), objects an image"),
        ("merge", "Merges per 100 objects"),
        ("quality_50", "TP/(TP+FP+FN) at IoU .50"),
        ("area_ratio", "Total area, found / annotated"),
    ):
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
    return key_numbers(items)


def _plots(comparison: Comparison) -> str:
    drawn = [
        (
            plots.counts_of_both(comparison),
            "Predicted against annotated number of objects, a dot per image and model. On the line they agree.",
        ),
        (
            plots.mistakes_of_both(comparison),
            "What goes wrong how often, per 100 annotated objects, with 95% intervals.",
        ),
        (
            plots.agreement_of_both(comparison),
            "Bland-Altman plots: the difference of predicted and annotated count against their mean, a dot per image, "
            "with the bias, the limits of agreement, and their 95% intervals as bands.",
        ),
        (
            plots.areas_of_both(comparison),
            "How large the objects are. Merged objects are missing where the annotated ones have their peak, and come "
            "in addition to the right of it.",
        ),
    ]
    return side_by_side(drawn)


def _numbers(comparison: Comparison) -> str:
    overall, said = comparison.overall, comparison.definitions
    headings = {
        "counts": "Counts",
        "mistakes": "Mistakes, per 100 annotated objects",
        "quality": "Detection quality",
        "areas": "Areas",
    }
    parts = [heading("Side by side"), table(["Totals", "annotated", "A", "B"], _totals(overall))]
    for group, title in headings.items():
        rows = [
            [measure.label, *_contrast_row(name, overall.contrasts[name])]
            for name, measure in MEASURES.items()
            if measure.group == group and (name != "class confusion" or len(comparison.class_names) > 1)
        ]
        parts.append(table([title, "A", "B", "A - B", "A / B", "better"], rows))
    named = {"difference": "A - B", "ratio": "A / B", "better": "Better"}
    parts.append(definitions((label, said[name]) for name, label in named.items()))
    return "\n".join(parts)


def _totals(part: PartComparison) -> Iterator[list[str]]:
    yield ["objects", f"{part.n_objects:,}", f"{part.a.objects:,}", f"{part.b.objects:,}"]
    yield ["area in pixels", f"{part.area_px:,}", f"{part.a.area_px:,}", f"{part.b.area_px:,}"]
    for name in NAMES:
        if part.a.events[name] or part.b.events[name]:
            yield [name, "", f"{part.a.events[name]:,}", f"{part.b.events[name]:,}"]
    for one, other in zip(part.a.quality, part.b.quality, strict=True):
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


def _slices(comparison: Comparison) -> str:
    if not comparison.slices:
        return ""
    explained = "A and B in each cell; a letter below says which is better, where the interval of the slice says so."
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
    return f"{heading(f'By {comparison.slice_by}', comparison.definitions['slices'], explained)}\n{table(header, rows)}"


def _pictures(comparison: Comparison, pictures: Sequence[WorstImage]) -> str:
    if not pictures:
        return ""
    shown = "".join(figure("image/jpeg", one.jpeg, one.caption) for one in pictures)
    explained = (
        "The images on which count errors are furthest apart and those on which the numbers of mistakes are: what is "
        "annotated, what A found and what B found, and for both the annotated objects that they missed. Of an image "
        "that is too large, the part with most mistakes is shown."
    )
    swatch = "display:inline-block;width:.9em;height:.9em;border-radius:2px;border:1px solid #5b6873;margin:0 .35em 0 0"
    colours = "".join(
        f'<span style="white-space:nowrap;margin-right:1.2em"><span style="{swatch};background:rgb{colour}"></span>'
        f"{escape(name)}</span> "
        for name, colour in LEGEND.items()
        if name != "class confusion" or len(comparison.class_names) > 1
    )
    return f'{heading("Where they differ", explained)}\n<p>{colours}</p>\n<div class="plots worst">{shown}</div>'


def _definitions(comparison: Comparison) -> str:
    said = comparison.definitions
    labels = {
        "count_mae": "Count MAE", "count_bias": "Count bias", "mistakes": "Mistakes", "quality": "Quality",
        "f1": "F1", "mask_ap": "COCO mask AP", "area_ratio": "Total area, found / annotated",
        "median_area_ratio": "Median area of pairs, found / annotated",
    }  # fmt: skip
    shown = [name for name in said if name not in {"intervals", "difference", "ratio", "better", "slices"}]
    named = [(labels.get(name, name.capitalize()), said[name]) for name in shown]
    return f"{heading('What the numbers mean')}\n{definitions(named)}"
