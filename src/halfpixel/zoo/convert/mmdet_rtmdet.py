"""RTMDet-Ins as MMDetection trains it, turned into ours, key for key.

There class k is class k here. It sees colours in the order blue, green, red, so the first convolution is turned round.
Its published checkpoints are licensed Apache-2.0; a file holds `meta` and `state_dict`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from halfpixel.errors import ModelFileError
from halfpixel.models import rtmdet
from halfpixel.models.rtmdet import RTMDet, Settings
from halfpixel.structures.images import InputRules
from halfpixel.zoo.convert.state_dicts import MMDETECTION, classes_in, names_for, translated, weights_in
from halfpixel.zoo.fitting import filled
from halfpixel.zoo.modelfile import ModelInfo

WHAT = "MMDetection's RTMDet-Ins"

# Class and box have the same two convolutions, under both names and under those of every level.
RENAMES = (
    (r"((?:backbone|neck)\..+)", r"\1"),
    (r"bbox_head\.(?:cls|reg)_convs\.\d\.(\d)\.conv\.weight", r"head.tower.\1.conv.weight"),
    (r"bbox_head\.(?:cls|reg)_convs\.(\d)\.(\d)\.bn\.(\w+)", r"head.tower.\2.norms.\1.\3"),
    (r"bbox_head\.kernel_convs\.(.+)", r"head.kernel_towers.\1"),
    (r"bbox_head\.rtm_cls\.(.+)", r"head.logits.\1"),
    (r"bbox_head\.rtm_reg\.(.+)", r"head.distances.\1"),
    (r"bbox_head\.rtm_kernel\.(.+)", r"head.filters.\1"),
    (r"bbox_head\.mask_head\.fusion_conv\.(.+)", r"head.fuse.\1"),
    (r"bbox_head\.mask_head\.stacked_convs\.(.+)", r"head.mask_convs.\1"),
    (r"bbox_head\.mask_head\.projection\.(.+)", r"head.maps.\1"),
)

WIDTHS = {24: "rtmdet_ins_tiny", 32: "rtmdet_ins_s", 48: "rtmdet_ins_m", 64: "rtmdet_ins_l", 80: "rtmdet_ins_x"}
"""Our variants, by the channels of their stems."""

SETTINGS = Settings(cell_point=0.0)
RULES = InputRules(shortest_side=640, longest_side=640)
SCORE, LIMIT = 0.05, 100
"""Less, and more, its configuration does not report."""

FIRST = "backbone.stem.0.conv.weight"
"""The convolution that sees colours."""


def convert(checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None) -> tuple[RTMDet, ModelInfo]:
    """Our network with MMDetection's weights.

    Args:
        checkpoint: of `rtmdet-ins_{tiny,s,m,l,x}`: its state dict, or what it was saved in.
        class_names: default those in the file, else COCO's for 80 classes, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture, or weights that are not finite; the tensor is named.
        ArgumentError: the number of class names is wrong.
    """
    weights = translated(weights_in(checkpoint), RENAMES, WHAT)
    for name in ("head.filters.0.weight", "head.logits.0.bias", "backbone.stem.2.conv.weight"):
        if name not in weights or not weights[name].ndim:
            raise ModelFileError(f"not {WHAT}: {name} is missing")
    variant = variant_of(weights)
    names = names_for(class_names, classes_in(checkpoint), len(weights["head.logits.0.bias"]))
    if FIRST in weights and weights[FIRST].ndim > 1:
        weights[FIRST] = weights[FIRST].flip(1)
    make = rtmdet.VARIANTS[variant]
    model = filled(lambda: make(names, SETTINGS), weights, f"MMDetection's {variant}")
    assert isinstance(model, RTMDet)
    settings = dataclasses.asdict(SETTINGS)
    info = ModelInfo(variant, names, RULES, settings, SCORE, LIMIT, source=MMDETECTION)
    return model, info


def variant_of(weights: Mapping[str, Tensor]) -> str:
    """Which of our variants weights belong to.

    Raises:
        ModelFileError: to none.
    """
    channels = len(weights["backbone.stem.2.conv.weight"])
    if channels not in WIDTHS:
        raise ModelFileError(f"not {WHAT}: a stem of {channels} channels, expected one of {sorted(WIDTHS)}")
    return WIDTHS[channels]
