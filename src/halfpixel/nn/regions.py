"""Regions of interest: which of them a second stage is trained on, and what it sees of them."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfpixel.errors import ArgumentError
from halfpixel.nn.backbones.backbone import STRIDES
from halfpixel.nn.box_head import BOX_WEIGHTS
from halfpixel.nn.matching import BACKGROUND, match
from halfpixel.ops import boxes
from halfpixel.ops.roi_align import FeatureTable, roi_align
from halfpixel.structures.targets import Targets

ROI_CHOICE = 1
"""The random choice of `Targets.generator` that is made here; the proposal network has 0."""


Sampler = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""See `halfpixel.nn.matching.BalancedSampler`."""


class Chosen(NamedTuple):
    """The regions of one image to train on, objects first."""

    rois_xyxy: Float[Tensor, "n 4"]
    classes: Int[Tensor, "n"]
    """0 for background, k + 1 for class k."""
    objects: Int[Tensor, "p"]
    """Which object each of the first regions shows."""
    deltas: Float[Tensor, "p 4"]
    """Box regression deltas from those regions to their objects."""


def choose(proposed: Float[Tensor, "n 4"], target: Targets, sample: Sampler) -> Chosen:
    """Some of the proposals and annotated boxes; they show an object from an IoU of .5 (Mask R-CNN, section 3.1)."""
    objects, labels = target.boxes_xyxy.to(proposed), target.labels.to(proposed.device)
    candidates = torch.cat([proposed, objects])
    found = match(candidates, objects, target.ignored_xyxy.to(proposed), 0.5, 0.5)
    positive, negative = sample(found, target.generator(ROI_CHOICE))
    shown = found[positive]
    assert not bool((shown == BACKGROUND).any())
    return Chosen(
        candidates[torch.cat([positive, negative])],
        torch.cat([labels[shown] + 1, torch.zeros_like(negative)]),
        shown,
        boxes.encode(objects[shown], candidates[positive], BOX_WEIGHTS),
    )


def crop_regions(
    features: FeatureTable,
    rois_xyxy: Float[Tensor, "n 4"],
    image_index: Int[Tensor, "n"],
    size: int,
    sampling: int,
    aligned: bool,
) -> Float[Tensor, "n c s s"]:
    """RoIAlign, each region from the level that suits its size (FPN, equation 1, with k0 = 4).

    Args:
        features: of the pyramid at strides 4, 8, 16, 32.
        rois_xyxy: in pixels of the input.
        image_index: which image each is on.
        size: cells along a side of the crops.
        sampling: see `roi_align`.
        aligned: see `roi_align`.

    Raises:
        ArgumentError: adaptive sampling (0), while a graph is exported.
    """
    if sampling == 0 and torch.compiler.is_exporting():
        raise ArgumentError("with region_sampling = 0 a network cannot be exported; with 2 it finds almost the same")
    level = torch.floor(4 + torch.log2(boxes.area(rois_xyxy).clamp(min=0).sqrt() / 224) + 1e-6)
    level = level.clamp(2, 1 + len(STRIDES)).long() - 2
    return roi_align(features, rois_xyxy, image_index, level, STRIDES, size, sampling, aligned)
