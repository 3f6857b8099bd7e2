"""Pictures of the images on which two models differ most."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.detection.error_types import ImageErrors
from halfpixel.evaluation.detection.overlaps import reduced_to
from halfpixel.evaluation.model_comparison import Comparison
from halfpixel.evaluation.per_image import Candidate
from halfpixel.report.worst_images import JPEG_QUALITY, WorstImage, in_turn, read_sample, window
from halfpixel.structures.instances import Instances
from halfpixel.viz.overlay import Picture, draw_overlay
from halfpixel.viz.palette import Colours

WINDOW_PX = 320
"""Of larger images a part is shown."""
PANEL_PX, GAP_PX, TITLE_PX, LINE_PX = 480, 8, 30, 2

Colour = tuple[int, int, int]

RIGHT: Colour = (96, 190, 255)
LEGEND: Mapping[str, Colour] = {
    "annotated, or found": RIGHT,
    "merge": (255, 60, 190),
    "split": (255, 225, 50),
    "miss": (255, 70, 40),
    "false positive": (255, 255, 255),
    "localisation": (60, 205, 130),
    "duplicate": (165, 110, 255),
    "class confusion": (255, 160, 60),
}
"""What the outlines' colours mean."""


@dataclass(frozen=True, eq=False)
class Panel:
    """One of the pictures that stand side by side: objects, each outlined in its own colour."""

    title: str
    objects: Instances
    colours: Colours


def draw_differences(
    dataset: Dataset, a: Candidate, b: Candidate, comparison: Comparison, *, at_most: int = 8
) -> list[WorstImage]:
    """The images on which count errors or numbers of errors differ most: annotated, A and B side by side.

    Outlines are predictions, in the colours of `LEGEND`, and annotated objects that nothing was found of. Images that
    cannot be read are passed over.

    Args:
        dataset: the annotations.
        a: what was compared.
        b: what was compared.
        comparison: of the two.
        at_most: how many pictures.
    """
    kind = comparison.compared_by
    kept_a, kept_b = (
        [reduced_to(kind, one.above(side.threshold)) for one in paired(dataset, side.predictions)] for side in (a, b)
    )
    found: list[WorstImage] = []
    for k in _order(comparison):
        if len(found) >= at_most:
            break
        image = read_sample(dataset.samples[k])
        if image is None:
            continue
        truth = reduced_to(kind, dataset.samples[k].objects)
        panels = [
            Panel("Annotated", truth, np.full((len(truth), 3), RIGHT, dtype=np.uint8)),
            _panel("A", truth, kept_a[k], comparison.a.error_types[k]),
            _panel("B", truth, kept_b[k], comparison.b.error_types[k]),
        ]
        boxes = [box for panel in panels for box in panel.objects.boxes_xyxy[(panel.colours != RIGHT).any(1)].tolist()]
        centres = [((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes]
        found.append(
            WorstImage(_caption(comparison, k), _draw(image, panels, window(centres, truth.size_hw, WINDOW_PX)))
        )
    return found


def _order(comparison: Comparison) -> list[int]:
    """By how far apart the count errors and the numbers of errors are, in turn."""
    n, a, b = range(len(comparison.a.images)), comparison.a, comparison.b
    by_count = [abs(a.images[k].error) - abs(b.images[k].error) for k in n]
    by_errors = [len(a.error_types[k]) - len(b.error_types[k]) for k in n]
    return in_turn(by_count, by_errors)


def _caption(comparison: Comparison, k: int) -> str:
    count = comparison.a.images[k]
    text = f"{count.path.name}: annotated {sum(count.true):,}."
    for name, side in (("A", comparison.a), ("B", comparison.b)):
        wrong = ", ".join(f"{kind} {number:,}" for kind, number in side.events[k].items() if number)
        text += f" {name}: {sum(side.images[k].predicted):,} ({wrong or 'no errors'})."
    return text


def _panel(title: str, truth: Instances, predicted: Instances, errors: ImageErrors) -> Panel:
    """The predictions, and the annotated objects that nothing was found of."""
    colours = np.full((len(predicted), 3), RIGHT, dtype=np.uint8)
    for name, named in errors.predictions.items():
        colours[named] = LEGEND[name]
    for _, pieces in errors.splits:
        colours[pieces] = LEGEND["split"]
    for merging, _ in errors.merges:
        colours[merging] = LEGEND["merge"]
    missed = truth[torch.from_numpy(errors.truths["miss"])]
    objects = Instances.concatenate([predicted, missed])
    return Panel(title, objects, np.concatenate([colours, np.full((len(missed), 3), LEGEND["miss"], dtype=np.uint8)]))


def _draw(image: Picture, panels: Sequence[Panel], part: tuple[int, int, int, int]) -> bytes:
    """The same part (left, top, width, height) of the image in all panels, as a JPEG file."""
    x, y, width, height = part
    crop = np.ascontiguousarray(image[y : y + height, x : x + width])
    scale = PANEL_PX / max(width, height)
    size = round(width * scale), round(height * scale)
    step = size[0] + GAP_PX
    sheet = Image.new("RGB", (step * len(panels) - GAP_PX, size[1] + TITLE_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=TITLE_PX * 0.6)
    for k, panel in enumerate(panels):
        left, top, right, bottom = panel.objects.boxes_xyxy.T
        seen = (left < x + width) & (right > x) & (top < y + height) & (bottom > y)
        shown = panel.objects[seen].translate(-x, -y, (height, width))
        # drawn at twice the size, so that the outlines come out smooth
        zoom = max(math.ceil(2 * scale), 1)
        line_px = max(zoom / scale * LINE_PX, 1)
        drawn = draw_overlay(
            crop, shown, zoom=zoom, line_px=line_px, fill=0.12, labels=False, colours=panel.colours[seen.numpy()]
        )
        sheet.paste(Image.fromarray(drawn).resize(size, Image.Resampling.LANCZOS), (k * step, TITLE_PX))
        draw.text((k * step, TITLE_PX / 2), panel.title, (34, 48, 60), font, "lm")
    data = io.BytesIO()
    sheet.save(data, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data.getvalue()
