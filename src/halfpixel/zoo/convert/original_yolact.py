"""YOLACT as its authors trained it, turned into ours, key for key.

The published weights are under the MIT licence. Their class 0 is the background; class k there is class k - 1 here.
Their anchors are in the order 1:1, 1:2, 2:1 (width to height), and all of them squares, which was a mistake that the
weights have learnt to live with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from halfpixel.models.yolact import YOLACT, Settings
from halfpixel.zoo.convert.state_dicts import translated, weights_in
from halfpixel.zoo.convert.yolact_layers import ANCHOR_SIDE, filled_yolact
from halfpixel.zoo.modelfile import ModelInfo

WHAT = "the authors' YOLACT with ResNet-50 or ResNet-101"

DROPPED = r"backbone\.layer\d\..+|fpn\.downsample_layers\.[2-9]\..+"
"""Old files hold the backbone twice, and layers that were never used; the authors' own reader leaves both out."""

HEAD = r"prediction_layers\.0\."
RENAMES = (
    (r"backbone\.((?:conv|bn)1\..+)", r"backbone.\1"),
    *((rf"backbone\.layers\.{k}\.(.+)", rf"backbone.layer{k + 1}.\1") for k in range(4)),
    # theirs from coarse to fine
    *((rf"fpn\.lat_layers\.{k}\.(\w+)", rf"pyramid.merged.lateral.{2 - k}.conv.\1") for k in range(3)),
    *((rf"fpn\.pred_layers\.{k}\.(\w+)", rf"pyramid.merged.output.{2 - k}.conv.\1") for k in range(3)),
    (r"fpn\.downsample_layers\.([01])\.(\w+)", r"pyramid.coarser.\1.\2"),
    (HEAD + r"upfeature\.0\.(\w+)", r"head.convs.0.conv.\1"),
    (HEAD + r"conf_layer\.(\w+)", r"head.logits.\1"),
    (HEAD + r"bbox_layer\.(\w+)", r"head.deltas.\1"),
    (HEAD + r"mask_layer\.(\w+)", r"head.coefficients.\1"),
    *((rf"proto_net\.{2 * k}\.(\w+)", rf"protonet.coarse.{k}.conv.\1") for k in range(3)),
    (r"proto_net\.8\.(\w+)", r"protonet.fine.0.conv.\1"),
    (r"proto_net\.10\.(\w+)", r"protonet.maps.\1"),
    (r"semantic_seg_conv\.(\w+)", r"semantic.\1"),
)

SHAPES = (2, 0, 1)
"""Ours are 2:1, 1:1, 1:2 (width to height)."""


def convert(
    checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None, square_anchors: bool = True
) -> tuple[YOLACT, ModelInfo]:
    """Our network with the authors' weights.

    Args:
        checkpoint: of `yolact_resnet50` or `yolact_base`: its state dict.
        class_names: without the background; default COCO's when there are 80, else "class 1" and so on.
        square_anchors: as the published weights want it; False for what was trained with `use_square_anchors` off.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture; the tensor is named.
        ArgumentError: the number of class names is wrong.
    """
    weights = translated(weights_in(checkpoint), RENAMES, WHAT, DROPPED)
    settings = Settings(square_anchors=square_anchors, anchor_side=ANCHOR_SIDE)
    model, info = filled_yolact(weights, settings, SHAPES, False, class_names, None, WHAT)
    return model, dataclasses.replace(info, source="weights in the naming of dbolya/yolact")
