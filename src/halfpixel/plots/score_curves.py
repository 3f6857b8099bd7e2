"""What score thresholds do, and what scores are worth, as pictures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from halfpixel.plots.style import COLOURS, INK, STYLE

Row = Mapping[str, float | None]

RATIOS = {"precision": "precision", "recall": "recall", "f1": "F1", "accuracy": "TP / (TP + FP + FN)"}
FAINT = "#9aa5ae"
FEWEST_IN_BIN = 10
"""Of fewer objects the part that is real is mostly chance: the bin is drawn faint and the line leaves it out."""


def draw_sweep(rows: Sequence[Row], pairs: str, recommended: float | None = None, goal: str = "") -> bytes:
    """Counts, accuracy and count errors against the score threshold, as PNG.

    Args:
        rows: for each threshold its `threshold` and `found`; with annotations also `true`, `precision`, `recall`, `f1`,
            `accuracy`, `count_mae` and `count_bias`. Without those only the counts are drawn.
        pairs: what precision and recall were measured at, for example "mask IoU 0.5".
        recommended: a threshold to mark.
        goal: what it is recommended for.
    """
    annotated = "true" in rows[0]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 9.2 if annotated else 3.6), layout="constrained", dpi=150)
        axes = figure.subplots(3 if annotated else 1, sharex=True, squeeze=False)[:, 0]
        _draw_counts(axes[0], rows)
        if annotated:
            for (name, label), colour in zip(RATIOS.items(), COLOURS, strict=False):
                _line(axes[1], rows, name, label, colour)
            lowest = min((row[name] or 0.0 for row in rows for name in RATIOS), default=0.0)
            axes[1].set(ylim=(0.5 if lowest > 0.5 else 0, 1), ylabel=f"at {pairs}")
            _line(axes[2], rows, "count_mae", "mean absolute error", COLOURS[0])
            _line(axes[2], rows, "count_bias", "bias (above 0: too many)", COLOURS[1])
            axes[2].axhline(0, color=FAINT, linewidth=1, zorder=1)
            axes[2].set_ylabel("count error, objects an image")
        for one in axes:
            one.grid(visible=True)
            if recommended is not None:
                one.axvline(recommended, color=INK, linewidth=1, linestyle=":", zorder=1)
            one.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1), columnspacing=1.2)
        if recommended is not None:
            figure.suptitle(f"recommended for {goal}: {recommended:g} (dotted)", fontsize=10)
        axes[-1].set_xlabel("score threshold")
        return _png(figure)


def draw_reliability(bins: Mapping[str, Sequence[tuple[float, float, int]]], notes: Sequence[str] = ()) -> bytes:
    """How often objects are real against how often they should be, as PNG; bins of fewer than 10 objects are faint.

    Args:
        bins: for each curve, for example "scores" and "probabilities", its bins: the mean of what was said, the part
            that was real, and the number of objects.
        notes: a line of text for each curve, for example its expected calibration error.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.9), layout="constrained", dpi=150)
        axes = figure.add_subplot()
        most = max([n for points in bins.values() for *_, n in points], default=0)
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=1)
        texts = list(notes) or [""] * len(bins)
        for (name, points), text, colour in zip(bins.items(), texts, COLOURS, strict=False):
            said, real, sizes = np.array(points, dtype=np.float64).reshape(-1, 3).T
            many = sizes >= FEWEST_IN_BIN
            axes.plot(said[many], real[many], color=colour, linewidth=1.4, label=f"{name} {text}".strip())
            colours = [to_rgba(colour, 0.75 if one else 0.25) for one in many]
            axes.scatter(said, real, s=_dot_area(sizes, most), c=colours, linewidths=0, zorder=3, clip_on=False)
        key = [(most, 0.75, f"the more objects in a bin, the larger; here {most:,}")]
        if any(n < FEWEST_IN_BIN for points in bins.values() for *_, n in points):
            key.append((FEWEST_IN_BIN, 0.25, f"fewer than {FEWEST_IN_BIN} objects: mostly chance, not in the line"))
        for n, alpha, label in key:
            axes.scatter([], [], s=_dot_area(n, most), color=INK, alpha=alpha, linewidths=0, label=label)
        axes.set(xlabel="said: the mean of each bin", ylabel="part of the objects that is real")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axes.grid(visible=True)
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
        return _png(figure)


def _dot_area(n: npt.ArrayLike, most: int) -> npt.NDArray[np.float64]:
    return 12 + 90 * np.minimum(np.asarray(n, dtype=np.float64) / max(1, most), 1)


def _draw_counts(axes: Axes, rows: Sequence[Row]) -> None:
    _line(axes, rows, "found", "objects found", COLOURS[0])
    if "true" in rows[0]:
        axes.axhline(_values(rows, "true")[0], color=INK, linewidth=1.4, label="annotated")
    axes.set_ylabel("objects on all images")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _line(axes: Axes, rows: Sequence[Row], name: str, label: str, colour: str) -> None:
    marker = "o" if len(rows) <= 25 else ""
    thresholds, values = _values(rows, "threshold"), _values(rows, name)
    axes.plot(thresholds, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=label)


def _values(rows: Sequence[Row], name: str) -> npt.NDArray[np.float64]:
    """A column; what is undefined leaves a gap."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
