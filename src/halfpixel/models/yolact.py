"""YOLACT (Bolya et al. 2019, arXiv:1904.02689): masks are sums of a few prototypes, one set of weights an object.

Nothing is cropped from features, so all objects' masks cost a matrix product. Shapes for a batch of b images, a anchors
an image and n detections in all:

    images        [b, 3, H, W]            normalised, padded
      | backbone                          ResNet: C3..C5, strides 8, 16, 32
      | LongPyramid                       P3..P7, strides 8 to 128                    section 4
    pyramid       [b, 256, H/s, W/s]      for each stride s
      | CoefficientHead                   3 anchors a cell                            figure 4, section 3.1
    logits        [b, a, 1 + k]           softmax over the background and k classes
    deltas        [b, a, 4]               box regression
    coefficients  [b, a, 32]              tanh: an object may add or subtract a prototype
      | detections                        threshold, suppress by class, limit
    boxes         [n, 4]                  boxes, scores, labels, coefficients (the kernels)

    pyramid       [b, 256, H/8, W/8]      P3 alone
      | Protonet                          3 x 3 convolutions, upsampled twofold       figure 3, section 3.1
    prototypes    [b, 32, H/4, W/4]       relu                                        (the maps)

    boxes, coefficients, prototypes
      | decode                            sums inside the boxes, sigmoid, cut at .5   section 3.2
    Instances

Settings where the sources differ:

    what                  paper              original code   ours           why
    suppression           Fast NMS           Fast NMS        usual          Fast NMS lets suppressed boxes suppress
    candidates, objects   200, 100 an image  the same        by area, limit counts must not be capped
    anchors of a cell     1:1, 1:2, 2:1      3 squares       as the paper   `square_anchors` for the published weights
    mask crop             the box            + 1 cell        the box        `yolact_lite`: + 12.5%, as `mask_rcnn_lite`
    neighbours in a crop  as background      the same        as the paper   `yolact_lite`: weigh more, `leak_weight`
    mask targets          binary, stride 4   the same        soft, 28 x 28  small masks are not binarised when small
    hard negatives        3 for 1, an image  the same        3 for 1        over the batch, and some on each level
    input                 550 x 550          the same        any            sides keep their proportion
    P6 comes from         P5                 P5              P5             C5 in MMDetection, whose levels are not cut
                                                                            off below 0: `pyramid="mmdet"`

Weights: `halfpixel.zoo.convert.original_yolact` converts the published ones of R50 and R101 (MIT licence),
`halfpixel.zoo.convert.mmdet_yolact` MMDetection's. They run with the settings that those files choose.

Deviations from the paper: the table above; of several anchors that are an object's best, all answer for it;
normalisation layers never update their statistics; the semantic loss compares shares of cells, and leaves out padding
and crowd regions. `yolact_lite` has EfficientNet-Lite0, levels of strides 4 to 32, 16 prototypes at stride 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from msgspec import Meta
from torch import Tensor, nn

from halfpixel.nn.anchors import anchor_boxes
from halfpixel.nn.backbones.backbone import STRIDES, Backbone
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.backbones.resnet import ResNet
from halfpixel.nn.box_head import BOX_WEIGHTS
from halfpixel.nn.candidates import candidates_in
from halfpixel.nn.conv_blocks import start_small
from halfpixel.nn.decoding import before_mask_suppression, detections
from halfpixel.nn.fpn import FeaturePyramid
from halfpixel.nn.kernel_network import KernelNetwork
from halfpixel.nn.long_pyramid import LongPyramid
from halfpixel.nn.losses import mean_count, zero_of
from halfpixel.nn.matching import BACKGROUND, match
from halfpixel.nn.network import Outputs
from halfpixel.nn.prototypes import AnchorOutputs, CoefficientHead, Protonet
from halfpixel.nn.rpn import AnchorPlan
from halfpixel.ops import boxes
from halfpixel.ops.assemble import assemble_on
from halfpixel.ops.finite import is_finite
from halfpixel.structures.field_check import Count, Share, check_fields
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.structures.targets import Targets

NEGATIVES = 3
"""Background anchors trained on for each that shows an object: the hardest ones."""

FEWEST_NEGATIVES = 8
"""Of each image and level, the hardest ones again: background is learnt everywhere, and without objects too."""

PUBLISHED_HW = (576, 576)
"""The input of the published networks, padded."""

MASK_GRID = 28
"""Points along each side of a crop at which masks are trained."""

BOX_TERM, MASK_TERM = 1.5, 6.125
"""Section 4.1."""

MASK_CHOICE = 0
"""The random choice of `Targets.generator` that is made here."""

Weight = Annotated[float, Meta(ge=0, le=1000)]


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        considered: anchors an image, the best ones, that are compared with each other, on an input of up to 576 x 576
            pixels; on larger ones as many more as their area is larger.
        box_iou: detections of one class overlapping a better one's box by more than this are suppressed.
        mask_iou: after that, suppress by the overlap of the pasted masks; None to leave it out.
        mask_margin: masks are cut with each box widened by this share of its sides, on every side, so that a mask can
            reach beyond a box that is a little off; the box of an object is then its mask's. 0 is the paper's.
        leak_weight: how much more a point of a crop counts in the mask loss where it shows another object: 0 for the
            paper's loss.
        mask_samples: anchors an image that the mask loss is taken on.
        square_anchors: all anchors of a cell are squares, as wide as they should be.
        anchor_side: anchors are centred as on an input of so many pixels a side that strides do not divide, where
            cells have to share the remainder; None centres them on their cells.
        pyramid: of the ResNet variants; see the table above.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    considered: Count = 10_000
    box_iou: Share = 0.5
    mask_iou: Share | None = None
    mask_margin: Share = 0.0
    leak_weight: Weight = 0.0
    mask_samples: Count = 100
    square_anchors: bool = False
    anchor_side: Count | None = None
    pyramid: Literal["paper", "mmdet"] = "paper"

    def __post_init__(self) -> None:
        check_fields(self)


class YOLACT(KernelNetwork):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: gives the maps that the pyramid merges.
        pyramid: one map for each of the plan's levels.
        plan: the anchors.
        head: says what each anchor shows.
        protonet: makes the prototypes of the pyramid's finest map.
        settings: see there.
    """

    output_layers = ("head.logits", "head.deltas", "head.coefficients", "protonet.maps", "semantic")

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: Backbone,
        pyramid: FeaturePyramid | LongPyramid,
        plan: AnchorPlan,
        head: CoefficientHead,
        protonet: Protonet,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone, self.pyramid, self.plan = backbone, pyramid, plan
        self.head, self.protonet = head, protonet
        self.map_stride = plan.strides[0] // 2
        self.semantic = nn.Conv2d(pyramid.channels, len(class_names), 1)
        start_small(self.semantic)

    @property
    def anchor_sizes_px(self) -> tuple[float, ...]:
        """Sides of the anchors, in pixels of the input."""
        return self.plan.sizes

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`: the layer of the head, and the one that speaks in training alone."""
        self.head.set_classes(classes)
        self.semantic = nn.Conv2d(self.pyramid.channels, classes, 1)
        start_small(self.semantic)

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """See `Network.forward`; the kernels are the coefficients, the maps the prototypes."""
        limits = before_mask_suppression(limits, self.settings.mask_iou)
        considered = candidates_in(images, self.settings.considered, self.settings.considered, PUBLISHED_HW)
        pyramid = self._features(images)
        said, maps = self.head(pyramid), self.protonet(pyramid[0])
        anchors = self._anchors(pyramid, images)
        found = []
        for k, size_hw in enumerate(sizes_hw):
            scores = said.logits[k].softmax(1)[:, 1:]
            decoded = boxes.decode(said.deltas[k], anchors, BOX_WEIGHTS)
            finite = is_finite(*(one[k] for one in said), maps[k])
            found.append(detections(scores, decoded, size_hw, limits, self.settings.box_iou, finite, considered))
        return self.as_outputs(found, [said.coefficients[k, one.sources] for k, one in enumerate(found)], maps)

    def _features(self, images: Tensor) -> list[Tensor]:
        """The pyramid, of those of the backbone's maps that it merges: the coarsest ones."""
        pyramid: list[Tensor] = self.pyramid(self.backbone(images)[-self.levels_merged :])
        return pyramid

    @property
    def levels_merged(self) -> int:
        """How many of the backbone's maps the pyramid takes."""
        merged = self.pyramid.merged if isinstance(self.pyramid, LongPyramid) else self.pyramid
        return len(merged.lateral)

    def _anchors(self, pyramid: Sequence[Tensor], images: Tensor) -> Float[Tensor, "n 4"]:
        maps_hw = [(one.shape[2], one.shape[3]) for one in pyramid]
        plan, side = self.plan, self.settings.anchor_side
        steps = plan.strides if side is None else [side / -(-side // stride) for stride in plan.strides]
        image_hw = images.shape[2], images.shape[3]
        levels = anchor_boxes(maps_hw, image_hw, plan.sizes, plan.ratios, steps, "half_pixel", images.device)
        anchors = torch.cat(levels)
        if self.settings.square_anchors:
            half, middle = (anchors[:, 2] - anchors[:, 0]) / 2, (anchors[:, 1] + anchors[:, 3]) / 2
            anchors = torch.stack([anchors[:, 0], middle - half, anchors[:, 2], middle + half], 1)
        return anchors

    # Training

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The terms `class`, `box`, `mask` and `semantic`, each a scalar; train on their sum (section 3.2).

        An anchor answers for the object that it overlaps by half or more; one that is some object's best does in any
        case, for the object that it overlaps most.
        """
        pyramid = self._features(images.tensor)
        said, maps = self.head(pyramid), self.protonet(pyramid[0])
        anchors = self._anchors(pyramid, images.tensor)
        truths = [target.boxes_xyxy.to(anchors) for target in targets]
        matches = [
            match(anchors, truth, target.ignored_xyxy.to(anchors), 0.5, 0.4, low_quality=True)
            for truth, target in zip(truths, targets, strict=True)
        ]
        levels = [len(self.plan.ratios) * one.shape[2] * one.shape[3] for one in pyramid]
        return {
            "class": self._class_loss(said.logits, torch.stack(matches), levels, targets),
            "box": self._box_loss(said.deltas, anchors, matches, truths),
            "mask": self._mask_loss(said, maps, matches, targets),
            "semantic": self._semantic_loss(pyramid[0], targets),
        }

    def _class_loss(self, logits: Tensor, matches: Tensor, levels: Sequence[int], targets: Sequence[Targets]) -> Tensor:
        """Cross-entropy of the anchors that show something and of the hardest of the others."""
        labels = [nn.functional.pad(target.labels.to(matches) + 1, (0, 1)) for target in targets]
        truth = torch.stack([label[found.clamp(min=0)] for label, found in zip(labels, matches, strict=True)])
        negative, positive = hardest(logits.detach(), matches, levels, NEGATIVES, FEWEST_NEGATIVES), matches >= 0
        truth, chosen = truth.masked_fill(~positive, 0), positive | negative
        total = nn.functional.cross_entropy(logits[chosen], truth[chosen], reduction="sum")
        count = torch.maximum(positive.sum(), negative.sum() // NEGATIVES)
        return total / mean_count(int(count), logits.device)

    def _box_loss(self, deltas: Tensor, anchors: Tensor, matches: Sequence[Tensor], truths: Sequence[Tensor]) -> Tensor:
        said, wanted = [], []
        for k, (found, truth) in enumerate(zip(matches, truths, strict=True)):
            rows = torch.nonzero(found >= 0).ravel()
            said.append(deltas[k, rows])
            wanted.append(boxes.encode(truth[found[rows]], anchors[rows], BOX_WEIGHTS))
        total = nn.functional.smooth_l1_loss(torch.cat(said), torch.cat(wanted), reduction="sum")
        return BOX_TERM * total / mean_count(sum(len(one) for one in said), deltas.device)

    def _mask_loss(
        self, said: AnchorOutputs, maps: Tensor, matches: Sequence[Tensor], targets: Sequence[Targets]
    ) -> Tensor:
        """Cross-entropy in the widened boxes of the objects, whose areas all count the same."""
        kernels, image_index, regions, truths, others, seen = [], [], [], [], [], []
        for k, (found, target) in enumerate(zip(matches, targets, strict=True)):
            rows = torch.nonzero(found >= 0).ravel()
            order = torch.randperm(len(rows), generator=target.generator(MASK_CHOICE)).to(rows.device)
            rows = rows[order[: self.settings.mask_samples]]
            shown, which = found[rows].unique(return_inverse=True)  # several anchors answer for one object
            crops = boxes.expand(target.boxes_xyxy.to(maps)[shown], self.settings.mask_margin)
            kernels.append(said.coefficients[k, rows])
            image_index.append(torch.full_like(rows, k))
            regions.append(crops[which])
            truths.append(target.mask_grids(shown, crops, MASK_GRID)[which])
            others.append(target.other_grids(shown, crops, MASK_GRID)[which])
            seen.append(target.seen_on(crops, MASK_GRID)[which])
        given = torch.cat(kernels), torch.cat(image_index), torch.cat(regions)
        logits = assemble_on(MASK_GRID, maps, *given, self.map_stride, self.apply_kernels)
        parts = torch.cat(truths), torch.cat(others), torch.cat(seen)
        total = masked_entropy(logits, *parts, self.settings.leak_weight)
        return MASK_TERM * total / mean_count(len(logits), maps.device) + zero_of(maps, said.coefficients)

    def _semantic_loss(self, features: Tensor, targets: Sequence[Targets]) -> Tensor:
        """Cross-entropy of the classes that each cell of the finest level shows, said by a layer that is not kept."""
        logits = self.semantic(features).float()
        grid_hw, stride = (logits.shape[2], logits.shape[3]), self.plan.strides[0]
        shares, known = zip(*(class_shares(one, logits.shape[1], grid_hw, stride) for one in targets), strict=True)
        truth, counted = torch.stack(shares).to(logits), torch.stack(known).to(logits.device)
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(1)
        return (entropy * counted).sum() / mean_count(int(counted.sum()), logits.device)


def hardest(
    logits: Float[Tensor, "b n _"], matches: Int[Tensor, "b n"], levels: Sequence[int], negatives: int, fewest: int
) -> Bool[Tensor, "b n"]:
    """Which background anchors to learn from: those that look most like objects (Liu et al. 2016, arXiv:1512.02325).

    Args:
        logits: of the background, then of the classes.
        matches: of `halfpixel.nn.matching.match`; ignored anchors are not among the chosen.
        levels: how many anchors each level has.
        negatives: chosen over the batch for each anchor that shows an object.
        fewest: chosen on each level of each image in any case.
    """
    doubt = (logits.logsumexp(2) - logits[..., 0]).masked_fill(matches != BACKGROUND, -1)
    chosen = torch.zeros_like(matches, dtype=torch.bool)
    for part, marks in zip(doubt.split(list(levels), 1), chosen.split(list(levels), 1), strict=True):
        marks.scatter_(1, part.topk(min(fewest, part.shape[1])).indices, True)
    hard = doubt.flatten().topk(min(negatives * int((matches >= 0).sum()), doubt.numel())).indices
    chosen.view(-1)[hard] = True
    return chosen & (matches == BACKGROUND)


def masked_entropy(
    logits: Float[Tensor, "n g g"],
    truth: Float[Tensor, "n g g"],
    others: Float[Tensor, "n g g"],
    seen: Bool[Tensor, "n g g"],
    leak_weight: float,
) -> Float[Tensor, ""]:
    """The sum over objects of the mean cross-entropy in their crops.

    Args:
        logits: of each object's mask.
        truth: share of each point's surroundings that the object covers.
        others: share that other objects cover: there a point counts more in the mean, by `leak_weight` times what is
            not the object's own. It stays a mean: a larger sum would drown the other terms.
        seen: the points that count.
        leak_weight: 0 for a plain mean.
    """
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    weights = seen * (1 + leak_weight * others * (1 - truth))
    return ((entropy * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1)).sum()


def class_shares(
    target: Targets, classes: int, grid_hw: tuple[int, int], stride: int
) -> tuple[Float[Tensor, "classes i j"], Bool[Tensor, "i j"]]:
    """How much of each cell shows each class, and of which cells that is known: not of padding, nor of crowds."""
    (rows, columns), shown = grid_hw, target.label_map()
    y, x = torch.nonzero(shown, as_tuple=True)
    place = (target.labels[shown[y, x] - 1] * rows + y // stride) * columns + x // stride
    shares = torch.bincount(place, minlength=classes * rows * columns).reshape(classes, rows, columns) / stride**2
    y, x = (stride * (torch.arange(n) + 0.5) for n in grid_hw)
    known = (y[:, None] < target.size_hw[0]) & (x < target.size_hw[1])
    for x0, y0, x1, y1 in target.ignored_xyxy.tolist():
        known &= ~((y[:, None] >= y0) & (y[:, None] < y1) & (x >= x0) & (x < x1))
    return shares, known


# Variants


def _on_resnet(class_names: Sequence[str], settings: Settings | None, depths: tuple[int, int, int, int]) -> YOLACT:
    settings, backbone = settings or Settings(), ResNet(depths)
    mmdet, plan = settings.pyramid == "mmdet", AnchorPlan((24, 48, 96, 192, 384), (8, 16, 32, 64, 128))
    return YOLACT(
        class_names,
        backbone,
        LongPyramid(backbone.channels[1:], 256, activation=not mmdet, from_backbone=mmdet),
        plan,
        CoefficientHead(256, len(plan.ratios), 32, len(class_names)),
        Protonet(256, coarse=(256, 256, 256), fine=256, prototypes=32),
        settings,
    )


def yolact_r50(class_names: Sequence[str], settings: Settings | None = None) -> YOLACT:
    """YOLACT on ResNet-50."""
    return _on_resnet(class_names, settings, (3, 4, 6, 3))


def yolact_r101(class_names: Sequence[str], settings: Settings | None = None) -> YOLACT:
    """YOLACT on ResNet-101, the paper's `YOLACT-550`."""
    return _on_resnet(class_names, settings, (3, 4, 23, 3))


def yolact_lite(class_names: Sequence[str], settings: Settings | None = None) -> YOLACT:
    """YOLACT for CPUs and small objects, on EfficientNet-Lite0."""
    settings = settings or Settings(box_iou=0.7, mask_iou=0.4, mask_margin=0.125, leak_weight=1.0)
    backbone, plan = EfficientNetLite(even=True), AnchorPlan((24, 48, 96, 192), STRIDES)
    return YOLACT(
        class_names,
        backbone,
        FeaturePyramid(backbone.channels, 64, coarser=False),
        plan,
        CoefficientHead(64, len(plan.ratios), 16, len(class_names), depth=2, kernel=1),
        Protonet(64, coarse=(64, 64), fine=32, prototypes=16),
        settings,
    )


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], YOLACT]] = {
    "yolact_r50": yolact_r50,
    "yolact_r101": yolact_r101,
    "yolact_lite": yolact_lite,
}
