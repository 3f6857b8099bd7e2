"""The plots of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from halfpixel.evaluation.counts.count_errors import CountError, ImageCount
from halfpixel.evaluation.evaluation import Evaluation, SliceEvaluation
from halfpixel.plots.style import COLOURS, INK, STYLE


def quality_against_iou(evaluation: Evaluation) -> Figure:
    """Detection quality at each IoU: all images with their interval, and each slice."""
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        names, lines = ["all images"], [_quality_line(axes, evaluation.overall, INK, 2.2)]
        overall = [(q.counts.iou, q.interval) for q in evaluation.overall.quality if q.interval is not None]
        if overall:
            ious = [iou for iou, _ in overall]
            axes.fill_between(
                ious, [i.low for _, i in overall], [i.high for _, i in overall], color=INK, alpha=0.12, linewidth=0
            )
        for (name, one), colour in zip(_largest(evaluation).items(), COLOURS, strict=False):
            names.append(f"{name} ({one.n_images})")
            lines.append(_quality_line(axes, one, colour, 1.4))
        axes.set(xlabel="mask IoU", ylabel="TP / (TP + FP + FN)", ylim=(0, 1))
        for text in axes.legend(lines, names, frameon=False, loc="lower left").get_texts():
            text.set_parse_math(False)
    return figure


def predicted_against_true(evaluation: Evaluation) -> Figure:
    """One dot per image: its true and its predicted number of objects."""
    return draw_counts({"": evaluation.images})


def draw_counts(by_model: Mapping[str, Sequence[ImageCount]]) -> Figure:
    """The true and the predicted number of objects of each image, a colour for each model."""
    both = [(sum(one.true), sum(one.predicted)) for images in by_model.values() for one in images]
    # the diagonal also shows on images without objects
    top = max((number for pair in both for number in pair), default=1) or 1
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        axes.plot([0, top], [0, top], color="#9aa5ae", linewidth=1, zorder=1)
        for (name, images), colour in zip(by_model.items(), COLOURS, strict=False):
            axes.scatter(
                [sum(one.true) for one in images], [sum(one.predicted) for one in images],
                s=22, color=colour, alpha=0.65, linewidths=0, zorder=2, clip_on=False, label=name,
            )  # fmt: skip
        if len(by_model) > 1:
            axes.legend(frameon=False, loc="upper left")
        axes.set(xlabel="annotated objects", ylabel="predicted objects", xlim=(0, top * 1.04), ylim=(0, top * 1.04))
        axes.set_aspect("equal")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def bland_altman(evaluation: Evaluation) -> Figure:
    """One dot per image: the difference of predicted and true count against their mean (Bland and Altman 1986)."""
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        draw_agreement(axes, evaluation.images, evaluation.overall.count, dots=COLOURS[0], limits=COLOURS[1])
        axes.set_xlabel("mean of annotated and predicted objects")
    return figure


def draw_agreement(axes: Axes, images: Sequence[ImageCount], count: CountError, *, dots: str, limits: str) -> None:
    """A Bland-Altman plot: dots, bias and limits of agreement, the latter two with their intervals as bands."""
    axes.axhline(0, color="#9aa5ae", linewidth=1, zorder=1)
    lines = (
        ("bias", count.bias, INK),
        ("agreement_low", count.agreement_low, limits),
        ("agreement_high", count.agreement_high, limits),
    )
    for name, value, colour in lines:
        if value is None:
            continue
        axes.axhline(value, color=colour, linewidth=1.4, linestyle="-" if name == "bias" else "--", zorder=2)
        axes.annotate(
            f"{value:+.1f}", (1, value), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", color=colour, fontsize=9,
        )  # fmt: skip
        interval = count.intervals.get(name)
        if interval is not None:
            axes.axhspan(interval.low, interval.high, color=colour, alpha=0.1, linewidth=0, zorder=0)
    pairs = [(sum(one.true), sum(one.predicted)) for one in images]
    axes.scatter(
        [(true + found) / 2 for true, found in pairs], [found - true for true, found in pairs],
        s=22, color=dots, alpha=0.65, linewidths=0, zorder=3,
    )  # fmt: skip
    axes.set_ylabel("predicted - annotated")
    axes.yaxis.set_major_locator(MaxNLocator(7, integer=True))


def mistake_rates(evaluation: Evaluation) -> Figure:
    """A bar for each kind of mistake: how often it happens per 100 annotated objects."""
    rates = [one for one in evaluation.overall.mistakes if one.per_100 is not None][::-1]
    values = [one.per_100 or 0.0 for one in rates]
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        axes.barh([one.count.name for one in rates], values, color=COLOURS[0], alpha=0.75, height=0.6)
        for k, one in enumerate(rates):
            if one.interval is not None:
                axes.plot([one.interval.low, one.interval.high], [k, k], color=INK, linewidth=1.6)
        axes.set(xlabel="per 100 annotated objects", xlim=(0, None if any(values) else 1))
        axes.grid(visible=False, axis="y")
    return figure


def new_axes() -> tuple[Figure, Axes]:
    """An empty plot with a grid, in the size that plots have on a page."""
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=True)
    axes.set_axisbelow(True)
    return figure, axes


def _quality_line(axes: Axes, one: SliceEvaluation, colour: str, width: float) -> Line2D:
    defined = [(q.counts.iou, q.counts.quality) for q in one.quality if q.counts.quality is not None]
    (line,) = axes.plot(
        *zip(*defined, strict=True) if defined else ([], []), color=colour, linewidth=width, marker="o", markersize=3.5
    )
    return line


def _largest(evaluation: Evaluation) -> dict[str, SliceEvaluation]:
    """As many slices as there are colours, those of most images."""
    by_size = sorted(evaluation.slices.items(), key=lambda item: -item[1].n_images)
    return dict(by_size[: len(COLOURS)])
