"""The plots of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from halfpixel.plots.style import COLOURS, INK, STYLE


class Estimate(NamedTuple):
    """A number and the ends of its interval, where it has one."""

    value: float
    ends: tuple[float, float] | None = None


Pairs = Sequence[tuple[int, int]]
"""Of each image the annotated and the predicted number of objects."""


@dataclass(frozen=True)
class Agreement:
    """How far two counts of the same images differ: the bias and the limits of agreement, where they are defined."""

    bias: Estimate | None
    low: Estimate | None
    high: Estimate | None


def accuracy_against_iou(
    overall: Mapping[float, Estimate], slices: Mapping[str, Mapping[float, Estimate]], iou: str = "mask IoU"
) -> Figure:
    """Detection accuracy at each IoU.

    Args:
        overall: of all images, drawn with their intervals, by IoU.
        slices: of parts of the data, by the name that the legend gives them; only as many as there are colours.
        iou: which one it is.
    """
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        lines = [_accuracy_line(axes, overall, INK, 2.2)]
        banded = [(iou, one.ends) for iou, one in overall.items() if one.ends is not None]
        if banded:
            ious, (low, high) = [iou for iou, _ in banded], zip(*(ends for _, ends in banded), strict=True)
            axes.fill_between(ious, low, high, color=INK, alpha=0.12, linewidth=0)
        for one, colour in zip(slices.values(), COLOURS, strict=False):
            lines.append(_accuracy_line(axes, one, colour, 1.4))
        axes.set(xlabel=iou, ylabel="TP / (TP + FP + FN)", ylim=(0, 1))
        names = ["all images", *slices][: len(lines)]
        for text in axes.legend(lines, names, frameon=False, loc="lower left").get_texts():
            text.set_parse_math(False)
    return figure


def predicted_against_true(by_model: Mapping[str, Pairs]) -> Figure:
    """One dot for each image and model: its true and its predicted number of objects."""
    # the diagonal also shows on images without objects
    top = max((number for pairs in by_model.values() for pair in pairs for number in pair), default=1) or 1
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        axes.plot([0, top], [0, top], color="#9aa5ae", linewidth=1, zorder=1)
        for (name, pairs), colour in zip(by_model.items(), COLOURS, strict=False):
            axes.scatter(
                [true for true, _ in pairs], [predicted for _, predicted in pairs],
                s=22, color=colour, alpha=0.65, linewidths=0, zorder=2, clip_on=False, label=name,
            )  # fmt: skip
        if len(by_model) > 1:
            axes.legend(frameon=False, loc="upper left")
        axes.set(xlabel="annotated objects", ylabel="predicted objects", xlim=(0, top * 1.04), ylim=(0, top * 1.04))
        axes.set_aspect("equal")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def bland_altman(pairs: Pairs, agreement: Agreement) -> Figure:
    """One dot per image: the difference of predicted and true count against their mean (Bland and Altman 1986)."""
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        draw_agreement(axes, pairs, agreement, dots=COLOURS[0], limits=COLOURS[1])
        axes.set_xlabel("mean of annotated and predicted objects")
    return figure


def draw_agreement(axes: Axes, pairs: Pairs, agreement: Agreement, *, dots: str, limits: str) -> None:
    """A Bland-Altman plot: dots, bias and limits of agreement, the latter two with their intervals as bands."""
    axes.axhline(0, color="#9aa5ae", linewidth=1, zorder=1)
    lines = ((agreement.bias, INK, "-"), (agreement.low, limits, "--"), (agreement.high, limits, "--"))
    for one, colour, style in lines:
        if one is None:
            continue
        axes.axhline(one.value, color=colour, linewidth=1.4, linestyle=style, zorder=2)
        axes.annotate(
            f"{one.value:+.1f}", (1, one.value), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", color=colour, fontsize=9,
        )  # fmt: skip
        if one.ends is not None:
            axes.axhspan(*one.ends, color=colour, alpha=0.1, linewidth=0, zorder=0)
    axes.scatter(
        [(true + found) / 2 for true, found in pairs], [found - true for true, found in pairs],
        s=22, color=dots, alpha=0.65, linewidths=0, zorder=3,
    )  # fmt: skip
    axes.set_ylabel("predicted - annotated")
    axes.yaxis.set_major_locator(MaxNLocator(7, integer=True))


def error_rates(rates: Mapping[str, Estimate]) -> Figure:
    """A bar for each error type, the first at the top: how often it happens per 100 annotated objects."""
    shown = list(rates.items())[::-1]
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        names, values = [name for name, _ in shown], [one.value for _, one in shown]
        axes.barh(names, values, color=COLOURS[0], alpha=0.75, height=0.6)
        for k, (_, one) in enumerate(shown):
            if one.ends is not None:
                axes.plot(one.ends, [k, k], color=INK, linewidth=1.6)
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


def _accuracy_line(axes: Axes, by_iou: Mapping[float, Estimate], colour: str, width: float) -> Line2D:
    values = [one.value for one in by_iou.values()]
    (line,) = axes.plot([*by_iou], values, color=colour, linewidth=width, marker="o", markersize=3.5)
    return line
