"""Why RoIAlign: crop the same fractional region of a sharp edge by RoIAlign and by RoIPool.

Prints the mean absolute difference to the truth, here and while the region moves by fractions of a pixel, and draws
both as a picture.

    python examples/roi_align_vs_roi_pool.py --out roi_align_vs_roi_pool.png
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from torch import Tensor

from halfpixel.ops.roi_align import roi_align
from halfpixel.ops.roi_pool import roi_pool

MAP_SIZE = 32
BINS = 7
REGION_XYXY = (9.31, 8.6, 20.72, 21.2)
EDGE_NORMAL = (0.8, 0.6)
"""The edge is the line 0.8 x + 0.6 y = EDGE_AT; the map is 1 beyond it and 0 before."""
EDGE_AT = 21.0
INK, ALIGN, POOL = "#27272a", "#0e7490", "#d9480f"

Crop = Callable[[Tensor], Tensor]


def edge_average(boxes_xyxy: Tensor) -> Tensor:
    """Exact share of each box `[..., 4]` that lies beyond the edge: what a perfect crop would hold."""
    a, b = EDGE_NORMAL
    x1, y1, x2, y2 = boxes_xyxy.double().unbind(-1)
    width, height = x2 - x1, y2 - y1
    rest = EDGE_AT - a * x1 - b * y1
    # the area before the edge is a triangle, less what sticks out on the right and below, plus what that took twice
    corners = rest, rest - a * width, rest - b * height, rest - a * width - b * height
    whole, right, below, both = (corner.clamp(min=0) ** 2 for corner in corners)
    return (1 - (whole - right - below + both) / (2 * a * b) / (width * height)).float()


def grid_boxes(box_xyxy: Tensor, bins: int) -> Tensor:
    """The `[bins, bins, 4]` cells of a box."""
    x1, y1, x2, y2 = box_xyxy.double().tolist()
    xs = torch.linspace(x1, x2, bins + 1, dtype=torch.float64)
    ys = torch.linspace(y1, y2, bins + 1, dtype=torch.float64)
    left, top = torch.meshgrid(xs[:-1], ys[:-1], indexing="xy")
    right, bottom = torch.meshgrid(xs[1:], ys[1:], indexing="xy")
    return torch.stack([left, top, right, bottom], dim=-1)


def croppers(features: Tensor) -> dict[str, Crop]:
    """Three ways from a box `[4]` to its crop `[7, 7]`."""

    def by_roi_align(box: Tensor) -> Tensor:
        zero = torch.zeros(1, dtype=torch.int64)
        return roi_align([features], box[None], zero, zero, strides=[1.0], output_size=BINS, sampling=2)[0, 0]

    def by_roi_pool(box: Tensor) -> Tensor:
        return roi_pool(features, torch.cat([torch.zeros(1), box])[None], (BINS, BINS))[0, 0]

    return {"truth": lambda box: edge_average(grid_boxes(box, BINS)), "RoIAlign": by_roi_align, "RoIPool": by_roi_pool}


def shift_test(crops: dict[str, Crop], shifts_px: Tensor) -> dict[str, Tensor]:
    """Each method's crops `[shifts, 7, 7]` while the region moves right."""
    box, right = torch.tensor(REGION_XYXY), torch.tensor([1.0, 0.0, 1.0, 0.0])
    return {name: torch.stack([crop(box + shift * right) for shift in shifts_px]) for name, crop in crops.items()}


def difference(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference of crops `[..., 7, 7]`."""
    return (one - other).abs().mean((-2, -1))


def draw(features: Tensor, shifts_px: Tensor, moved: dict[str, Tensor]) -> Figure:
    """The three crops side by side, and what happens to them as the region moves."""
    figure = Figure(figsize=(11, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.05])
    panels = above.subplots(1, 4)
    show(panels[0], features[0, 0], "feature map and region")
    x1, y1, x2, y2 = REGION_XYXY
    panels[0].add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=POOL, linewidth=2))
    titles = {"truth": "truth: exact bin averages", "RoIAlign": "RoIAlign", "RoIPool": "RoIPool"}
    for panel, (name, title) in zip(panels[1:], titles.items(), strict=True):
        crop = moved[name][0]
        image = show(panel, crop, title)
        if name != "truth":
            error = float(difference(crop, moved["truth"][0]))
            panel.set_xlabel(f"mean absolute difference {error:.3f}", color=INK, fontsize=9)
    above.colorbar(image, ax=panels, shrink=0.75, pad=0.01)
    error_plot, mean_plot = below.subplots(1, 2)
    for name, colour in (("RoIAlign", ALIGN), ("RoIPool", POOL)):
        error_plot.plot(shifts_px.numpy(), difference(moved[name], moved["truth"]).numpy(), color=colour, label=name)
        mean_plot.plot(shifts_px.numpy(), moved[name].mean((1, 2)).numpy(), color=colour, label=name)
    mean_plot.plot(
        shifts_px.numpy(), moved["truth"].mean((1, 2)).numpy(), color=INK, linestyle=(0, (2, 2)), label="truth"
    )
    label(error_plot, "drift from the truth as the region moves", "mean absolute difference")
    label(mean_plot, "what the crop says: its mean value", "mean of the 7 x 7 bins")
    error_plot.set_ylim(bottom=0)
    return figure


def show(panel: Axes, values: Tensor, title: str) -> AxesImage:
    """One map in grey, 0 black and 1 white, its pixels as squares."""
    panel.set_title(title, fontsize=10, color=INK)
    panel.set_xticks([])
    panel.set_yticks([])
    side = values.shape[-1]
    return panel.imshow(values.numpy(), cmap="gray", vmin=0, vmax=1, extent=(0, side, side, 0), interpolation="nearest")


def label(plot: Axes, title: str, y_label: str) -> None:
    """Titles, a light grid and a legend."""
    plot.set_title(title, fontsize=10, color=INK)
    plot.set_xlabel("shift of the region to the right [px]")
    plot.set_ylabel(y_label)
    plot.set_xlim(0, 2)
    plot.grid(color="#e4e4e7")
    plot.spines[["top", "right"]].set_visible(False)
    plot.legend(frameon=False)


def main() -> None:
    """Crop, compare, print and draw."""
    parser = argparse.ArgumentParser(description="Crop a fractional region by RoIAlign and by RoIPool.")
    parser.add_argument("--out", type=Path, default=Path("roi_align_vs_roi_pool.png"), help="the picture (PNG)")
    out: Path = parser.parse_args().out
    # each cell of the map holds the average over its own square, as a camera's pixel does
    map_box = torch.tensor([0.0, 0.0, MAP_SIZE, MAP_SIZE])
    features = edge_average(grid_boxes(map_box, MAP_SIZE))[None, None]
    shifts_px = torch.linspace(0, 2, 161)
    moved = shift_test(croppers(features), shifts_px)
    print(f"region {REGION_XYXY} cropped to {BINS} x {BINS}; mean absolute difference from the exact bin averages")
    print(f"{'':10}{'here':>8}{'mean':>8}{'worst':>8}  (mean and worst over shifts of 0 to 2 px)")
    for name in ("RoIAlign", "RoIPool"):
        errors = difference(moved[name], moved["truth"])
        print(f"{name:10}{errors[0]:8.4f}{errors.mean():8.4f}{errors.max():8.4f}")
    draw(features, shifts_px, moved).savefig(out, dpi=150)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
