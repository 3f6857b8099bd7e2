"""What a model's scores are worth on a lab's own images: probabilities, and counts with an interval.

`calibration_fit` finds these numbers; here they are kept, stored and used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from halfpixel.errors import ArgumentError
from halfpixel.structures.diameters import SAME_SIZE
from halfpixel.structures.field_check import Count, Finite, Share, check_fields, from_plain
from halfpixel.structures.images import Scale

Floats = npt.NDArray[np.float64]

NotNegative = Annotated[float, Meta(ge=0, le=1e12)]


@dataclass(frozen=True)
class CountInterval:
    """How many objects an image has.

    Attributes:
        count: objects that score at least the threshold, the ones that are listed.
        estimate: the count with its bias removed, not rounded, never below 0.
        low: the true count is at least this...
        high: ...and at most this...
        level: ...for this part of all images.
    """

    count: int
    estimate: float
    low: int
    high: int
    level: float


class Evidence(NamedTuple):
    """What an image's scores say of its count without anyone having counted, each `[n]` for n images.

    Attributes:
        listed: objects that score at least the threshold.
        expected: the sum of all objects' probabilities of being real.
        doubt: the sum of p (1 - p) over the objects, the variance of their number if each were real by its own chance.
    """

    listed: Floats
    expected: Floats
    doubt: Floats


@dataclass(frozen=True)
class Calibration:
    """Plain numbers found on annotated images, stored in the model file.

    Attributes:
        threshold: objects that score at least this are listed and counted; intervals hold at this one only.
        lowest_score: probabilities and intervals need all of an image's objects from this score upwards.
        level: the part of the images whose true count is inside its interval, between 0 and 1.
        knots: scores, ascending...
        probabilities: ...and the probability at each that such an object is real; linear between them.
        count_weights: of `Evidence.listed` and of `Evidence.expected`; their weighted sum is the estimated count.
        residual_scale_weights: of 1, log(1 + expected) and log(1 + doubt); their weighted sum is the log of the
            residual scale: how far the estimate is typically off, in objects.
        conformal_quantiles: how many residual scales an interval ends below and above the estimate.
        n_images: images that the numbers were fitted on, and images that `conformal_quantiles` was measured on.
        scales: the smallest and the largest factor that those images were enlarged by; None for the model's own.

    Raises:
        ArgumentError: numbers that cannot belong to a calibration.
    """

    threshold: Share
    lowest_score: Share
    level: Annotated[float, Meta(gt=0, lt=1)]
    knots: tuple[Share, ...]
    probabilities: tuple[Share, ...]
    count_weights: tuple[NotNegative, NotNegative]
    residual_scale_weights: tuple[Finite, NotNegative, NotNegative]
    conformal_quantiles: tuple[Finite, Finite]
    n_images: tuple[Count, Count]
    scales: tuple[Scale, Scale] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.lowest_score > self.threshold:
            scores = f"{self.lowest_score} and {self.threshold}"
            raise ArgumentError(f"expected lowest_score <= threshold, got {scores}")
        if len(self.knots) != len(self.probabilities) or not _ascending(self.knots):
            raise ArgumentError("knots must be ascending scores, each with a probability")
        if not _ascending(self.probabilities):
            raise ArgumentError("probabilities must never fall as the score rises")

    @classmethod
    def from_json(cls, value: object) -> Calibration:
        """From the plain values of `to_json`.

        Raises:
            ArgumentError: fields that are missing or unknown, of another type, or that make no sense.
        """
        ours = {in_files: name for name, in_files in _IN_FILES.items()}
        try:
            return from_plain(
                cls, {ours.get(k, k): v for k, v in value.items()} if isinstance(value, Mapping) else value
            )
        except ArgumentError as error:
            text = str(error)
            for name, in_files in _IN_FILES.items():
                text = text.replace(name, in_files)
            raise ArgumentError(f"calibration: {text}") from error

    def to_json(self) -> dict[str, object]:
        """Plain numbers and lists of them, under the names that model files have."""
        plain = {_IN_FILES.get(name, name): one for name, one in dataclasses.asdict(self).items()}
        if self.scales is None:  # versions that know nothing of it read all other files
            del plain["scales"]
        return {name: list(one) if isinstance(one, tuple) else one for name, one in plain.items()}

    def holds_at(self, scale: float | None, usual: float | None) -> bool:
        """Whether it says anything of an image that was enlarged by a factor: one it was made at, within a tenth.

        Args:
            scale: the factor, None where an image is brought to one size.
            usual: the model's own.
        """
        if scale is None:
            return self.scales is None and usual is None
        made_at = self.scales or (None if usual is None else (usual, usual))
        return made_at is not None and made_at[0] / SAME_SIZE <= scale <= made_at[1] * SAME_SIZE

    def probability(self, scores: npt.ArrayLike) -> Floats:
        """The probability of each object that it is real: paired with an annotated one from an IoU of .5 upwards.

        Args:
            scores: `[n]` in 0..1.
        """
        found: Floats = np.interp(np.asarray(scores, dtype=np.float64), self.knots, self.probabilities)
        return found

    def evidence(self, scores: Sequence[npt.ArrayLike]) -> Evidence:
        """What is known of images' counts.

        Args:
            scores: of each image (and class) all objects that score at least `lowest_score`.
        """
        listed, expected, doubt = [], [], []
        for one in scores:
            kept = np.asarray(one, dtype=np.float32)  # as the network gives them, or 0.7 would not reach 0.7
            p = self.probability(kept[kept >= np.float32(self.lowest_score)])
            listed.append(float(np.count_nonzero(kept >= np.float32(self.threshold))))
            expected.append(float(p.sum()))
            doubt.append(float((p * (1 - p)).sum()))
        return Evidence(np.array(listed), np.array(expected), np.array(doubt))

    def estimates(self, evidence: Evidence) -> Floats:
        """`[n]` the counts with their bias removed, never below 0."""
        listed, expected = self.count_weights
        found: Floats = listed * evidence.listed + expected * evidence.expected
        return found

    def residual_scales(self, evidence: Evidence) -> Floats:
        """`[n]` how far each estimate is typically off, in objects, above 0."""
        found: Floats = np.exp(residual_scale_terms(evidence) @ np.array(self.residual_scale_weights))
        return found

    def interval(self, scores: npt.ArrayLike) -> CountInterval:
        """An image's count, of one class, and the interval around the true one.

        Split conformal prediction with normalised residuals (Lei et al. 2018, arXiv:1604.04173, section 5.2): of images
        like those it was calibrated on, at least `level` have their true count in it, on average over calibrations. It
        says so of one new image at a time, of any kind together; of a rare kind alone it may be less.

        Args:
            scores: `[n]` of all objects of the image (and class) that score at least `lowest_score`; lower ones do no
                harm. Where a detection limit cut some off, the interval does not hold.
        """
        return self.intervals([scores])[0]

    def intervals(self, scores: Sequence[npt.ArrayLike]) -> list[CountInterval]:
        """`interval` for several images."""
        evidence = self.evidence(scores)
        estimates, scales = self.estimates(evidence), self.residual_scales(evidence)
        below, above = self.conformal_quantiles
        lows, highs = whole_bounds(estimates, estimates - below * scales, estimates + above * scales)
        return [
            CountInterval(int(listed), float(estimate), int(low), int(high), self.level)
            for listed, estimate, low, high in zip(evidence.listed, estimates, lows, highs, strict=True)
        ]


_IN_FILES = {"residual_scale_weights": "spread_weights", "conformal_quantiles": "reach"}
"""The names of fields in model files, where they differ: earlier versions read them, too."""


def residual_scale_terms(evidence: Evidence) -> Floats:
    """`[n, 3]` what the log of the residual scale is a weighted sum of."""
    return np.stack([np.ones(len(evidence.listed)), np.log1p(evidence.expected), np.log1p(evidence.doubt)], axis=1)


def whole_bounds(estimates: Floats, lows: Floats, highs: Floats) -> tuple[Floats, Floats]:
    """The whole numbers from 0 upwards inside of each interval, and always the one that is nearest to the estimate.

    Counts are whole, so this leaves out no true count that the interval held.
    """
    nearest = np.round(estimates)
    return np.maximum(np.minimum(np.ceil(lows), nearest), 0), np.maximum(np.floor(highs), nearest)


def _ascending(values: Sequence[float]) -> bool:
    return bool(values) and bool(np.all(np.diff(values) >= 0))
