"""Mask R-CNN and Faster R-CNN as torchvision ships them, turned into ours, key for key.

torchvision's class 0 is the background, and its mask head has a channel for it that is never used: that channel is
left out, and class k there is class k - 1 here.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models import mask_rcnn
from halfpixel.models.mask_rcnn import MaskRCNN, Settings
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d
from halfpixel.zoo.coco_classes import coco_categories
from halfpixel.zoo.convert.state_dicts import numbers_for, renamed, translated, weights_in
from halfpixel.zoo.convert.torchvision_settings import NORMS, unwrapped, with_policy
from halfpixel.zoo.fitting import filled
from halfpixel.zoo.modelfile import ModelInfo

DEFAULT_EPS = 1e-5
SMALL_VARIANCE = 1e-3
"""Below it the usual epsilon changes what comes out by half a percent."""

COCO_OUTPUTS = 91

WHAT = "torchvision's Mask or Faster R-CNN with ResNet-50 and a pyramid"

# Patterns of torchvision's keys, newest first; older files lack some of the nesting.
RENAMES = (
    (r"backbone\.body\.(.+)", r"backbone.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0\.(\w+)", r"pyramid.lateral.\1.conv.\2"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1\.(\w+)", r"pyramid.lateral.\1.norm.\2"),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.(\w+)", r"pyramid.lateral.\1.conv.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0\.(\w+)", r"pyramid.output.\1.conv.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1\.(\w+)", r"pyramid.output.\1.norm.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.(\w+)", r"pyramid.output.\1.conv.\2"),
    (r"rpn\.head\.conv\.(\d)\.0\.(\w+)", r"rpn.convs.\1.conv.\2"),
    (r"rpn\.head\.conv\.(\w+)", r"rpn.convs.0.conv.\1"),
    (r"rpn\.head\.cls_logits\.(\w+)", r"rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(\w+)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(\w+)", r"box_head.fcs.0.\1"),
    (r"roi_heads\.box_head\.fc7\.(\w+)", r"box_head.fcs.1.\1"),
    (r"roi_heads\.box_head\.5\.(\w+)", r"box_head.fcs.0.\1"),
    (r"roi_heads\.box_head\.(\d)\.0\.(\w+)", r"box_head.convs.\1.conv.\2"),
    (r"roi_heads\.box_head\.(\d)\.1\.(\w+)", r"box_head.convs.\1.norm.\2"),
    (r"roi_heads\.box_predictor\.cls_score\.(\w+)", r"box_head.logits.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", r"box_head.deltas.\1"),
    (r"roi_heads\.mask_head\.(\d)\.0\.(\w+)", r"mask_head.convs.\1.conv.\2"),
    (r"roi_heads\.mask_head\.(\d)\.1\.(\w+)", r"mask_head.convs.\1.norm.\2"),
    (r"roi_heads\.mask_head\.mask_fcn1\.(\w+)", r"mask_head.convs.0.conv.\1"),
    (r"roi_heads\.mask_head\.mask_fcn2\.(\w+)", r"mask_head.convs.1.conv.\1"),
    (r"roi_heads\.mask_head\.mask_fcn3\.(\w+)", r"mask_head.convs.2.conv.\1"),
    (r"roi_heads\.mask_head\.mask_fcn4\.(\w+)", r"mask_head.convs.3.conv.\1"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", r"mask_head.upsample.\1"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)", r"mask_head.logits.\1"),
)


def rename(key: str) -> str | None:
    """Our name of one of torchvision's keys; None for batch counters, which frozen statistics do not need.

    Raises:
        ModelFileError: neither of torchvision's networks has such a key.
    """
    return None if key.endswith("num_batches_tracked") else renamed(key, RENAMES, WHAT)


def convert(
    source: nn.Module | Mapping[str, Any], class_names: Sequence[str] | None = None, eps: float | None = None
) -> tuple[MaskRCNN, ModelInfo]:
    """Our network with torchvision's weights.

    Args:
        source: a `torchvision.models.detection.MaskRCNN` or `FasterRCNN` (its resizing, thresholds and limits are
            copied; what training alone depends on is not, but for the numbers of samples), or its state dict, also
            inside of a checkpoint (the published defaults are used: shorter side 800, score 0.05, suppression 0.5, 100
            objects).
        class_names: without the background; default COCO's names when there are 90, else "class 1" and so on.
        eps: of a state dict's frozen normalisations, which it does not hold: 0 for the published weights of the first
            variant and what was trained from them, 1e-5 for what was trained from an ImageNet backbone. Default: 0,
            with a warning where it matters.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture, or settings that ours cannot have.
        ArgumentError: the number of class names is wrong, or an epsilon for a module, which holds its own.
    """
    if isinstance(source, nn.Module):
        if eps is not None:
            raise ArgumentError("eps is for state dicts: a module holds its own")
        source = unwrapped(source)
    elif eps is not None and not 0 <= eps <= 1:
        raise ArgumentError(f"eps must be from 0 to 1, got {eps}")
    state = source.state_dict() if isinstance(source, nn.Module) else weights_in(source)
    weights = translated(state, RENAMES, WHAT)
    if "box_head.logits.bias" not in weights:
        raise ModelFileError("not torchvision's Mask or Faster R-CNN: the class predictor is missing")
    outputs = len(weights["box_head.logits.bias"])
    names = _class_names(class_names, outputs)
    for key in ("mask_head.logits.weight", "mask_head.logits.bias"):
        if key in weights:
            weights[key] = weights[key][1:]

    with_masks = any(key.startswith("mask_head.") for key in weights)
    newer = "rpn.convs.1.conv.weight" in weights
    variant = f"{'mask' if with_masks else 'faster'}_rcnn_r50_fpn{'_v2' if newer else ''}"
    info = _published_policy(ModelInfo(variant, names, source="weights in torchvision's naming"))
    if isinstance(source, nn.Module):
        info = with_policy(source, info)
    settings = Settings(**info.settings)
    model = filled(lambda: mask_rcnn.VARIANTS[variant](names, settings), weights, f"torchvision's {variant}")
    assert isinstance(model, MaskRCNN)
    _absorb_eps(model, _eps_of(source) if isinstance(source, nn.Module) else _eps_in(state, eps))
    return model, info


def _class_names(class_names: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    numbered = numbers_for(outputs - 1)
    if class_names is not None:
        if len(class_names) != outputs - 1:
            raise ArgumentError(f"{len(class_names)} class names for {outputs - 1} classes (background not counted)")
        return tuple(class_names)
    if outputs == COCO_OUTPUTS:
        categories = coco_categories()
        return tuple(name if name != "N/A" else f"unused {k}" for k, name in enumerate(categories, start=1))
    return numbered


def _published_policy(info: ModelInfo) -> ModelInfo:
    settings = Settings(alignment="torchvision", proposals_per_level=1000, proposals=1000)
    return dataclasses.replace(info, settings=dataclasses.asdict(settings), score_threshold=0.05, detection_limit=100)


def _eps_of(module: nn.Module) -> dict[str, float]:
    """The epsilon of each normalisation, by our name of its variances."""
    found = {
        rename(f"{name}.running_var"): part.eps for name, part in module.named_modules() if isinstance(part, NORMS)
    }
    return {name: float(eps) for name, eps in found.items() if name is not None}


def _eps_in(state: Mapping[str, Tensor], eps: float | None) -> dict[str, float]:
    """The same, as far as a state dict tells.

    torchvision's own frozen normalisation has no batch counters. Its epsilon is 1e-5, but for the published weights of
    the first variant, which have 0 and pass it on to what is trained from them.
    """
    variances = {name: tensor for key, tensor in state.items() if (name := rename(key) or "").endswith("running_var")}
    frozen = not any(key.endswith("num_batches_tracked") for key in state)
    if frozen and eps is None and any(bool((one < SMALL_VARIANCE).any()) for one in variances.values()):
        warnings.warn(
            "the weights do not say with which epsilon their normalisations divide; 0 was taken, which is right for "
            "torchvision's published weights and what was trained from them. If they were trained from an ImageNet "
            "backbone, scores and boxes will be off: from_torchvision(state, eps=1e-5)",
            stacklevel=4,
        )
    return dict.fromkeys(variances, (0.0 if frozen else DEFAULT_EPS) if eps is None else eps)


def _absorb_eps(model: MaskRCNN, theirs: Mapping[str, float]) -> None:
    """Move the difference in the normalisations' epsilon into the variances, so that it need not be stored."""
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_var += theirs[f"{name}.running_var"] - module.eps
