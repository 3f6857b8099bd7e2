"""What the two namings of YOLACT's weights share: orders of anchors and classes, policy, class names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from halfpixel.errors import ModelFileError
from halfpixel.models import yolact
from halfpixel.models.yolact import YOLACT, Settings
from halfpixel.structures.images import InputRules
from halfpixel.zoo.convert.state_dicts import names_for
from halfpixel.zoo.fitting import filled
from halfpixel.zoo.modelfile import ModelInfo

SHAPES = 3
"""Anchors of a cell."""

INPUT = InputRules(
    mean=(123.68 / 255, 116.78 / 255, 103.94 / 255),
    std=(58.40 / 255, 57.12 / 255, 57.38 / 255),
    shortest_side=480,
    longest_side=640,
)
"""Both squeeze each image into 550 x 550; this has as many pixels, and keeps proportions."""

SCORE, ANCHOR_SIDE = 0.05, 550


def filled_yolact(
    weights: dict[str, Tensor],
    settings: Settings,
    shapes: Sequence[int],
    background_last: bool,
    class_names: Sequence[str] | None,
    known: object,
    what: str,
) -> tuple[YOLACT, ModelInfo]:
    """The network, in evaluation mode, and its description, without where it comes from.

    Args:
        weights: under our names; changed in place.
        settings: see there.
        shapes: which of theirs each of our anchor shapes is.
        background_last: among their classes; ours is the first.
        class_names: see `names_for`.
        known: to what was saved, likewise.
        what: whose weights they should be, for messages.

    Raises:
        ModelFileError: another architecture; the tensor is named.
        ArgumentError: the number of class names is wrong.
    """
    for layer in ("logits", "deltas", "coefficients"):
        for name in (f"head.{layer}.weight", f"head.{layer}.bias"):
            if name not in weights:
                raise ModelFileError(f"not {what}: {name} is missing")
            if len(weights[name]) % SHAPES:
                raise ModelFileError(f"not {what}: {name} has {len(weights[name])} rows, expected {SHAPES} for each")
            parts = weights[name].unflatten(0, (SHAPES, -1))[list(shapes)]
            if layer == "logits" and background_last:
                parts = torch.cat([parts[:, -1:], parts[:, :-1]], 1)
            weights[name] = parts.flatten(0, 1)
    names = names_for(class_names, known, len(weights["head.logits.bias"]) // SHAPES - 1)
    variant = f"yolact_r{101 if _deep(weights) else 50}"
    model = filled(lambda: yolact.VARIANTS[variant](names, settings), weights, f"{what} ({variant})")
    assert isinstance(model, YOLACT)
    return model, ModelInfo(variant, names, INPUT, dataclasses.asdict(settings), SCORE)


def _deep(weights: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("backbone.layer3.6.") for name in weights)
