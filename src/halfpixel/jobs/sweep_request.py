"""Which thresholds to try on which images. Light, as the command line refuses what is not sound with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from halfpixel.data.formats.format_names import Format
from halfpixel.errors import ArgumentError
from halfpixel.evaluation.thresholds.goals import Goal, check_wishes, thresholds_between
from halfpixel.jobs.detection_limits import check_limits
from halfpixel.jobs.output_folder import check_folder, refuse_to_overwrite

TABLE, PLOT = "sweep.csv", "sweep.png"


@dataclass(frozen=True)
class SweepRequest:
    """Which thresholds to try on which images; see `halfpixel.jobs.sweep.sweep`."""

    data: Sequence[str]
    out: Path
    model: str | None = None
    first: float = 0.3
    last: float = 0.9
    step: float = 0.1
    iou: float = 0.5
    goal: str = "count"
    images: Path | None = None
    format: Format | None = None
    limit: int | None = None
    predictions: Path | None = None
    overwrite: bool = False

    @property
    def thresholds(self) -> Sequence[float]:
        """All that are tried."""
        return thresholds_between(self.first, self.last, self.step)

    def check(self) -> Goal:
        """What a threshold is to be recommended for, after a look at the rest.

        Raises:
            ArgumentError: options out of range, or that contradict each other, or an earlier sweep in the folder.
        """
        check_limits(None, self.limit)
        check_folder(self.out)
        thresholds, goal = self.thresholds, Goal.parse(self.goal)
        check_wishes(thresholds, self.iou)
        if self.predictions is not None and self.model is not None:
            raise ArgumentError("--predictions and --model: give one of the two")
        if not self.overwrite:
            refuse_to_overwrite([self.out / TABLE, self.out / PLOT])
        return goal
