"""SOLOv2 as MMDetection trains it, turned into ours, key for key.

Its published checkpoints are licensed Apache-2.0. There class k is class k here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from halfpixel.errors import ModelFileError
from halfpixel.models import solov2
from halfpixel.models.solov2 import SOLOv2
from halfpixel.structures.images import InputRules
from halfpixel.zoo.convert.state_dicts import MMDETECTION, classes_in, names_for, translated, weights_in
from halfpixel.zoo.fitting import filled
from halfpixel.zoo.modelfile import ModelInfo

WHAT = "MMDetection's SOLOv2 with ResNet-50"

HEAD = r"mask_head\."
FEATURES = HEAD + r"mask_feature_head\."
RENAMES = (
    (r"backbone\.(layer\d\..+)", r"backbone.\1"),
    (r"backbone\.((?:conv|bn)1\..+)", r"backbone.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(\w+)", r"pyramid.lateral.\1.conv.\2"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(\w+)", r"pyramid.output.\1.conv.\2"),
    (HEAD + r"cls_convs\.(\d)\.conv\.weight", r"head.class_convs.\1.conv.weight"),
    (HEAD + r"cls_convs\.(\d)\.gn\.(\w+)", r"head.class_convs.\1.norm.\2"),
    (HEAD + r"kernel_convs\.(\d)\.conv\.weight", r"head.kernel_convs.\1.conv.weight"),
    (HEAD + r"kernel_convs\.(\d)\.gn\.(\w+)", r"head.kernel_convs.\1.norm.\2"),
    (HEAD + r"conv_cls\.(\w+)", r"head.logits.\1"),
    (HEAD + r"conv_kernel\.(\w+)", r"head.kernels.\1"),
    (FEATURES + r"convs_all_levels\.(\d)\.conv(\d)\.conv\.weight", r"mask_features.levels.\1.\2.conv.weight"),
    (FEATURES + r"convs_all_levels\.(\d)\.conv(\d)\.gn\.(\w+)", r"mask_features.levels.\1.\2.norm.\3"),
    (FEATURES + r"conv_pred\.conv\.weight", r"mask_features.maps.conv.weight"),
    (FEATURES + r"conv_pred\.gn\.(\w+)", r"mask_features.maps.norm.\1"),
)

VARIANTS = {
    256: ("solov2_r50", InputRules()),
    128: ("solov2_light_r50", InputRules(shortest_side=448, longest_side=768)),
}
"""By the number of maps that objects share; and how images were prepared."""

SCORE = 0.1
"""Less, its configuration does not report."""


def convert(checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None) -> tuple[SOLOv2, ModelInfo]:
    """Our network with MMDetection's weights.

    Args:
        checkpoint: of `solov2_r50_fpn` or `solov2-light_r50_fpn`: its state dict, or what it was saved in.
        class_names: default those in the file, else COCO's for 80 classes, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture; the tensor is named.
        ArgumentError: the number of class names is wrong.
    """
    weights = translated(weights_in(checkpoint), RENAMES, WHAT)
    maps, logits = (weights.get(name) for name in ("mask_features.maps.conv.weight", "head.logits.bias"))
    if maps is None or logits is None:
        missing = "the mask features' last layer" if maps is None else "the class predictor"
        raise ModelFileError(f"not {WHAT}: {missing} is missing")
    if len(maps) not in VARIANTS:
        raise ModelFileError(f"not {WHAT}: {len(maps)} mask features, expected one of {sorted(VARIANTS)}")
    names = names_for(class_names, classes_in(checkpoint), len(logits))
    variant, rules = VARIANTS[len(maps)]
    make = solov2.VARIANTS[variant]
    model = filled(lambda: make(names, None), weights, f"MMDetection's {variant}")
    assert isinstance(model, SOLOv2)
    settings = dataclasses.asdict(model.settings)
    return model, ModelInfo(variant, names, rules, settings, SCORE, source=MMDETECTION)
