"""An evaluation as a page to read and a file to compute with."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.coco_ap import CocoAP
from halfpixel.evaluation.counting import CountError
from halfpixel.evaluation.evaluate import Evaluation, SliceEvaluation
from halfpixel.files import write_whole
from halfpixel.report import plots

_WORST = 20
"""How many images the table of the largest count errors lists."""

_CSS = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 62rem; background: #fff; color: #22303c;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; }
p { margin: .3rem 0 .9rem; max-width: 46rem; }
.quiet { color: #5b6873; font-size: .9rem; }
.warning { border-left: 4px solid #d55e00; padding: .4rem .9rem; background: #fdf3ec; }
.key { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.6rem 0 .5rem; padding: 0; list-style: none; }
.key li { flex: 1 1 11rem; border: 1px solid #dde2e6; border-radius: 8px; padding: .8rem 1rem; }
.key b { display: block; font-size: 1.7rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; text-align: right; border-bottom: 1px solid #e4e8eb; white-space: nowrap; }
th { font-weight: 600; border-bottom: 2px solid #9aa5ae; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
small { color: #5b6873; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; margin-top: 1.5rem; }
figure { flex: 1 1 24rem; margin: 0; }
figure img { width: 100%; height: auto; }
figcaption { color: #5b6873; font-size: .9rem; }
"""


def write_report(
    evaluation: Evaluation, out: Path, *, title: str = "Evaluation", about: Mapping[str, str] | None = None
) -> Path:
    """Write `report.json` and `index.html` to a folder, which is made if need be.

    The page stands alone: no scripts, nothing to fetch.

    Args:
        evaluation: what was measured.
        out: the folder.
        title: the page's heading.
        about: what else to state, for example the model's name; shown under the heading and stored in the file.

    Returns:
        The page.
    """
    about = dict(about or {})
    out.mkdir(parents=True, exist_ok=True)
    document = {"title": title, "about": about, **evaluation.to_json()}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(out / "report.json", text.encode())
    page = out / "index.html"
    write_whole(page, render_page(evaluation, title=title, about=about).encode())
    return page


def render_page(evaluation: Evaluation, *, title: str, about: Mapping[str, str]) -> str:
    """The page as HTML text."""
    sections = [
        _head(evaluation, title, about),
        _key_numbers(evaluation),
        _pictures(evaluation),
        _average_precision(evaluation),
        _quality(evaluation),
        _counts(evaluation),
    ]
    body = "\n".join(section for section in sections if section)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _head(evaluation: Evaluation, title: str, about: Mapping[str, str]) -> str:
    overall = evaluation.overall
    facts = {
        **about,
        "data": evaluation.data,
        "images": f"{overall.n_images:,}",
        "annotated objects": f"{overall.n_objects:,}",
        "score threshold": f"{evaluation.threshold:g}",
    }
    if evaluation.n_ignored:
        facts["ignored regions"] = f"{evaluation.n_ignored:,}"
    line = " &middot; ".join(f"{escape(name)}: <b>{escape(value)}</b>" for name, value in facts.items())
    warning = ""
    if evaluation.n_saturated:
        warning = (
            f'\n<p class="warning">In {evaluation.n_saturated:,} of {overall.n_images:,} images the detection limit '
            f"was reached: there may be more objects than were listed. Raise the limit and evaluate again.</p>"
        )
    return f'<h1>{escape(title)}</h1>\n<p class="quiet">{line}</p>{warning}'


def _key_numbers(evaluation: Evaluation) -> str:
    overall = evaluation.overall
    first = overall.quality[0] if overall.quality else None
    numbers = [
        ("COCO mask AP", _number(evaluation.mask_ap.ap), f"at most {evaluation.max_detections:,} detections"),
        (
            "Count error (MAE)",
            _number(overall.count.mae, 2),
            f"objects an image{_beside(overall.count_mae_interval, 2)}",
        ),
        ("Count bias", _signed(overall.count.bias), "objects an image"),
    ]
    if first is not None:
        name = f"TP/(TP+FP+FN) at IoU {first.counts.iou:.2f}"
        numbers.insert(1, (name, _number(first.counts.quality), f"at the threshold{_beside(first.interval)}"))
    items = "".join(f"<li>{name}<b>{value}</b><small>{note}</small></li>" for name, value, note in numbers)
    return f'<ul class="key">{items}</ul>'


