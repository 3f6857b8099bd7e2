"""YOLACT as MMDetection trains it, turned into ours, key for key.

Its published checkpoints are licensed Apache-2.0. Class k there is class k here; the background is its last class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from halfpixel.models.yolact import YOLACT, Settings
from halfpixel.zoo.convert.state_dicts import MMDETECTION, classes_in, translated, weights_in
from halfpixel.zoo.convert.yolact_layers import ANCHOR_SIDE, filled_yolact
from halfpixel.zoo.modelfile import ModelInfo

WHAT = "MMDetection's YOLACT with ResNet-50 or ResNet-101"

RENAMES = (
    (r"backbone\.(layer\d\..+)", r"backbone.\1"),
    (r"backbone\.((?:conv|bn)1\..+)", r"backbone.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(\w+)", r"pyramid.merged.lateral.\1.conv.\2"),
    (r"neck\.fpn_convs\.([012])\.conv\.(\w+)", r"pyramid.merged.output.\1.conv.\2"),
    (r"neck\.fpn_convs\.3\.conv\.(\w+)", r"pyramid.coarser.0.\1"),
    (r"neck\.fpn_convs\.4\.conv\.(\w+)", r"pyramid.coarser.1.\1"),
    (r"bbox_head\.head_convs\.0\.conv\.(\w+)", r"head.convs.0.conv.\1"),
    (r"bbox_head\.conv_cls\.(\w+)", r"head.logits.\1"),
    (r"bbox_head\.conv_reg\.(\w+)", r"head.deltas.\1"),
    (r"bbox_head\.conv_coeff\.(\w+)", r"head.coefficients.\1"),
    *((rf"mask_head\.protonet\.{2 * k}\.(\w+)", rf"protonet.coarse.{k}.conv.\1") for k in range(3)),
    (r"mask_head\.protonet\.8\.(\w+)", r"protonet.fine.0.conv.\1"),
    (r"mask_head\.protonet\.10\.(\w+)", r"protonet.maps.\1"),
    (r"(?:mask_head\.segm_branch|segm_head)\.segm_conv\.(\w+)", r"semantic.\1"),  # of version 3, of version 2
)


def convert(checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None) -> tuple[YOLACT, ModelInfo]:
    """Our network with MMDetection's weights.

    Args:
        checkpoint: of `yolact_r50_1x8_coco` and the like: its state dict, or what it was saved in.
        class_names: default those in the file, else COCO's for 80 classes, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture; the tensor is named.
        ArgumentError: the number of class names is wrong.
    """
    weights = translated(weights_in(checkpoint), RENAMES, WHAT)
    settings = Settings(anchor_side=ANCHOR_SIDE, pyramid="mmdet")
    model, info = filled_yolact(weights, settings, (0, 1, 2), True, class_names, classes_in(checkpoint), WHAT)
    return model, dataclasses.replace(info, source=MMDETECTION)
