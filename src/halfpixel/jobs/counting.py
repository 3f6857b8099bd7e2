"""What is counted on one image, with intervals and densities, as plain facts for the journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from halfpixel.errors import ArgumentError
from halfpixel.jobs.detection_limits import DetectionLimits
from halfpixel.jobs.image_options import ImageOptions
from halfpixel.jobs.journal import Facts, Journal
from halfpixel.jobs.model_options import CalibrationInUse
from halfpixel.jobs.runner import Note, Runner
from halfpixel.jobs.wording import name_some, plural

if TYPE_CHECKING:
    from halfpixel.engine.predictor import Predictor
    from halfpixel.structures.instances import Instances

INTERVAL = ("low", "high", "level", "estimate")
DENSITY = ("counted", "area_px", "per_megapixel", "per_mm2")

Frame = Literal["plain", "unbiased"]


@dataclass(frozen=True)
class Counting:
    """How the objects of an image become facts.

    Attributes:
        limits: objects that are counted.
        calibration: for the intervals, if there are any.
        density: which kind of it, if any.
        images: what is known of the pixels.
    """

    limits: DetectionLimits
    calibration: CalibrationInUse | None
    density: Frame | None
    images: ImageOptions

    def look(self, runner: Runner, predictor: Predictor, journal: Journal) -> None:
        """Count on each image that is not in the journal, then put it there."""
        todo = journal.unfinished(runner.reading)
        # intervals look at doubtful objects, too
        lowest = None if self.calibration is None else self.calibration.calibration.lowest_score
        in_parallel = journal.in_parallel(runner.reading)
        for picture, objects in runner.predict(
            predictor, todo, self.limits, lowest=lowest, skip=journal.knows, in_parallel=in_parallel
        ):
            pixel_size_um, doubt = (None, "") if self.density is None else self.images.pixel_size(picture)
            listed = objects.above(self.limits.threshold)
            facts = runner.facts(picture, listed, doubt)
            try:
                facts |= self._more(objects, listed, pixel_size_um)
            except ArgumentError as error:  # too small for the counting frame
                runner.fail(facts["image"], f"{facts['image']}: {error}")
                continue
            journal.add(picture, facts)

    def _more(self, objects: Instances, listed: Instances, pixel_size_um: float | None) -> Facts:
        """Intervals and densities, as far as they are wanted."""
        more: Facts = {}
        if self.calibration is not None:
            more["intervals"] = self._intervals(self.calibration, objects)
        if self.density is not None:
            more["densities"] = self._densities(listed, pixel_size_um)
        return more

    @staticmethod
    def _intervals(in_use: CalibrationInUse, objects: Instances) -> Facts | None:
        """For each class; none at all of an image that the calibration says nothing of, or where objects are missing.

        That is one of another size or unlike those that it was made on, and one where the limit cut off objects.
        """
        calibration = in_use.at(objects.scale)
        if calibration is None or objects.saturated or objects.unlike_training:
            return None
        of_classes = [objects.scores[objects.labels == k].numpy() for k in range(len(objects.class_names))]
        names_and_intervals = zip(objects.class_names, calibration.intervals(of_classes), strict=True)
        return {name: {key: getattr(one, key) for key in INTERVAL} for name, one in names_and_intervals}

    def _densities(self, listed: Instances, pixel_size_um: float | None) -> Facts:
        """For each class."""
        from halfpixel.measure.density import density

        found = {}
        for k, name in enumerate(listed.class_names):
            one = density(listed[listed.labels == k], unbiased=self.density == "unbiased", pixel_size_um=pixel_size_um)
            found[name] = {key: getattr(one, key) for key in DENSITY}
        return found

    def warnings(self, found: Sequence[Facts]) -> list[str]:
        """The images that could not get an interval."""
        if self.calibration is None:
            return []
        unlike = "unlike those that the model was trained or calibrated on"
        cut = "the detection limit cut off doubtful objects that it needs; raise `limit`"
        of_other_size = f"the model is calibrated for images {self.calibration.made_at}, not for this size"
        without: dict[str, list[str]] = {}
        for facts in found:
            if facts["intervals"] is None:
                note = Note(**facts["note"])
                why = cut if self.calibration.at(note.scale) else of_other_size
                why = unlike if note.unlike_training else why
                without.setdefault(why, []).append(facts["image"])
        return [
            f"no interval for {plural(len(images), 'image')} ({name_some(images)}): {why}"
            for why, images in without.items()
        ]
