"""Whether an image looks like those that a model was trained or calibrated on.

`halfpixel.data.images.appearance` says in a few numbers what an image looks like; here the numbers of the known images
are kept, and how far from all of them a new one may be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from halfpixel.errors import ArgumentError
from halfpixel.structures.field_check import Share, check_fields

Floats = npt.NDArray[np.float64]

Appearance = tuple[Annotated[float, Meta(ge=-1e6, le=1e6)], ...]
"""What an image looks like, in a few numbers; every image of a model in as many."""

Distance = Annotated[float, Meta(gt=0, le=1e9)]

LOOKS = 9
"""So many numbers of an appearance, the first, say what an image looks like; those that follow, how it came to that."""

CELL_PX = 8.0

FALSE_ALARM_RATE = 0.05

FEWEST = 10
"""Of fewer images nobody can say how much such images differ."""

SAME = 0.1
"""Appearances that differ by no more than this are the same: a tenth in contrast, where they are logarithms. Known
images may well be more alike, as those of a film are; one must not be called strange for that."""

STATED_DIGITS = 3


@dataclass(frozen=True)
class Novelty:
    """What the known images look like, and how unlike them others may be.

    An image is as unlike them as its appearance is far from the nearest of theirs, each number in units of how much it
    differs among them. Nearest neighbours (Sun et al. 2022, arXiv:2204.06507, there of a network's features) assume no
    shape of the whole: images of two stains are two groups, with nothing known between them. What follows the first
    `LOOKS` numbers is compared with the range of all known images instead: whatever the stain, an objective can be
    changed, so every image that looks like a known one may have needed any enlargement that was needed before.

    Attributes:
        references: the appearance of each known image.
        spreads: how much each number differs among them, above 0.
        threshold: an image that is farther than this from all of them is unlike them.
        false_alarm_rate: the part of images of their kind that are, measured on each known image with all the others.
        made_on: what the images were for.
        cell_px: as for `halfpixel.data.images.appearance.appearance`.

    Raises:
        ArgumentError: a value of another type or out of its range, or appearances of different lengths.
    """

    references: Annotated[tuple[Appearance, ...], Meta(min_length=1, max_length=10_000)]
    spreads: Annotated[tuple[Distance, ...], Meta(min_length=1, max_length=1000)]
    threshold: Distance
    false_alarm_rate: Share
    made_on: Literal["training", "calibration"]
    cell_px: Annotated[float, Meta(ge=1, le=1000)] = CELL_PX

    def __post_init__(self) -> None:
        check_fields(self)
        lengths = {len(one) for one in self.references} | {len(self.spreads)}
        if len(lengths) > 1:
            raise ArgumentError(f"references and spreads must all have as many numbers, got {sorted(lengths)}")

    @classmethod
    def of_images(
        cls,
        appearances: Sequence[Sequence[float]],
        made_on: Literal["training", "calibration"],
        false_alarm_rate: float = FALSE_ALARM_RATE,
    ) -> Novelty | None:
        """From known images; None of fewer than ten.

        The threshold is a conformal one: the distance of each image to the nearest of the others is as good as one of a
        new image, so among n of them and a new one, all equally likely to be the k-th, (n + 1) (1 - rate) lie below
        the k of that number. That counts on new images that differ from the known ones no more than these among
        themselves; where many are alike (fields of one slide), others are flagged more often.

        Args:
            appearances: of the images, all in as many numbers.
            made_on: what they are for.
            false_alarm_rate: what is wanted, 0..1. The stated one is larger where there are too few images for it.
        """
        known = np.round(np.asarray(appearances, dtype=np.float64), STATED_DIGITS)
        if len(known) < FEWEST:
            return None
        spreads = np.round(np.hypot(known.std(axis=0), SAME), STATED_DIGITS)
        n, scaled = len(known), known / spreads
        to_others = np.sort([_distance(np.delete(scaled, k, axis=0), one) for k, one in enumerate(scaled)])
        k = min(math.ceil((n + 1) * (1 - false_alarm_rate)), n)
        threshold = max(float(to_others[k - 1]), SAME / float(spreads.max()))
        return cls(
            tuple(tuple(one) for one in known.tolist()),
            tuple(spreads.tolist()),
            float(f"{threshold:.4g}"),
            max(false_alarm_rate, float(f"{1 / (n + 1):.2g}")),
            made_on,
        )

    @cached_property
    def _scaled(self) -> Floats:
        scaled: Floats = np.asarray(self.references) / np.asarray(self.spreads)
        return scaled

    def of(self, appearance: Sequence[float]) -> float:
        """How unlike the known images one is: its distance to them as a multiple of `threshold`.

        Args:
            appearance: of the image, in as many numbers as the references. More do not count: files of earlier versions
                have only the first `LOOKS`.

        Returns:
            At least 0; above 1 the image is unlike them.
        """
        spreads = np.asarray(self.spreads)
        return _distance(self._scaled, np.asarray(appearance)[: len(spreads)] / spreads) / self.threshold


def is_unlike(novelty: float | None) -> bool | None:
    """Whether an image of this novelty, as `Novelty.of` gives it, is unlike the known ones; None where it has none."""
    return None if novelty is None else novelty > 1


def _distance(known: Floats, one: Floats) -> float:
    """The Euclidean distance to the nearest row; in the numbers after the first `LOOKS` that to the range of all."""
    apart = np.square(known[:, :LOOKS] - one[:LOOKS]).sum(axis=1).min()
    others, more = known[:, LOOKS:], one[LOOKS:]
    outside = more - np.clip(more, others.min(axis=0), others.max(axis=0))
    return float(np.sqrt(apart + np.square(outside).sum()))
