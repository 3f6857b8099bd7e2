"""Pictures of the images on which most went wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import ImageError
from halfpixel.evaluation.aligned_predictions import paired
from halfpixel.evaluation.detection.error_types import ImageErrors
from halfpixel.evaluation.detection.overlaps import reduced_to
from halfpixel.evaluation.evaluation import Evaluation
from halfpixel.structures.instances import Instances
from halfpixel.viz.overlay import Picture, default_zoom, draw_overlay
from halfpixel.viz.palette import Colours

WINDOW_PX = 800
"""Of larger images a part is shown."""
SIDE_PX = 1100
LINE_PX = 1.8
JPEG_QUALITY = 82

TRUTH, TRUTH_PAIRED = (56, 190, 255), (52, 112, 146)
PREDICTED, PREDICTED_PAIRED = (255, 150, 40), (150, 100, 48)
WORDS = {"false positive": "false", "localisation": "outline", "class confusion": "class"}
"""Short ones for the pictures, where there are."""


@dataclass(frozen=True)
class WorstImage:
    """A picture for the report.

    Attributes:
        caption: the image's name and what went wrong on it.
        jpeg: the picture, at most 1,100 pixels wide and high.
    """

    caption: str
    jpeg: bytes


@dataclass(frozen=True)
class _Tag:
    """A word at a place (x, y) in the image, in pixels."""

    word: str
    x: float
    y: float
    colour: tuple[int, int, int]


def draw_worst(
    dataset: Dataset, predictions: Sequence[Instances], evaluation: Evaluation, *, at_most: int = 8
) -> list[WorstImage]:
    """The images with the largest count errors and those with most errors, half of each.

    Images that cannot be read are passed over.

    Args:
        dataset: the annotations.
        predictions: one per sample, those that were evaluated.
        evaluation: of them.
        at_most: how many pictures.
    """
    found: list[WorstImage] = []
    kept = [predicted.above(evaluation.threshold) for predicted in paired(dataset, predictions)]
    for k in _worst_first(evaluation):
        if len(found) >= at_most:
            break
        sample, count, errors = dataset.samples[k], evaluation.images[k], evaluation.error_types[k]
        image = read_sample(sample)
        if image is None:
            continue
        named = _named(errors)
        truth, predicted = (reduced_to(evaluation.compared_by, one) for one in (sample.objects, kept[k]))
        caption = f"{sample.path.name}: annotated {sum(count.true):,}, predicted {sum(count.predicted):,}. {named}"
        found.append(WorstImage(caption, _draw(image, truth, predicted, errors)))
    return found


def _worst_first(evaluation: Evaluation) -> list[int]:
    """By count error and by number of errors in turn; images without either are not there."""
    return in_turn([one.error for one in evaluation.images], [len(one) for one in evaluation.error_types])


def in_turn(*measured: Sequence[float]) -> list[int]:
    """The images by each of some numbers in turn, the one furthest from 0 first; those with all 0 are not there."""
    rankings = [sorted((k for k, one in enumerate(some) if one), key=lambda k: -abs(some[k])) for some in measured]
    order: list[int] = []
    while any(rankings):
        for ranking in rankings:
            rest = [k for k in ranking if k not in order]
            order += rest[:1]
            ranking[:] = rest[1:]
    return order


def read_sample(sample: Sample) -> Picture | None:
    """The image as it was annotated; None where it cannot be read or has another size."""
    try:
        image = read_image(sample.path)
    except (ImageError, OSError):
        return None
    return image if image.shape[:2] == sample.size_hw else None


def _named(errors: ImageErrors) -> str:
    numbers = {name: max(len(errors.truths[name]), len(errors.predictions[name])) for name in errors.truths}
    numbers |= {"merge": len(errors.merges), "split": len(errors.splits)}
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items() if number)


def _draw(image: Picture, truth: Instances, predicted: Instances, errors: ImageErrors) -> bytes:
    tags = _tags(truth, predicted, errors)
    objects, colours = _both(truth, predicted, errors)
    x, y, width, height = window([(tag.x, tag.y) for tag in tags], objects.size_hw, WINDOW_PX)
    boxes = objects.boxes_xyxy
    seen = (boxes[:, 0] < x + width) & (boxes[:, 2] > x) & (boxes[:, 1] < y + height) & (boxes[:, 3] > y)
    shown = objects[seen].translate(-x, -y, (height, width))
    part = np.ascontiguousarray(image[y : y + height, x : x + width])
    zoom = default_zoom((height, width))
    scale = min(SIDE_PX / (zoom * max(height, width)), 1)
    outlines = draw_overlay(
        part, shown, zoom=zoom, line_px=LINE_PX / scale, fill=0, labels=False, colours=colours[seen.numpy()]
    )
    size = round(width * zoom * scale), round(height * zoom * scale)
    drawn = Image.fromarray(outlines).resize(size, Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(size=max(round(max(drawn.size) / 75), 11))
    for tag in tags:
        at = ((tag.x - x) * zoom * scale, (tag.y - y) * zoom * scale)
        draw.text(at, tag.word, (255, 255, 255), font, "mm", stroke_width=2, stroke_fill=tag.colour)
    data = io.BytesIO()
    drawn.save(data, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    return data.getvalue()


def _both(truth: Instances, predicted: Instances, errors: ImageErrors) -> tuple[Instances, Colours]:
    """Annotated and predicted objects as one, and the colour of each."""
    together = Instances.concatenate([truth, predicted])
    n = len(together)
    colours = np.empty((n, 3), dtype=np.uint8)
    colours[: len(truth)], colours[len(truth) :] = TRUTH_PAIRED, PREDICTED_PAIRED
    for named in errors.truths.values():
        colours[named] = TRUTH
    for named in errors.predictions.values():
        colours[len(truth) + named] = PREDICTED
    labels = torch.zeros(n, dtype=torch.int64)
    return replace(together, scores=torch.ones(n), labels=labels, class_names=("object",)), colours


def _tags(truth: Instances, predicted: Instances, errors: ImageErrors) -> list[_Tag]:
    """A word for each event: on the prediction that merges, on the object that is split, else on who has the name."""
    on_truth = [("miss", k) for k in errors.truths["miss"].tolist()] + [("split", k) for k, _ in errors.splits]
    on_predicted = [("merge", k) for k, _ in errors.merges]
    for name in ("false positive", "duplicate", "localisation", "class confusion"):
        on_predicted += [(name, k) for k in errors.predictions[name].tolist()]
    tags = []
    for named, objects, colour in ((on_truth, truth, (0, 60, 110)), (on_predicted, predicted, (120, 50, 0))):
        boxes = objects.boxes_xyxy.tolist()
        for name, k in named:
            left, top, right, bottom = boxes[k]
            tags.append(_Tag(WORDS.get(name, name), (left + right) / 2, (top + bottom) / 2, colour))
    return tags


def window(
    points_xy: Sequence[tuple[float, float]], size_hw: tuple[int, int], side_px: int
) -> tuple[int, int, int, int]:
    """Left, top, width, height of the part of an image, at most `side_px` each way, that holds most of the points."""
    height, width = (min(side, side_px) for side in size_hw)
    if (height, width) == size_hw or not points_xy:
        return 0, 0, width, height
    points = np.array(points_xy)
    corners = np.clip(points - (width / 2, height / 2), 0, (size_hw[1] - width, size_hw[0] - height)).astype(np.int64)
    inside = (points >= corners[:, None]) & (points < corners[:, None] + (width, height))
    x, y = corners[int(inside.all(2).sum(1).argmax())].tolist()
    return x, y, width, height
