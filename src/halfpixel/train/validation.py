"""How good a network is on images that it is not trained on, in numbers and in pictures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from halfpixel.data.dataset import Dataset
from halfpixel.data.images.rgb8 import read_image
from halfpixel.engine.predictor import Predictor
from halfpixel.evaluation.evaluation import AP_SCORE, Evaluation, SliceEvaluation, evaluate
from halfpixel.nn.network import Network
from halfpixel.structures.instances import Instances
from halfpixel.viz.overlay import count_caption, draw_overlay
from halfpixel.zoo.modelfile import ModelInfo, read_info, save_described

PICTURED = 4
CELL_PX = 640
GAP_PX = 6


def validate(
    network: Network, info: ModelInfo, dataset: Dataset, device: torch.device
) -> tuple[Evaluation, list[Instances]]:
    """Find the objects of every image, and compare.

    Returns:
        The numbers, and for each image all objects down to the low scores that average precision looks at.

    Raises:
        ImageError: an image cannot be used.
    """
    predictor = Predictor(network, info, device)
    lowest = min(AP_SCORE, info.score_threshold)
    found = []
    for sample in dataset.samples:
        found.append(predictor.predict(sample.path, threshold=lowest).without_probabilities())
    evaluation = evaluate(dataset, found, threshold=info.score_threshold, max_detections=info.detection_limit)
    return evaluation, found


def summary(evaluation: Evaluation) -> dict[str, float]:
    """The numbers that a run's table shows; undefined ones are NaN."""
    half = next(one for one in evaluation.overall.detection if math.isclose(one.counts.iou, 0.5))
    numbers = {
        "mask_ap": None if evaluation.mask_ap is None else evaluation.mask_ap.ap,
        "box_ap": evaluation.box_ap.ap,
        "accuracy_50": half.counts.accuracy,
        "quality_50": half.counts.accuracy,  # the old name, for one version
        "count_mae": evaluation.overall.count.mae,
        "count_bias": evaluation.overall.count.bias,
    }
    return {name: math.nan if value is None else value for name, value in numbers.items()}


def measured(evaluation: Evaluation) -> dict[str, object]:
    """The main numbers with what they mean, for a model's description."""
    accuracies = {name: _accuracies(one) for name, one in {"all": evaluation.overall, **evaluation.slices}.items()}
    return {
        "data": evaluation.data,
        "n_images": evaluation.overall.n_images,
        "n_objects": evaluation.overall.n_objects,
        "compared_by": evaluation.compared_by,
        "mask_ap": None if evaluation.mask_ap is None else evaluation.mask_ap.ap,
        "box_ap": evaluation.box_ap.ap,
        "max_detections": evaluation.max_detections,
        f"{evaluation.compared_by}_ap_definition": evaluation.ap.definition,
        "score_threshold": evaluation.threshold,
        "count_mae": evaluation.overall.count.mae,
        "count_bias": evaluation.overall.count.bias,
        "accuracy_definition": evaluation.definitions["accuracy"],
        "accuracy": accuracies,
        "quality_definition": evaluation.definitions["accuracy"],  # the old names, for one version
        "quality": accuracies,
    }


def measure_file(file: Path, dataset: Dataset, found: list[Instances]) -> Evaluation:
    """Compare what the model in a file found with the truth, and put the main numbers into the file.

    Args:
        file: a model file; its weights stay as they are, to the bit.
        dataset: annotated images.
        found: its objects on each of them, down to low scores.
    """
    info = read_info(file)
    evaluation = evaluate(dataset, found, threshold=info.score_threshold, max_detections=info.detection_limit)
    save_described(file, file, dataclasses.replace(info, measured=measured(evaluation)))
    return evaluation


def draw_validation(dataset: Dataset, found: list[Instances], threshold: float) -> npt.NDArray[np.uint8]:
    """A few images, the same at each validation: on the left as annotated, on the right as found."""
    n = len(dataset.samples)
    rows = []
    for k in sorted({round(k * (n - 1) / max(PICTURED - 1, 1)) for k in range(min(n, PICTURED))}):
        sample = dataset.samples[k]
        picture = read_image(sample.path)
        cells = [
            _cell(picture, sample.objects, f"{sample.path.name}, annotated: {len(sample.objects)}"),
            _cell(picture, found[k].above(threshold), f"found: {count_caption(found[k].above(threshold))}"),
        ]
        gap = np.full((cells[0].shape[0], GAP_PX, 3), 255, dtype=np.uint8)
        rows.append(np.concatenate([cells[0], gap, cells[1]], axis=1))
    return np.concatenate(rows, axis=0)


def _cell(picture: npt.NDArray[np.uint8], objects: Instances, caption: str) -> npt.NDArray[np.uint8]:
    drawn = Image.fromarray(draw_overlay(picture, objects, caption=caption))
    height = round(drawn.height * CELL_PX / drawn.width)
    return np.array(drawn.resize((CELL_PX, height), Image.Resampling.LANCZOS))


def _accuracies(part: SliceEvaluation) -> dict[str, float | None]:
    return {f"{entry.counts.iou:.2f}": entry.counts.accuracy for entry in part.detection}
