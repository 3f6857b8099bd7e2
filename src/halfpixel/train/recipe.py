"""How to train: one dataclass, written beside every run and into the model file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """All decisions of a training run.

    Attributes:
        steps: optimiser steps.
        images_per_step: crops in each step.
        crop_px: side of a square crop, in pixels of the network's input.
        zoom: range of random factors on the scale at which the model will see images.
        learning_rate: peak, of AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101).
        backbone_rate: learning rate of the backbone, as a share of the above.
        weight_decay: of AdamW, on weights with more than one dimension.
        warmup_steps: linear warm-up; then a half cosine down to a hundredth of the peak.
        clip_norm: gradients longer than this are shortened.
        ema_decay: the weights that are kept are a running average with this decay.
        photometric: strength of random light and stain, 0 to 1.
        precision: of lightning-fabric: "32-true" or "bf16-mixed".
        seed: of everything random.
    """

    steps: int = 800
    images_per_step: int = 4
    crop_px: int = 512
    zoom: tuple[float, float] = (0.6, 1.1)
    learning_rate: float = 1e-3
    backbone_rate: float = 0.3
    weight_decay: float = 0.05
    warmup_steps: int = 50
    clip_norm: float = 5.0
    ema_decay: float = 0.995
    photometric: float = 1.0
    precision: str = "32-true"
    seed: int = 0
