"""How to train: one dataclass, written beside every run and into the model file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from halfpixel.errors import ArgumentError

TrainingPrecision = Literal["32-true", "bf16-mixed"]

LOWEST = {
    "steps": 1,
    "images_per_step": 1,
    "accumulate": 1,
    "crop_px": 1,
    "frozen_stages": 0,
    "backbone_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "checkpoint_every": 1,
    "validate_every": 0,
    "patience": 0,
}
ABOVE_ZERO = ("learning_rate", "clip_norm")


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
            often, each value in proportion to the square root of its number. Default: every image once in each pass.
        photometric: Strength of random exposure and stain, 0 to 1.
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
    precision: TrainingPrecision = "32-true"
    checkpoint_every: int = 100
    validate_every: int = 0
    patience: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        values = asdict(self)
        for name, lowest in LOWEST.items():
            if not lowest <= values[name] < math.inf:
                raise ArgumentError(f"{name} must be at least {lowest}, got {values[name]}")
        for name in ABOVE_ZERO:
            if not 0 < values[name] < math.inf:
                raise ArgumentError(f"{name} must be above 0, got {values[name]}")
        if not 0 <= self.photometric <= 1:
            raise ArgumentError(f"photometric must be in 0..1, got {self.photometric}")
        if not 0 <= self.rotation <= 180:
            raise ArgumentError(f"rotation must be in 0..180 degrees, got {self.rotation}")
        if not 0 <= self.copy_paste <= 1:
            raise ArgumentError(f"copy_paste is a probability, in 0..1; got {self.copy_paste}")
        if not 0 <= self.ema_decay < 1:
            raise ArgumentError(f"ema_decay must be from 0 up to, but not including, 1; got {self.ema_decay}")
        if not 0 < self.zoom[0] <= self.zoom[1] < math.inf:
            raise ArgumentError(f"zoom must be two factors above 0, the smaller first; got {self.zoom}")
        if self.images_per_step % self.accumulate:
            raise ArgumentError(
                f"images_per_step must be a multiple of accumulate, {self.accumulate}; got {self.images_per_step}"
            )
        if self.frozen_stages > 5:
            raise ArgumentError(f"frozen_stages must be in 0..5, got {self.frozen_stages}")
        if self.precision not in get_args(TrainingPrecision):
            raise ArgumentError(
                f"precision must be one of {', '.join(get_args(TrainingPrecision))}; got {self.precision!r}"
            )

    @property
    def validation_interval(self) -> int:
        """Steps between two validations."""
        return self.validate_every or max(self.steps // 10, 1)
