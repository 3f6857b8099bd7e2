"""Finds every object in images and fills a folder with the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from halfpixel.data.images.picture import Picture
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError
from halfpixel.jobs.detection_limits import DetectionLimits, check_limits
from halfpixel.jobs.events import Tell, ignore
from halfpixel.jobs.image_names import Names
from halfpixel.jobs.image_options import AS_THEY_ARE, ImageOptions
from halfpixel.jobs.journal import Facts, Journal, remove_journal, resumable, was_interrupted
from halfpixel.jobs.model_options import (
    AS_USUAL,
    Computed,
    SpeedOptions,
    calibration_at,
    first_pass_for_resuming,
    model_digest,
    open_with_prefilter,
)
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite
from halfpixel.jobs.result_folder import ResultFolder, Written, parse_save, refuse_to_mix, remove_earlier, remove_torn
from halfpixel.jobs.runner import Note, Outcome, Runner, image_warnings
from halfpixel.jobs.savings import savings_of
from halfpixel.jobs.wording import name_some
from halfpixel.outputs.writers import WRITERS
from halfpixel.structures.instances import Instances
from halfpixel.evaluation.prefilter_savings import Savings
from halfpixel.zoo.names import DEFAULT_MODEL

HIDDEN = ".halfpixel-run"
"""The folder for the journal of a run, in its output folder."""


@dataclass(frozen=True)
class PredictRequest:
    """What is to be predicted, and what to write; see `predict_folder`."""

    paths: Sequence[str]
    out: Path
    model: str = DEFAULT_MODEL
    first_pass: str | None = None
    threshold: float | None = None
    limit: int | None = None
    save: str = "coco,overlay,table"
    classes: str | None = None
    gzip: bool = False
    overwrite: bool = False
    resume: bool = False
    images: ImageOptions = AS_THEY_ARE
    speed: SpeedOptions = AS_USUAL


@dataclass(frozen=True)
class PredictResult:
    """What a run over images found, and where it is.

    Attributes:
        outcome: images, failures and warnings.
        computed: what ran the network.
        limits: which objects were taken.
        counts: of each class that was found, on all images together.
        written: what is where.
        savings: of a first pass, if there was one.
    """

    outcome: Outcome
    computed: Computed | None = None
    limits: DetectionLimits | None = None
    counts: Counter[str] = field(default_factory=Counter)
    written: Sequence[Written] = ()
    savings: Savings | None = None
