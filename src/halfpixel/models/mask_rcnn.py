"""Mask R-CNN (He et al. 2017, arXiv:1703.06870) on a feature pyramid (Lin et al. 2017, arXiv:1612.03144).

What a thing is and which pixels it has are decided apart. Shapes for a batch of b images and n detections in all:

    images        [b, 3, H, W]            normalised, padded
      | backbone                          ResNet: C2..C5, strides 4, 8, 16, 32
      | FeaturePyramid                    P2..P5 (and P6, stride 64)                  FPN, section 3
    pyramid       [b, 256, H/s, W/s]      for each stride s
      | RegionProposalNetwork             3 anchors a cell: score and box deltas      Faster R-CNN, section 3.1
      | propose                           best of each level, decode, suppress
    RoIs          [~ 3000, 4] an image    class-agnostic boxes, in pixels of the input
      | RoIAlign 7 x 7                    level by size: FPN, equation 1              Mask R-CNN, section 3, "RoIAlign"
      | BoxHead                           softmax over 1 + k classes, 4 deltas each
      | detect                            decode, threshold, suppress by class, limit
    detections    [n, 4]                  boxes, scores, labels
      | RoIAlign 14 x 14                  crops of the *detected* boxes
      | MaskHead                          one sigmoid mask for each class             figure 4 (right), section 3
    masks         [n, 28, 28]             the channel of the detection's class
      | decode                            pasted into the box's pixels, cut at .5     section 3.1, "Inference"
    Instances

Without the mask head it is Faster R-CNN (Ren et al. 2015, arXiv:1506.01497) on a pyramid: boxes alone.

Settings where the sources differ:

    what                         paper       torchvision   ours     why
    detections an image          100         100           1,000    counts must not be capped
    proposals kept               1,000       1,000         3,000    with one class, no more detections than proposals
    ... on a large input         1,000       1,000         by area  1,000 for each 800 x 1344 pixels at least
    proposals in training        2,000       2,000         2,000
    RoIs trained on, an image    512         512           512      a quarter objects, as in section 3.1
    anchors trained on           256         256           256      half objects
    anchors' centres             cell        cell corner   cell     half a cell more exact
    smooth L1 beta               1           1/9           1/9      as Detectron; it suits deltas in units of weights
    mask crop                    the box     the box       + 12.5%  `mask_rcnn_lite`: masks may correct their boxes
    suppression                  boxes       boxes         + masks  `mask_rcnn_lite`: neighbours that overlap in boxes

With a point head it is PointRend (Kirillov et al. 2020, arXiv:1912.08193): masks are enlarged to 224 x 224 cells in
steps of two, after each of which the 784 least certain cells are decided anew (`halfpixel.nn.point_head`).

Weights: `halfpixel.from_torchvision` converts those of torchvision's `maskrcnn_resnet50_fpn`,
`fasterrcnn_resnet50_fpn` and their `_v2`, key for key. They run with `Settings(alignment="torchvision")`. Detectron2's
of the paper's network and of PointRend convert, and MMDetection's of PointRend.

Deviations from the paper, as in every current implementation: approximate joint training in one pass, the pyramid's
coarsest level is a subsampled one. From torchvision, with `alignment="half_pixel"`: anchors are never rounded, RoIAlign
is the aligned one, masks are pasted exactly. Normalisation layers never update their statistics. From PointRend: the
masks of points in training are interpolated, not cut at .5; beyond the map its edge goes on, where theirs is 0;
`point_rend_lite` starts from the mask branch's 28 x 28 cells and ends at 112 x 112.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from jaxtyping import Float, Int
from msgspec import Meta
from torch import Tensor

from halfpixel.nn.backbones.backbone import STRIDES, Backbone
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.backbones.resnet import ResNet
from halfpixel.nn.box_head import BoxHead, detect
from halfpixel.nn.candidates import candidates_in
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, Norm
from halfpixel.nn.decoding import RowRules, as_rows, before_mask_suppression, of_image
from halfpixel.nn.fpn import FeaturePyramid
from halfpixel.nn.mask_head import MaskHead
from halfpixel.nn.matching import BalancedSampler
from halfpixel.nn.network import Axis, Network, Outputs
from halfpixel.nn.point_head import CoarseMaskHead, PointHead
from halfpixel.nn.region_masks import RegionMasks
from halfpixel.nn.regions import choose, crop_regions
from halfpixel.nn.rpn import AnchorPlan, RegionProposalNetwork
from halfpixel.ops.paste import Alignment
from halfpixel.ops.roi_align import FeatureTable
from halfpixel.ops.rows import images_of, in_chunks
from halfpixel.structures.field_check import Count, Share, check_fields
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets

PUBLISHED = 1000, (800, 1344)
"""Proposals of the published networks, and the largest input that they have them on, padded."""

ROIS_AT_ONCE = 1024
"""The box head looks at so many RoIs at a time: its memory does not grow with the number of objects."""


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        alignment: where coordinates point, in anchors, RoIAlign, mask targets and pasting.
        proposals_per_level: best anchors of each pyramid level that are considered; at least 1,000 for each 800 x 1344
            pixels of the input.
        proposals: kept after suppression, likewise.
        training_proposals_per_level: the same two in training.
        training_proposals: see above.
        proposal_iou: proposals overlapping a better one by more than this are suppressed.
        proposal_score: proposals scoring less are not considered.
        box_iou: detections of one class overlapping a better one's box by more than this are suppressed.
        mask_iou: after that, suppress by the overlap of the pasted masks; None to leave it out.
        mask_margin: the mask head looks at each box widened by this share of its sides, on every side, so that a mask
            can reach beyond a box that is a little off; the box of an object is then its mask's. 0 is the paper's.
        anchor_samples: anchors an image that the proposal loss is taken on.
        region_samples: RoIs an image that the head losses are taken on, a quarter of them objects at most.
        region_sampling: samples along each side of a cell of a RoI's crop; 0 takes as many as it covers cells of the
            map, as Detectron2 and MMDetection do; such a network cannot be exported.
        anchor_centre: where in its cell an anchor is: .5 the middle, 0 the first corner, as in the same two.
        early_stride: ResNet's blocks take their stride in the first convolution, as weights of Detectron ("caffe") do.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    FORMER: ClassVar = ("detections",)

    alignment: Alignment = "half_pixel"
    proposals_per_level: Count = 3000
    proposals: Count = 3000
    training_proposals_per_level: Count = 2000
    training_proposals: Count = 2000
    proposal_iou: Share = 0.7
    proposal_score: Share = 0.0
    box_iou: Share = 0.5
    mask_iou: Share | None = None
    mask_margin: Share = 0.0
    anchor_samples: Count = 256
    region_samples: Count = 512
    region_sampling: Annotated[int, Meta(ge=0, le=16)] = 2
    anchor_centre: Share = 0.5
    early_stride: bool = False

    def __post_init__(self) -> None:
        check_fields(self)


class MaskRCNN(Network):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: gives feature maps at strides 4, 8, 16, 32.
        pyramid: merges them.
        rpn: proposes where something is.
        box_head: says what it is, and where exactly.
        mask_head: says which pixels it has; None for Faster R-CNN.
        settings: see there.
        point_head: refines the masks along their outlines; None leaves them as they are.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: Backbone,
        pyramid: FeaturePyramid,
        rpn: RegionProposalNetwork,
        box_head: BoxHead,
        mask_head: MaskHead | CoarseMaskHead | None,
        settings: Settings,
        point_head: PointHead | None = None,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone, self.pyramid, self.rpn = backbone, pyramid, rpn
        self.box_head, self.mask_head, self.point_head = box_head, mask_head, point_head
        self.sample_rois = BalancedSampler(settings.region_samples, 0.25)
        rows = ("boxes_xyxy", "scores", "labels", "image_index", *(("masks",) if mask_head else ()))
        self.layout: Mapping[str, Axis] = {
            **dict.fromkeys(rows, "row"),
            **dict.fromkeys(("candidates", "saturated"), "image"),
        }
        self.output_layers = ("rpn.objectness", "rpn.deltas", "box_head.logits", "box_head.deltas")
        self.output_layers += ("mask_head.logits",) if mask_head else ()
        self.output_layers += tuple(f"point_head.{name}" for name in point_head.output_layers) if point_head else ()

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects. Exports: the numbers of RoIs and detections stay symbols, so `.shape[0]` and never `len`.

        Args:
            images: normalised, padded to multiples of 32.
            sizes_hw: true sizes inside the padding, in pixels.
            limits: score threshold and detection limit.

        Returns:
            Rows, one per detection over the whole batch, by image and then by descending score: `boxes_xyxy` (input
            pixels), `scores`, `labels`, `image_index`, `masks` `[n, 28, 28]` (probabilities in the box and its
            `mask_margin`). For each image `candidates` `[b, 2]` (before the limits; -1 for NaN) and `saturated`
            `[b]`.
        """
        limits = before_mask_suppression(limits, self.settings.mask_iou)
        pyramid = self.pyramid(self.backbone(images))
        rois, proposed = self.rpn.propose(self.rpn(pyramid, images), sizes_hw, *self.proposal_limits(images))
        features = FeatureTable.of(pyramid[: len(STRIDES)])
        logits, deltas = self._classify(features, torch.cat(rois), images_of(rois))
        split = [roi.shape[0] for roi in rois]
        of_images = zip(rois, logits.split(split), deltas.split(split), sizes_hw, strict=True)
        found = [detect(*of_image, limits, self.settings.box_iou) for of_image in of_images]
        outputs = as_rows(found)
        if self.region_masks is not None:
            rows = outputs["boxes_xyxy"], outputs["labels"], outputs["image_index"]
            outputs["masks"] = self.region_masks.draw(features, *rows)
        outputs["candidates"] = torch.stack([proposed, torch.stack([one.candidates for one in found])], 1)
        outputs["saturated"] = torch.stack([one.saturated for one in found])
        return outputs

    def proposal_limits(self, images: Float[Tensor, "b 3 h w"]) -> tuple[int, int]:
        """Anchors considered on each level, and proposals kept."""
        per_level, most = self.settings.proposals_per_level, self.settings.proposals
        return candidates_in(images, per_level, *PUBLISHED), candidates_in(images, most, *PUBLISHED)

    @property
    def anchor_sizes_px(self) -> tuple[float, ...]:
        """Sides of the proposal network's anchors, in pixels of the input."""
        return self.rpn.plan.sizes

    @property
    def region_masks(self) -> RegionMasks | None:
        """What draws masks, None for boxes alone."""
        if self.mask_head is None:
            return None
        told = self.settings
        return RegionMasks(self.mask_head, self.point_head, told.alignment, told.region_sampling, told.mask_margin)

    def _classify(self, features: FeatureTable, rois: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and box regression deltas of each RoI."""
        chunks = in_chunks(ROIS_AT_ONCE, rois, image_index)
        logits, deltas = zip(*(self.box_head(self._crop(features, some, of, 7)) for some, of in chunks), strict=True)
        return torch.cat(logits), torch.cat(deltas)

    def _crop(self, features: FeatureTable, rois: Tensor, image_index: Tensor, output_size: int) -> Tensor:
        aligned = self.settings.alignment == "half_pixel"
        return crop_regions(features, rois, image_index, output_size, self.settings.region_sampling, aligned)

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The terms `rpn_objectness`, `rpn_box`, `class`, `box`, `mask` (and `point`), each a scalar; train on the sum.

        Section 3: L = L_cls + L_box + L_mask. The mask term is a binary cross-entropy over the pixels of the true
        class's mask only, in RoIs that match an object; with none in the batch it is 0. PointRend's is the same over
        points.
        """
        pyramid = self.pyramid(self.backbone(images.tensor))
        scored = self.rpn(pyramid, images.tensor)  # for the proposals, which have no gradient
        anchors = self.rpn.choose(scored.anchors_xyxy, targets)
        settings, features = self.settings, FeatureTable.of(pyramid[: len(STRIDES)])
        limits = settings.training_proposals_per_level, settings.training_proposals
        proposals, _ = self.rpn.propose(scored, images.sizes_hw, *limits)
        chosen = [choose(*one, self.sample_rois) for one in zip(proposals, targets, strict=True)]
        rois = [one.rois_xyxy for one in chosen]
        logits, deltas = self.box_head(self._crop(features, torch.cat(rois), images_of(rois), 7))
        wanted = torch.cat([one.classes for one in chosen]), torch.cat([one.deltas for one in chosen])
        terms = self.rpn.losses(*self.rpn.say_again(pyramid, anchors), anchors)
        terms |= self.box_head.losses(logits, deltas, *wanted)
        return terms if self.region_masks is None else terms | self.region_masks.losses(features, chosen, targets)

    def decode(self, outputs: Outputs, sizes: Sequence[Resized], limits: Limits) -> list[Instances]:
        """Objects of each image, in pixels of the original image. Uses no weights.

        Args:
            outputs: of `forward`.
            sizes: of each image, before and after resizing.
            limits: those that `forward` was given.
        """
        outputs = {name: tensor.detach().cpu() for name, tensor in outputs.items()}
        settings = self.settings
        how = settings.alignment, settings.mask_margin, settings.mask_iou
        rules = RowRules(self.class_names, ("proposals", "detections"), *how)
        found = []
        for k, size in enumerate(sizes):
            maps = outputs["masks"][of_image(outputs, k)].float().unbind() if "masks" in outputs else None
            found.append(rules.objects(outputs, k, size, limits.most, maps))
        return found

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`: the last layers of the heads."""
        for head in (self.box_head, self.mask_head, self.point_head):
            if head is not None:
                head.set_classes(classes)


# Variants


def _rpn(channels: int, plan: AnchorPlan, settings: Settings, depth: int = 1) -> RegionProposalNetwork:
    return RegionProposalNetwork(
        channels,
        plan,
        depth=depth,
        alignment=settings.alignment,
        iou_threshold=settings.proposal_iou,
        score_threshold=settings.proposal_score,
        samples=settings.anchor_samples,
        centre=settings.anchor_centre,
    )


def _on_resnet50(
    class_names: Sequence[str], settings: Settings | None, masks: bool, newer: bool = False, points: bool = False
) -> MaskRCNN:
    """The paper's network. `newer`: normalised heads, a deeper proposal head (Li et al. 2021, arXiv:2111.11429)."""
    settings, classes = settings or Settings(), len(class_names)
    norm: Norm | None = FrozenBatchNorm2d if newer else None
    backbone = ResNet(early_stride=settings.early_stride)
    pyramid = FeaturePyramid(backbone.channels, 256, norm)
    rpn = _rpn(256, AnchorPlan((32, 64, 128, 256, 512), (*STRIDES, 64)), settings, depth=2 if newer else 1)
    box_head = BoxHead(
        256, classes, fcs=(1024,) if newer else (1024, 1024), convs=(256,) * 4 if newer else (), norm=norm
    )
    if points:
        drawn = CoarseMaskHead(256, classes), settings, PointHead(256, classes)
        return MaskRCNN(class_names, backbone, pyramid, rpn, box_head, *drawn)
    mask_head = MaskHead(256, classes, convs=(256,) * 4, upsampled=256, norm=norm) if masks else None
    return MaskRCNN(class_names, backbone, pyramid, rpn, box_head, mask_head, settings)


def mask_rcnn_r50_fpn(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """Mask R-CNN, as torchvision's `maskrcnn_resnet50_fpn`."""
    return _on_resnet50(class_names, settings, masks=True)


def mask_rcnn_r50_fpn_v2(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """Mask R-CNN, as torchvision's `maskrcnn_resnet50_fpn_v2`."""
    return _on_resnet50(class_names, settings, masks=True, newer=True)


def faster_rcnn_r50_fpn(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """Faster R-CNN, as torchvision's `fasterrcnn_resnet50_fpn`.

    Ren et al. 2015, arXiv:1506.01497.
    """
    return _on_resnet50(class_names, settings, masks=False)


def faster_rcnn_r50_fpn_v2(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """Faster R-CNN, as torchvision's `fasterrcnn_resnet50_fpn_v2`.

    Ren et al. 2015, arXiv:1506.01497.
    """
    return _on_resnet50(class_names, settings, masks=False, newer=True)


def point_rend_r50_fpn(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """Mask R-CNN with PointRend, as Detectron2 and MMDetection.

    Kirillov et al. 2020, arXiv:1912.08193.
    """
    return _on_resnet50(class_names, settings, masks=True, points=True)


def _light(class_names: Sequence[str], settings: Settings | None, points: bool = False) -> MaskRCNN:
    settings = settings or Settings(
        training_proposals_per_level=1000,
        training_proposals=1000,
        region_samples=256,
        box_iou=0.7,
        mask_iou=0.4,
        mask_margin=0.125,
    )
    backbone = EfficientNetLite()
    return MaskRCNN(
        class_names,
        backbone,
        FeaturePyramid(backbone.channels, 80, coarser=False),
        _rpn(80, AnchorPlan((24, 48, 96, 192), STRIDES), settings),
        BoxHead(80, len(class_names), fcs=(256, 256)),
        MaskHead(80, len(class_names), convs=(64, 64, 64), upsampled=64),
        settings,
        PointHead(80, len(class_names), width=64, side=112) if points else None,
    )


def mask_rcnn_lite(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """Mask R-CNN for CPUs and small objects, on EfficientNet-Lite0."""
    return _light(class_names, settings)


def point_rend_lite(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """`mask_rcnn_lite` with PointRend: finer masks of large objects.

    They are refined from 28 x 28 to 112 x 112 cells (Kirillov et al. 2020, arXiv:1912.08193).
    """
    return _light(class_names, settings, points=True)


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], MaskRCNN]] = {
    "mask_rcnn_r50_fpn": mask_rcnn_r50_fpn,
    "mask_rcnn_r50_fpn_v2": mask_rcnn_r50_fpn_v2,
    "mask_rcnn_lite": mask_rcnn_lite,
    "faster_rcnn_r50_fpn": faster_rcnn_r50_fpn,
    "faster_rcnn_r50_fpn_v2": faster_rcnn_r50_fpn_v2,
    "point_rend_r50_fpn": point_rend_r50_fpn,
    "point_rend_lite": point_rend_lite,
}
