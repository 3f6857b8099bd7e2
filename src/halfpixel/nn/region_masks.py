"""Which pixels a region's object has: the mask branch of a two-stage detector, in training and after."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import STRIDES
from halfpixel.nn.losses import mean_count
from halfpixel.nn.point_head import CoarseMaskHead, PointHead, of_class
from halfpixel.nn.regions import Chosen, crop_regions
from halfpixel.ops import boxes
from halfpixel.ops.paste import Alignment
from halfpixel.ops.roi_align import FeatureTable, roi_align
from halfpixel.ops.rows import images_of, in_chunks
from halfpixel.structures.targets import Targets

MASKS_AT_ONCE = 128
"""The heads look at so many regions at a time: their memory does not grow with the number of objects."""


@dataclass(frozen=True)
class RegionMasks:
    """The heads that draw masks, and how they look at regions.

    Attributes:
        head: draws a mask of each class, `MaskHead` or `CoarseMaskHead`.
        points: refines them along their outlines; None leaves them as they are.
        alignment: where coordinates point.
        sampling: samples along each side of a cell of a crop.
        margin: boxes are widened by this share of their sides.
    """

    head: nn.Module
    points: PointHead | None
    alignment: Alignment
    sampling: int
    margin: float

    def logits(
        self, features: FeatureTable, regions_xyxy: Float[Tensor, "n 4"], image_index: Int[Tensor, "n"]
    ) -> Float[Tensor, "n k s s"]:
        """Of every class in each region, before points are refined."""
        if isinstance(self.head, CoarseMaskHead):  # a sample for each cell, always from the finest level
            finest = torch.zeros_like(image_index)
            crops = roi_align(features, regions_xyxy, image_index, finest, STRIDES, 14, sampling=1)
        else:
            aligned = self.alignment == "half_pixel"
            crops = crop_regions(features, regions_xyxy, image_index, 14, self.sampling, aligned)
        masks: Tensor = self.head(crops)
        return masks

    def draw(
        self,
        features: FeatureTable,
        boxes_xyxy: Float[Tensor, "n 4"],
        labels: Int[Tensor, "n"],
        image_index: Int[Tensor, "n"],
    ) -> Float[Tensor, "n side side"]:
        """Probabilities of each detection's own class in its widened box: class and mask are decoupled."""
        parts, widened = [], boxes.expand(boxes_xyxy, self.margin)
        for some, label, of in in_chunks(MASKS_AT_ONCE, widened, labels, image_index):
            logits = self.logits(features, some, of)
            if self.points is None:
                parts.append(of_class(logits, label).sigmoid())
            else:
                parts.append(self.points.refined(logits, label, some, of, features).sigmoid())
        return torch.cat(parts)

    def losses(
        self, features: FeatureTable, chosen: Sequence[Chosen], targets: Sequence[Targets]
    ) -> dict[str, Float[Tensor, ""]]:
        """`mask`, a binary cross-entropy over the cells of the true class's mask alone, and `point`, over points.

        Of regions that match an object; with none in the batch they are 0.
        """
        shown = [one.objects for one in chosen]
        regions = [boxes.expand(one.rois_xyxy[: len(one.objects)], self.margin) for one in chosen]
        label = torch.cat([one.classes[: len(one.objects)] - 1 for one in chosen])
        side = 7 if isinstance(self.head, CoarseMaskHead) else 28
        truths = [t.mask_grids(k, r, side, self.alignment) for t, k, r in zip(targets, shown, regions, strict=True)]
        logits = self.logits(features, torch.cat(regions), images_of(regions))
        count, masks = mean_count(len(label), label.device), of_class(logits, label)
        total = nn.functional.binary_cross_entropy_with_logits(masks, torch.cat(truths), reduction="sum")
        terms = {"mask": total / (count * masks[0].numel() if len(masks) else 1)}
        if self.points is not None:
            terms["point"] = self.points.loss_sum(logits, label, regions, shown, features, targets) / count
        return terms
