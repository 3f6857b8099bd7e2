"""How to train: one dataclass, written beside every run and into the model file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from halfpixel.errors import ArgumentError

TrainingPrecision = Literal["32-true", "bf16-mixed"]
PRECISIONS = get_args(TrainingPrecision)

LOWEST = {
    "steps": 1,
    "images_per_step": 1,
    "accumulate": 1,
    "crop_px": 1,
    "backbone_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "checkpoint_every": 1,
    "validate_every": 0,
    "patience": 0,
}
ABOVE_ZERO = ("learning_rate", "clip_norm")
RANGES = {"photometric": 1, "rotation": 180, "copy_paste": 1, "stain": 1, "frozen_stages": 5}
"""From 0 up to this; `rotation` in degrees, `copy_paste` and `stain` are probabilities."""


@dataclass(frozen=True)
class Recipe:
    """All decisions of a training run.

    Attributes:
        steps: Optimiser steps.
        images_per_step: Crops in each step, over all processes.
        accumulate: A process computes its crops of a step in this many parts, one after the other, and needs memory
            for one of them. Each part's losses are averages over that part.
        crop_px: Side of a square crop, in pixels of the network's input.
        zoom: Range of random factors on the scale at which the model will see images.
        mirror: Mirror half of the crops left to right.
        quarter_turns: Turn crops by 0, 90, 180 or 270 degrees.
        rotation: Turn crops by up to this many degrees either way; what then lies outside of an image is plain.
        copy_paste: Probability that some objects of another image are pasted into a crop (Ghiasi et al. 2021,
            arXiv:2012.07177); of an image with the same value of `balance`, where that is set.
        frozen_stages: Parts of the backbone that stay as they are, counted from the image: the stem, then those that
            give strides 4, 8, 16 and 32; 5 is all of it.
        learning_rate: Peak, of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        backbone_rate: Learning rate of the backbone, as a share of the above.
        weight_decay: Of AdamW, on weights with more than one dimension.
        warmup_steps: Linear warm-up; then a half cosine down to a hundredth of the peak.
        clip_norm: Gradients longer than this are shortened.
        ema_decay: The weights that are kept are a running average with this decay.
        balance: An attribute of the images, such as their modality: images with rarer values of it are drawn more
            often, each value in proportion to the square root of its number. Of several data sets, an image that does
            not state the attribute counts as of its data set's own kind; `source` draws from data sets as wholes.
            Default: every image once in each pass.
        photometric: Strength of random exposure and stain, 0 to 1.
        stain: Probability that a dark, grey image (fluorescence) is shown as a stained section: its brightness becomes
            an amount of dye, in random colours around those of haematoxylin, eosin and DAB, with random tissue around
            its objects. Other images stay as they are.
        precision: How numbers are computed, in the terms of lightning-fabric: "32-true" or "bf16-mixed".
        checkpoint_every: Steps between two checkpoints.
        validate_every: Steps between two validations; 0 is ten validations in a run.
        patience: Stop after this many validations in a row without a better mask AP; 0 is never.
        seed: Of everything random.

    Raises:
        ArgumentError: a value is out of its range.
    """

    steps: int = 800
    images_per_step: int = 4
    accumulate: int = 1
    crop_px: int = 512
    zoom: tuple[float, float] = (0.6, 1.1)
    mirror: bool = True
    quarter_turns: bool = True
    rotation: float = 0.0
    copy_paste: float = 0.0
    frozen_stages: int = 0
    learning_rate: float = 1e-3
    backbone_rate: float = 0.3
    weight_decay: float = 0.05
    warmup_steps: int = 50
    clip_norm: float = 5.0
    ema_decay: float = 0.995
    balance: str | None = None
    photometric: float = 1.0
    stain: float = 0.0
    precision: TrainingPrecision = "32-true"
    checkpoint_every: int = 100
    validate_every: int = 0
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_recipe(asdict(self))

    @property
    def validation_interval(self) -> int:
        """Steps between two validations."""
        return self.validate_every or max(self.steps // 10, 1)


def check_recipe(given: Mapping[str, Any]) -> None:
    """Refuse decisions that are out of range, of all or of some fields of a `Recipe`.

    Raises:
        ArgumentError: no such field, a value out of its range, or two that do not go together.
    """
    if unknown := given.keys() - {one.name for one in fields(Recipe)}:
        raise ArgumentError(f"a recipe has no {', '.join(sorted(unknown))}")
    for name, value in given.items():
        if name in LOWEST and not LOWEST[name] <= value < math.inf:
            raise ArgumentError(f"{name} must be at least {LOWEST[name]}, got {value}")
        if name in ABOVE_ZERO and not 0 < value < math.inf:
            raise ArgumentError(f"{name} must be above 0, got {value}")
        if name in RANGES and not 0 <= value <= RANGES[name]:
            raise ArgumentError(f"{name} must be in 0..{RANGES[name]}, got {value}")
    if not 0 <= given.get("ema_decay", 0) < 1:
        raise ArgumentError(f"ema_decay must be from 0 up to, but not including, 1; got {given['ema_decay']}")
    low, high = given.get("zoom", (1, 1))
    if not 0 < low <= high < math.inf:
        raise ArgumentError(f"zoom must be two factors above 0, the smaller first; got {given['zoom']}")
    if given.get("precision", PRECISIONS[0]) not in PRECISIONS:
        raise ArgumentError(f"precision must be one of {', '.join(PRECISIONS)}; got {given['precision']!r}")
    parts = given.get("accumulate", 1)
    if given.get("images_per_step", parts) % parts:  # where one of the two is not known, it cannot be said yet
        raise ArgumentError(
            f"images_per_step must be a multiple of accumulate, {parts}; got {given['images_per_step']}"
        )