def _pictures(evaluation: Evaluation) -> str:
    pictures = [
        (
            plots.quality_against_iou(evaluation),
            "Quality against the mask IoU that a pair must reach. The band is the "
            "95% interval of all images; beside each slice, its number of images.",
        ),
        (
            plots.predicted_against_true(evaluation),
            "Predicted against annotated number of objects, a dot per image. On the line they agree.",
        ),
    ]
    figures = []
    for figure, caption in pictures:
        data = base64.b64encode(plots.to_svg(figure).encode()).decode()
        figures.append(
            f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    return f'<div class="plots">{"".join(figures)}</div>'


def _average_precision(evaluation: Evaluation) -> str:
    aps = (evaluation.mask_ap, evaluation.box_ap)
    header = [
        "",
        "AP",
        "AP .50",
        "AP .75",
        "small",
        "medium",
        "large",
        "AR 1",
        "AR 10",
        f"AR {aps[0].max_detections:,}",
    ]
    rows = [[ap.kind, *(_number(value) for value in _ap_row(ap))] for ap in aps]
    parts = [
        "<h2>COCO average precision</h2>",
        f'<p class="quiet">{escape(evaluation.definitions["mask_ap"])} Small, medium and large are AP of objects under '
        f"32 x 32 pixels, up to 96 x 96, and over.</p>",
        _table(header, rows),
    ]
    if len(evaluation.class_names) > 1:
        per_class = [[name, *(_number(ap.per_class[name]) for ap in aps)] for name in evaluation.class_names]
        parts.append(_table(["class", "mask AP", "box AP"], per_class))
    return "\n".join(parts)


def _ap_row(ap: CocoAP) -> tuple[float | None, ...]:
    return (ap.ap, ap.ap50, ap.ap75, ap.ap_small, ap.ap_medium, ap.ap_large, ap.ar_1, ap.ar_10, ap.ar_max)


def _quality(evaluation: Evaluation) -> str:
    header = ["IoU", "quality", "95% interval", "precision", "recall", "F1", "mean IoU of pairs", "TP", "FP", "FN"]
    rows = [
        [
            f"{q.counts.iou:.2f}",
            _number(q.counts.quality),
            _interval(q.interval),
            *(_number(v) for v in (q.counts.precision, q.counts.recall, q.counts.f1, q.counts.mean_matched_iou)),
            *(f"{v:,}" for v in (q.counts.tp, q.counts.fp, q.counts.fn)),
        ]
        for q in evaluation.overall.quality
    ]
    parts = [
        "<h2>Detection quality at the threshold</h2>",
        f'<p class="quiet">{escape(evaluation.definitions["quality"])}</p>',
        _table(header, rows),
    ]
    if evaluation.slices:
        ious = [f"{q.counts.iou:.2f}" for q in evaluation.overall.quality]
        rows = [
            [name, f"{one.n_images:,}", f"{one.n_objects:,}", *(_number(q.counts.quality) for q in one.quality)]
            for name, one in evaluation.slices.items()
        ]
        parts += [
            f"<h2>Quality by {escape(str(evaluation.slice_by))}</h2>",
            _table([str(evaluation.slice_by), "images", "objects", *ious], rows),
        ]
    return "\n".join(parts)


def _counts(evaluation: Evaluation) -> str:
    header = ["", "images", "annotated", "predicted", "MAE", "95% interval", "bias"]
    named: list[tuple[str, SliceEvaluation]] = [("all images", evaluation.overall), *evaluation.slices.items()]
    rows = [[name, *_count_row(one.count, _interval(one.count_mae_interval, 2))] for name, one in named]
    rows += [[name, *_count_row(error, "")] for name, error in evaluation.overall.count_per_class.items()]
    worst = sorted(evaluation.images, key=lambda one: -abs(sum(one.predicted) - sum(one.true)))
    worst = [one for one in worst if sum(one.predicted) != sum(one.true)][:_WORST]
    parts = [
        "<h2>Counts at the threshold</h2>",
        f'<p class="quiet">{escape(evaluation.definitions["count_mae"])} Bias: '
        f"{escape(evaluation.definitions['count_bias'])}</p>",
        _table(header, rows),
    ]
    if worst:
        rows = [
            [one.path.name, f"{sum(one.true):,}", f"{sum(one.predicted):,}", f"{sum(one.predicted) - sum(one.true):+,}"]
            for one in worst
        ]
        parts += [
            "<h2>Images with the largest count errors</h2>",
            _table(["image", "annotated", "predicted", "error"], rows),
        ]
    return "\n".join(parts)


def _count_row(error: CountError, interval: str) -> list[str]:
    totals = [f"{value:,}" for value in (error.n_images, error.true, error.predicted)]
    return [*totals, _number(error.mae, 2), interval, _signed(error.bias)]


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _number(value: float | None, digits: int = 3) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.2f}"


def _interval(interval: Interval | None, digits: int = 3) -> str:
    return "" if interval is None else f"[{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _beside(interval: Interval | None, digits: int = 3) -> str:
    return "" if interval is None else f", 95% interval {_interval(interval, digits)}"
