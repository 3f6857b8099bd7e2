"""How a training run went, as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from halfpixel.plots.style import COLOURS, INK, STYLE

Row = Mapping[str, float]

NOT_LOSSES = ("step", "total", "gradient_norm", "learning_rate")
VALIDATED = {"mask_ap": "COCO mask AP", "box_ap": "COCO box AP", "accuracy_50": "TP / (TP + FP + FN), IoU .50"}


def draw_curves(losses: Sequence[Row], validations: Sequence[Row]) -> bytes:
    """The loss and its terms above, the validations below, as PNG.

    Args:
        losses: for each step its number (`step`), the terms and their `total`.
        validations: for each validation its `step`, `mask_ap`, `box_ap` and `accuracy_50`; none leaves that part out.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7, 6.4 if validations else 3.6), layout="constrained", dpi=150)
        axes = figure.subplots(2 if validations else 1, sharex=True, squeeze=False)[:, 0]
        if losses:
            _draw_losses(axes[0], losses)
        if validations:
            _draw_validations(axes[1], validations)
        axes[-1].set_xlabel("step")
        picture = io.BytesIO()
        figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _draw_losses(axes: Axes, losses: Sequence[Row]) -> None:
    steps = [row["step"] for row in losses]
    terms = [name for name in losses[0] if name not in NOT_LOSSES]
    axes.plot(steps, [row["total"] for row in losses], color=INK, alpha=0.15, linewidth=0.8)
    for name, colour, width in [("total", INK, 2.0), *((n, c, 1.2) for n, c in zip(terms, COLOURS, strict=False))]:
        values = np.array([row[name] for row in losses])
        axes.plot(steps, _smooth(values), color=colour, linewidth=width, label=name.replace("_", " "))
    axes.set_ylabel("loss (log scale, smoothed)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True)
    axes.legend(frameon=False, ncols=6, loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=9, columnspacing=1.2)


def _draw_validations(axes: Axes, validations: Sequence[Row]) -> None:
    steps = [row["step"] for row in validations]
    for (name, label), colour in zip(VALIDATED.items(), (INK, *COLOURS), strict=False):
        values = [row[name] for row in validations]
        if not all(map(math.isnan, values)):  # as the mask AP of a model without masks
            axes.plot(steps, values, color=colour, marker="o", markersize=3.5, label=label)
    ap = next((name for name in ("mask_ap", "box_ap") if not all(math.isnan(row[name]) for row in validations)), None)
    if ap is not None:
        best = max(validations, key=lambda row: -1.0 if math.isnan(row[ap]) else row[ap])
        text = f"best {VALIDATED[ap].removeprefix('COCO ')} {best[ap]:.3f}, at step {best['step']:,.0f}"
        axes.set_title(text, loc="left", fontsize=10)
    axes.set(ylim=(0, 1), ylabel="on the validation images")
    axes.grid(visible=True)
    axes.legend(frameon=False, loc="lower right")


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Centred mean over about a fiftieth of the run, over less at its ends."""
    half = len(values) // 100
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.maximum(np.arange(len(values)) - half, 0)
    high = np.minimum(np.arange(len(values)) + half + 1, len(values))
    smooth: npt.NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return smooth
