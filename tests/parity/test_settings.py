"""Whatever a network of torchvision was told: the same detections, or a refusal that names it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from parity.compare import lively_torchvision, run_pair
from skimage import data
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from halfpixel.engine.load import from_torchvision
from halfpixel.errors import ModelFileError

SIZES, RATIOS = [[32], [64], [128], [256], [512]], [[0.5, 1.0, 2.0]] * 5
LEVELS = ["0", "1", "2", "3"]


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.tensor(np.asarray(data.astronaut())[::4, ::4].copy()).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module")
def lively(image: Tensor) -> MaskRCNN:
    return lively_torchvision("v1", 4, image, seed=0, min_size=128, max_size=160)


def rebuilt(lively: MaskRCNN, **told: Any) -> MaskRCNN:
    """The same weights in a network that was told something else."""
    heads = lively.roi_heads
    usual = {
        "rpn_head": lively.rpn.head,
        **{name: getattr(heads, name) for name in ("box_head", "box_predictor", "mask_head", "mask_predictor")},
        "min_size": 128,
        "max_size": 160,
        "rpn_pre_nms_top_n_test": 200,
        "rpn_post_nms_top_n_test": 80,
        "box_score_thresh": 0.1,
        "box_detections_per_img": 40,
    }
    return MaskRCNN(lively.backbone, **(usual | told)).eval()


COPIED: dict[str, tuple[Any, ...]] = {
    "min_size": (112, (96, 112)),
    "max_size": (120,),
    "image_mean": ([0.4, 0.5, 0.6], (0, 0, 0)),
    "image_std": ([0.3, 0.2, 0.25],),
    "size_divisible": (64,),
    "rpn_anchor_generator": (AnchorGenerator(SIZES, RATIOS), AnchorGenerator(tuple(map(tuple, SIZES)), RATIOS)),
    "rpn_pre_nms_top_n_test": (60,),
    "rpn_post_nms_top_n_test": (30,),
    "rpn_nms_thresh": (0.5,),
    "rpn_score_thresh": (0.6,),
    "box_score_thresh": (0.3,),
    "box_nms_thresh": (0.3,),
    "box_detections_per_img": (7,),
    "box_roi_pool": (MultiScaleRoIAlign(tuple(LEVELS), [7, 7], 2),),
    "mask_roi_pool": (MultiScaleRoIAlign(LEVELS, 14, 2),),
}
FOR_TRAINING = {
    "_skip_resize": True,
    "rpn_pre_nms_top_n_train": 50,
    "rpn_post_nms_top_n_train": 50,
    "rpn_fg_iou_thresh": 0.6,
    "rpn_bg_iou_thresh": 0.2,
    "rpn_batch_size_per_image": 64,
    "rpn_positive_fraction": 0.3,
    "box_fg_iou_thresh": 0.6,
    "box_bg_iou_thresh": 0.4,
    "box_batch_size_per_image": 64,
    "box_positive_fraction": 0.5,
}
"""All at once: detections do not depend on any of them."""

ALIKE = [{name: value} for name, values in COPIED.items() for value in values] + [FOR_TRAINING]


@pytest.mark.parametrize("told", ALIKE, ids=lambda told: ", ".join(f"{k}={v}" for k, v in list(told.items())[:1])[:50])
def test_the_same_detections(told: dict[str, Any], lively: MaskRCNN, image: Tensor) -> None:
    module = rebuilt(lively, **told)
    (result,) = run_pair(module, from_torchvision(module), [image])
    assert result.theirs > 3
    assert result.faults == []
    assert result.paired >= 0.9 * result.theirs


def box_pool(**told: Any) -> dict[str, Any]:
    return {
        "box_roi_pool": MultiScaleRoIAlign(**({"featmap_names": LEVELS, "output_size": 7, "sampling_ratio": 2} | told))
    }


def mask_pool(**told: Any) -> dict[str, Any]:
    usual = {"featmap_names": LEVELS, "output_size": 14, "sampling_ratio": 2}
    return {"mask_roi_pool": MultiScaleRoIAlign(**(usual | told))}


REFUSED: dict[str, dict[str, Any]] = {
    "transform.fixed_size": {"fixed_size": (128, 128)},
    "transform.size_divisible": {"size_divisible": 16},
    "rpn.anchor_generator.sizes": {"rpn_anchor_generator": AnchorGenerator([[16], [32], [64], [128], [256]], RATIOS)},
    "rpn.anchor_generator.aspect_ratios": {"rpn_anchor_generator": AnchorGenerator(SIZES, [[0.5, 1.0, 3.0]] * 5)},
    "roi_heads.box_coder.weights": {"bbox_reg_weights": (1.0, 1.0, 1.0, 1.0)},
    "roi_heads.box_roi_pool.featmap_names": box_pool(featmap_names=["0", "1", "2"]),
    "roi_heads.box_roi_pool.output_size": box_pool(output_size=5),
    "roi_heads.box_roi_pool.sampling_ratio": box_pool(sampling_ratio=0),
    "roi_heads.box_roi_pool.canonical_scale": box_pool(canonical_scale=84),
    "roi_heads.box_roi_pool.canonical_level": box_pool(canonical_level=3),
    "roi_heads.mask_roi_pool.featmap_names": mask_pool(featmap_names=["0"]),
    "roi_heads.mask_roi_pool.output_size": mask_pool(output_size=10),
    "roi_heads.mask_roi_pool.sampling_ratio": mask_pool(sampling_ratio=1),
    "roi_heads.mask_roi_pool.canonical_scale": mask_pool(canonical_scale=112),
    "roi_heads.mask_roi_pool.canonical_level": mask_pool(canonical_level=5),
    "roi_heads.mask_head.0.0.dilation": {"mask_head": MaskRCNNHeads(256, (256,) * 4, 2)},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_ours_cannot_be_told_is_named(name: str, lively: MaskRCNN) -> None:
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        from_torchvision(rebuilt(lively, **REFUSED[name]))


class OtherRpnHead(RPNHead):
    """Its weights have the same names."""


def _set(name: str, value: Any, module: MaskRCNN) -> None:
    *path, last = name.split(".")
    inner: Any = module
    for part in path:
        inner = getattr(inner, part)
    setattr(inner, last, value)


ALTERED: dict[str, Callable[[MaskRCNN], object]] = {
    "rpn.min_size": partial(_set, "rpn.min_size", 5.0),
    "rpn.box_coder.bbox_xform_clip": partial(_set, "rpn.box_coder.bbox_xform_clip", 1.0),
    "rpn.box_coder.weights": partial(_set, "rpn.box_coder.weights", (1.0, 1.0, 2.0, 2.0)),
    "rpn.anchor_generator.cell_anchors": lambda module: module.rpn.anchor_generator.cell_anchors[0].add_(3),
    "rpn.head": lambda module: setattr(module.rpn, "head", OtherRpnHead(256, 3)),
    "roi_heads.postprocess_detections": partial(_set, "roi_heads.postprocess_detections", print),
    "roi_heads.extra": partial(_set, "roi_heads.extra", nn.ReLU()),
    "backbone.fpn.extra_blocks": lambda module: setattr(module, "backbone", dilated(extra=False)),
    "backbone.body.layer4.0.conv2.dilation": lambda module: setattr(module, "backbone", dilated()),
}


def dilated(extra: bool = True) -> nn.Module:
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=nn.BatchNorm2d)
    if not extra:
        backbone.fpn.extra_blocks = None
        return backbone
    backbone.body.layer4[0].conv2.dilation = (2, 2)
    return backbone


@pytest.mark.parametrize("name", ALTERED)
def test_what_was_changed_afterwards_is_named(name: str, lively: MaskRCNN) -> None:
    module = rebuilt(lively, rpn_anchor_generator=AnchorGenerator(SIZES, RATIOS))
    ALTERED[name](module)
    with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
        from_torchvision(module)


def test_what_a_user_notes_on_a_network_does_not_matter(lively: MaskRCNN) -> None:
    module = rebuilt(lively)
    module.run_name = "third try"  # type: ignore[assignment]
    with torch.no_grad():
        module([torch.rand(3, 100, 90)])  # it remembers the scales of its pools
    assert from_torchvision(module).info.detection_limit == 40


PARTS = {
    *("self", "kwargs", "backbone", "rpn", "roi_heads", "transform", "num_classes", "head", "anchor_generator"),
    *("rpn_head", "box_head", "box_predictor", "mask_head", "mask_predictor"),
    *("keypoint_roi_pool", "keypoint_head", "keypoint_predictor"),
}
"""Of a network, which the names and shapes of weights tell, or which stand for other arguments."""

BELOW = {"score_thresh", "nms_thresh", "detections_per_img", "pre_nms_top_n", "post_nms_top_n"} | {
    *("fg_iou_thresh", "bg_iou_thresh", "batch_size_per_image", "positive_fraction", "sizes", "aspect_ratios")
}
"""What inner parts are told through the arguments of the whole."""


def test_every_argument_has_its_case() -> None:
    classes = (FasterRCNN, MaskRCNN, GeneralizedRCNNTransform, RegionProposalNetwork, RoIHeads, MultiScaleRoIAlign)
    arguments = {name for one in (*classes, AnchorGenerator) for name in inspect.signature(one.__init__).parameters}
    covered = {*COPIED, *FOR_TRAINING} | {argument for told in REFUSED.values() for argument in told}
    covered |= {name.rpartition(".")[2] for name in REFUSED}
    assert arguments - covered - PARTS - BELOW == set()
