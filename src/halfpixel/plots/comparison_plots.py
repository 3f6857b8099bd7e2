"""The plots of a comparison: A is blue, B is orange."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from halfpixel.plots.evaluation_plots import Agreement, Estimate, Pairs, draw_agreement, new_axes
from halfpixel.plots.style import COLOURS, INK, STYLE

COLOUR_A, COLOUR_B = COLOURS[:2]

_BINS = 30


Both = tuple[Pairs, Agreement]


def agreement_of_both(a: Both, b: Both) -> Figure:
    """Two Bland-Altman plots on one scale: predicted - true count against the mean of the two, a dot per image."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.2), layout="constrained")
        both = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, name, side, colour in zip(both, "AB", (a, b), (COLOUR_A, COLOUR_B), strict=True):
            draw_agreement(axes, *side, dots=colour, limits=INK)
            axes.set_title(name, loc="left", color=colour, fontweight="bold")
            axes.grid(visible=True)
            axes.set_axisbelow(True)
        both[1].set_xlabel("mean of annotated and predicted objects")
    return figure


def error_rates_of_both(rates: Mapping[str, tuple[Estimate, Estimate]]) -> Figure:
    """Two bars for each error type, the first at the top: how often it happens per 100 annotated objects."""
    names = [*rates][::-1]
    with mpl.rc_context(STYLE):
        figure, axes = new_axes()
        axes.grid(visible=False, axis="y")
        places = np.arange(len(names), dtype=np.float64)
        for side, (label, colour, shift) in enumerate((("A", COLOUR_A, 0.2), ("B", COLOUR_B, -0.2))):
            found = [rates[name][side] for name in names]
            values = [one.value for one in found]
            axes.barh(places + shift, values, color=colour, alpha=0.75, height=0.36, label=label)
            for place, one in zip(places + shift, found, strict=True):
                if one.ends is not None:
                    axes.plot(one.ends, [place, place], color=INK, linewidth=1.4)
        axes.set_yticks(places, names)
        axes.set(xlabel="per 100 annotated objects", xlim=(0, None if names else 1))
        axes.legend(frameon=False, loc="best")
    return figure


def areas_of_both(annotated: npt.NDArray[np.float64], a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Figure:
    """How many objects of each size there are, annotated and predicted; sizes on a logarithmic scale."""
    series = (("annotated", annotated, INK), ("A", a, COLOUR_A), ("B", b, COLOUR_B))
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
