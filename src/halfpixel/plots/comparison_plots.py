"""The plots of a comparison: A is blue, B is orange."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from halfpixel.evaluation.detection.error_types import NAMES
from halfpixel.evaluation.model_comparison import Comparison
from halfpixel.plots.evaluation_plots import draw_agreement, draw_counts, new_axes
from halfpixel.plots.style import COLOURS, INK, STYLE

COLOUR_A, COLOUR_B = COLOURS[:2]

_BINS = 30


def counts_of_both(comparison: Comparison) -> Figure:
    """Two dots per image: the number of objects that A and that B predicted, against the true one."""
    return draw_counts({"A": comparison.a.images, "B": comparison.b.images})


def agreement_of_both(comparison: Comparison) -> Figure:
    """Two Bland-Altman plots on one scale: predicted - true count against the mean of the two, a dot per image."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.2), layout="constrained")
        both = figure.subplots(2, 1, sharex=True, sharey=True)
        sides = (("A", comparison.a, COLOUR_A), ("B", comparison.b, COLOUR_B))
        for axes, (name, side, colour) in zip(both, sides, strict=True):
            draw_agreement(axes, side.images, side.count, dots=colour, limits=INK)
            axes.set_title(name, loc="left", color=colour, fontweight="bold")
            axes.grid(visible=True)
            axes.set_axisbelow(True)
        both[1].set_xlabel("mean of annotated and predicted objects")
    return figure


def mistakes_of_both(comparison: Comparison) -> Figure:
    """Two bars for each kind of mistake: how often it happens per 100 annotated objects."""
    found = comparison.overall.contrasts
    names = [name for name in NAMES if found[name].a or found[name].b][::-1]
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        axes.grid(visible=False, axis="y")
        places = np.arange(len(names), dtype=np.float64)
        for label, colour, shift in (("A", COLOUR_A, 0.2), ("B", COLOUR_B, -0.2)):
            values = [getattr(found[name], label.lower()) for name in names]
            axes.barh(places + shift, values, color=colour, alpha=0.75, height=0.36, label=label)
            for place, name in zip(places + shift, names, strict=True):
                interval = getattr(found[name], f"{label.lower()}_interval")
                if interval is not None:
                    axes.plot([interval.low, interval.high], [place, place], color=INK, linewidth=1.4)
        axes.set_yticks(places, names)
        axes.set(xlabel="per 100 annotated objects", xlim=(0, None if names else 1))
        axes.legend(frameon=False, loc="best")
    return figure


def areas_of_both(comparison: Comparison) -> Figure:
    """How many objects of each size there are, annotated and predicted; sizes on a logarithmic scale."""
    series = (
        ("annotated", comparison.areas_px, INK),
        ("A", comparison.a.areas_px, COLOUR_A),
        ("B", comparison.b.areas_px, COLOUR_B),
    )
    drawn = [(name, areas[areas > 0], colour) for name, areas, colour in series]
    everything = np.concatenate([areas for _, areas, _ in drawn])
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        if everything.size:
            edges = np.geomspace(everything.min() * 0.9, everything.max() * 1.1, _BINS + 1)
            for name, areas, colour in drawn:
                axes.stairs(np.histogram(areas, edges)[0], edges, color=colour, linewidth=1.6, label=name)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axes.legend(frameon=False)
        axes.set(xlabel="area of an object in pixels", ylabel="objects", ylim=(0, None))
    return figure
