"""PointRend as MMDetection trains it, turned into ours, key for key.

Its published checkpoints, `point-rend_r50-caffe_fpn_ms-1x` and `-3x`, are licensed Apache-2.0. They are trained on the
ResNet-50 of Detectron, whose blocks take their stride in the first convolution, with colours from blue to red.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from halfpixel.errors import ModelFileError
from halfpixel.models.mask_rcnn import MaskRCNN
from halfpixel.zoo.convert.region_heads import input_rules, network
from halfpixel.zoo.convert.state_dicts import MMDETECTION, classes_in, translated, weights_in
from halfpixel.zoo.modelfile import ModelInfo

WHAT = "MMDetection's PointRend with ResNet-50"

BOXES, MASKS, POINTS = r"roi_head\.bbox_head\.", r"roi_head\.mask_head\.", r"roi_head\.point_head\."
RENAMES = (
    (r"backbone\.(layer\d\..+)", r"backbone.\1"),
    (r"backbone\.((?:conv|bn)1\..+)", r"backbone.\1"),
    (r"neck\.lateral_convs\.(\d)\.conv\.(\w+)", r"pyramid.lateral.\1.conv.\2"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(\w+)", r"pyramid.output.\1.conv.\2"),
    (r"rpn_head\.rpn_conv\.(\w+)", r"rpn.convs.0.conv.\1"),
    (r"rpn_head\.rpn_cls\.(\w+)", r"rpn.objectness.\1"),
    (r"rpn_head\.rpn_reg\.(\w+)", r"rpn.deltas.\1"),
    (BOXES + r"shared_fcs\.(\d)\.(\w+)", r"box_head.fcs.\1.\2"),
    (BOXES + r"fc_cls\.(\w+)", r"box_head.logits.\1"),
    (BOXES + r"fc_reg\.(\w+)", r"box_head.deltas.\1"),
    (MASKS + r"downsample_conv\.conv\.(\w+)", r"mask_head.reduce.\1"),
    (MASKS + r"fcs\.(\d)\.(\w+)", r"mask_head.fcs.\1.\2"),
    (MASKS + r"fc_logits\.(\w+)", r"mask_head.logits.\1"),
    (POINTS + r"fcs\.(\d)\.conv\.(\w+)", r"point_head.fcs.\1.\2"),
    (POINTS + r"fc_logits\.(\w+)", r"point_head.logits.\1"),
)


def convert(checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None) -> tuple[MaskRCNN, ModelInfo]:
    """Our network with MMDetection's weights.

    Args:
        checkpoint: of PointRend: its state dict, or what it was saved in.
        class_names: default those in the file, else COCO's for 80 classes, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture; the tensor is named.
        ArgumentError: the number of class names is wrong.
    """
    state = weights_in(checkpoint)
    if any(name.startswith("roi_head.") for name in state) and "roi_head.point_head.fc_logits.weight" not in state:
        raise ModelFileError("of MMDetection's two-stage networks only PointRend is read, not its Mask or Faster R-CNN")
    weights = translated(state, RENAMES, WHAT)
    known = classes_in(checkpoint)
    return network("point_rend_r50_fpn", weights, WHAT, class_names, known, MMDETECTION, input_rules())
