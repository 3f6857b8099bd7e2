"""What a run leaves in its folder; under several processes the first one's task."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from halfpixel.data.dataset import Dataset
from halfpixel.data.images.rgb8 import png_bytes
from halfpixel.errors import MissingDependencyError
from halfpixel.files import write_whole
from halfpixel.nn.network import Network
from halfpixel.nn.size_network import SizeNetwork
from halfpixel.plots.training_curves import draw_curves
from halfpixel.train.csv_log import CsvLog
from halfpixel.train.state import Progress
from halfpixel.train.validation import draw_validation, measured, summary, validate
from halfpixel.zoo.modelfile import ModelInfo, save_model

MODEL = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        step: optimiser steps done.
        kind: "step" (values are the loss terms, their `total`, the gradient's norm and the learning rate),
            "validating" (it starts) or "validation" (values are `mask_ap`, `box_ap`, `accuracy_50`, `count_mae`, ...).
        values: numbers by name.
    """

    step: int
    kind: str
    values: dict[str, float] = dataclasses.field(default_factory=dict)


Report = Callable[[Event], None]


class RunLog:
    """Logs, the model file and pictures.

    Args:
        out: the run folder.
        info: of the model.
        val: what to validate on.
        last_step: rows after it are of a run that was killed, and cut off.
        report: is told of every event.
        writer: TensorBoard's, to write its events, too; or None.
    """

    def __init__(
        self,
        out: Path,
        info: ModelInfo,
        val: Dataset | None,
        last_step: int,
        report: Report | None,
        writer: Any,
        size_network: SizeNetwork | None = None,
    ) -> None:
        self.out = out
        self.info = info
        self.val = val
        self.size_network = size_network
        self.report = report or (lambda event: None)
        self.losses = CsvLog(out / "log.csv", last_step)
        self.validations = CsvLog(out / "validation.csv", last_step) if val is not None else None
        purged = last_step + 1 if last_step else None
        self.events = None if writer is None else writer(out / "tensorboard", purge_step=purged)

    def step(self, step: int, values: dict[str, float]) -> None:
        """Note a step's losses."""
        self.losses.add(step, values)
        self._tell(Event(step, "step", values))

    def save(self, network: Network, measured: dict[str, object] | None = None) -> None:
        """Write the model file."""
        info = dataclasses.replace(self.info, measured=measured or {})
        save_model(self.out / MODEL, network, info, size_network=self.size_network)

    def draw(self) -> None:
        """Write `curves.png`."""
        validations = [] if self.validations is None else self.validations.rows()
        write_whole(self.out / "curves.png", draw_curves(self.losses.rows(), [_renamed(row) for row in validations]))

    def validate(self, network: Network, progress: Progress, device: torch.device) -> Progress:
        """Measure the network; the best one so far becomes the model file."""
        assert self.val is not None
        assert self.validations is not None
        step = progress.step
        self.report(Event(step, "validating"))
        evaluation, found = validate(network, self.info, self.val, device)
        values = summary(evaluation)
        self.validations.add(step, values)
        picture = png_bytes(draw_validation(self.val, found, self.info.score_threshold))
        (self.out / "pictures").mkdir(exist_ok=True)
        write_whole(self.out / "pictures" / f"step-{step:06}.png", picture)
        self._tell(Event(step, "validation", values))
        ap, stale = values[f"{evaluation.compared_by}_ap"], progress.stale + 1
        best = math.isnan(ap) or progress.best_ap is None or ap > progress.best_ap
        if best:
            self.save(network, measured(evaluation))
            stale = 0
        return Progress(step, step, ap if best and not math.isnan(ap) else progress.best_ap, stale)

    def close(self) -> None:
        """Finish what is written in the background."""
        if self.events is not None:
            self.events.close()

    def _tell(self, event: Event) -> None:
        self.report(event)
        if self.events is not None:
            group = "val" if event.kind == "validation" else "train"
            for name, value in event.values.items():
                self.events.add_scalar(f"{group}/{name}", value, event.step)


def _renamed(row: dict[str, float]) -> dict[str, float]:
    """A validation with the name of today, also of a run that was begun when it was another."""
    return {**({"accuracy_50": row["quality_50"]} if "quality_50" in row else {}), **row}


def tensorboard_writer() -> Any:
    """TensorBoard's writer, a class.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError('TensorBoard is not installed: pip install "halfpixel[tensorboard]"') from error
    return SummaryWriter
