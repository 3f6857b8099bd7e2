"""Mask R-CNN and Faster R-CNN as torchvision ships them, turned into ours, key for key.

torchvision's class 0 is the background, and its mask head has a channel for it that is never used: that channel is
left out, and class k there is class k - 1 here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models import mask_rcnn
from halfpixel.models.mask_rcnn import MaskRCNN, Settings
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d
from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo

DEFAULT_EPS = 1e-5
COCO_OUTPUTS = 91

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
    if key.endswith("num_batches_tracked"):
        return None
    for pattern, ours in RENAMES:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, ours, key)
    raise ModelFileError(
        f"not torchvision's Mask or Faster R-CNN with ResNet-50 and a pyramid: unexpected weights {key!r}"
    )


def convert(
    source: nn.Module | Mapping[str, Tensor], class_names: Sequence[str] | None = None
) -> tuple[MaskRCNN, ModelInfo]:
    """Our network with torchvision's weights.

    Args:
        source: a `torchvision.models.detection.MaskRCNN` or `FasterRCNN` (its resizing, thresholds and limits are
            copied), or its state dict (the published defaults are used: shorter side 800, score 0.05, suppression 0.5,
            100 objects).
        class_names: without the background; default COCO's names when there are 90, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture, or anchors or crops of another shape.
        ArgumentError: the number of class names is wrong.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else source
    renamed = {ours: tensor for key, tensor in state.items() if (ours := rename(key)) is not None}
    if "box_head.logits.bias" not in renamed:
        raise ModelFileError("not torchvision's Mask or Faster R-CNN: the class predictor is missing")
    outputs = len(renamed["box_head.logits.bias"])
    names = _class_names(class_names, outputs)
    for key in ("mask_head.logits.weight", "mask_head.logits.bias"):
        if key in renamed:
            renamed[key] = renamed[key][1:]

    with_masks = any(key.startswith("mask_head.") for key in renamed)
    newer = "rpn.convs.1.conv.weight" in renamed
    variant = f"{'mask' if with_masks else 'faster'}_rcnn_r50_fpn{'_v2' if newer else ''}"
    info = ModelInfo(variant, names, source="torchvision", licence="BSD-3-Clause")
    info = _policy_of(source, info) if isinstance(source, nn.Module) else _published_policy(info)
    model = mask_rcnn.VARIANTS[variant](names, Settings(**info.settings))
    expected = model.state_dict()
    for name in sorted(set(expected) ^ set(renamed)):
        where = "is missing" if name in expected else "is unexpected"
        raise ModelFileError(f"not torchvision's {variant}: {name} {where}")
    for name, tensor in renamed.items():
        if tensor.shape != expected[name].shape:
            raise ModelFileError(f"not torchvision's {variant}: {name} is {list(tensor.shape)}, "
                                 f"expected {list(expected[name].shape)}")  # fmt: skip
    model.load_state_dict(renamed)
    _absorb_eps(model, source, state)
    return model.eval(), info


def _class_names(class_names: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    if class_names is not None:
        if len(class_names) != outputs - 1:
            raise ArgumentError(f"{len(class_names)} class names for {outputs - 1} classes (background not counted)")
        return tuple(class_names)
    if outputs == COCO_OUTPUTS:
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

        categories = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
        return tuple(name if name != "N/A" else f"unused {k}" for k, name in enumerate(categories, start=1))
    return tuple(f"class {k}" for k in range(1, outputs))


def _published_policy(info: ModelInfo) -> ModelInfo:
    settings = Settings(alignment="torchvision", detections=100, proposals_per_level=1000, proposals=1000)
    return dataclasses.replace(
        info, settings=dataclasses.asdict(settings), score_threshold=0.05, detection_limit=settings.detections
    )


def _policy_of(module: Any, info: ModelInfo) -> ModelInfo:
    """What a torchvision module was told besides its weights."""
    sizes, ratios = module.rpn.anchor_generator.sizes, module.rpn.anchor_generator.aspect_ratios
    if tuple(sizes) != ((32,), (64,), (128,), (256,), (512,)) or set(ratios) != {(0.5, 1.0, 2.0)}:
        raise ModelFileError(f"anchors of sizes {sizes} and ratios {ratios} are not torchvision's published ones")
    heads = module.roi_heads
    for pool, size in ((heads.box_roi_pool, 7), (heads.mask_roi_pool, 14)):
        if pool is None:  # without masks
            continue
        if tuple(pool.output_size) != (size, size) or pool.sampling_ratio != 2:
            raise ModelFileError(f"crops of {pool.output_size} with {pool.sampling_ratio} samples are not supported")
    if module.transform.fixed_size is not None:
        raise ModelFileError("a fixed input size is not supported; give min_size and max_size")
    settings = Settings(
        alignment="torchvision",
        detections=heads.detections_per_img,
        proposals_per_level=module.rpn._pre_nms_top_n["testing"],
        proposals=module.rpn._post_nms_top_n["testing"],
        training_proposals_per_level=module.rpn._pre_nms_top_n["training"],
        training_proposals=module.rpn._post_nms_top_n["training"],
        proposal_iou=module.rpn.nms_thresh,
        proposal_score=module.rpn.score_thresh,
        box_iou=heads.nms_thresh,
        anchor_samples=module.rpn.fg_bg_sampler.batch_size_per_image,
        region_samples=heads.fg_bg_sampler.batch_size_per_image,
    )
    transform = module.transform
    rules = InputRules(
        mean=tuple(transform.image_mean),
        std=tuple(transform.image_std),
        shortest_side=transform.min_size[-1],
        longest_side=transform.max_size,
        divisor=transform.size_divisible,
    )
    return dataclasses.replace(
        info,
        input=rules,
        settings=dataclasses.asdict(settings),
        score_threshold=heads.score_thresh,
        detection_limit=heads.detections_per_img,
    )


def _absorb_eps(model: MaskRCNN, source: nn.Module | Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Move the difference in the normalisations' epsilon into the variances, so that it need not be stored.

    torchvision sets it to 0 for the published weights of its first variant. A bare state dict does not tell; that of
    a frozen normalisation has no batch counters, and is taken to be of that kind.
    """
    theirs: dict[str, float] = {}
    if isinstance(source, nn.Module):
        for name, module in source.named_modules():
            if hasattr(module, "running_var"):
                ours = rename(f"{name}.running_var")
                assert ours is not None
                theirs[ours] = float(module.eps)
    elif not any(key.endswith("num_batches_tracked") for key in state):
        theirs = {f"{name}.running_var": 0.0 for name, _ in model.named_modules()}
    for name, module in model.named_modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_var += theirs.get(f"{name}.running_var", DEFAULT_EPS) - module.eps
