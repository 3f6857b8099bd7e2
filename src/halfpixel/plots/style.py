"""How our plots look."""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = "#22303c"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which colour-blind people tell apart."""
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "halfpixel",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#9aa5ae",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#e4e8eb",
}
"""For `matplotlib.rc_context`."""


def to_svg(plot: Figure) -> str:
    """The same figure gives the same text."""
    with mpl.rc_context(STYLE):
        text = io.StringIO()
        plot.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()
