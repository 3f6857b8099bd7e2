"""Measures a trained model on images that were held out, as it is in its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from halfpixel.data.dataset import Dataset
from halfpixel.evaluation.evaluation import Evaluation
from halfpixel.jobs.collect import predict_dataset
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.model_options import open_model
from halfpixel.jobs.runner import Outcome, Runner, image_warnings
from halfpixel.train.validation import measure_file


@dataclass(frozen=True, eq=False)
class HeldOutResult:
    """What came of it.

    Attributes:
        outcome: images, failures and warnings.
        evaluation: all numbers; None where no image could be used.
    """

    outcome: Outcome
    evaluation: Evaluation | None


def measure_held_out(file: Path, held_out: Dataset, tell: Tell = ignore) -> HeldOutResult:
    """Evaluate a model, and put the main numbers into its file."""
    runner, predictor = Runner(tell), open_model(str(file), tell)
    limits = DetectionLimits.resolve(None, None, predictor.info)
    usable, found = predict_dataset(runner, predictor, held_out, limits)
    evaluation = measure_file(file, usable, found) if found else None
    return HeldOutResult(runner.outcome(*image_warnings(runner.notes, limits.limit)), evaluation)
