"""Mask R-CNN (He et al. 2017, arXiv:1703.06870) on a feature pyramid (Lin et al. 2017, arXiv:1612.03144).

An image becomes feature maps (backbone, pyramid). On them a small network proposes regions, RoIAlign crops each
region, the box head names and refines it, and the mask head draws one 28 x 28 mask *per class* in it, of which the
box head's class is used: what a thing is and which pixels it has are decided apart.

Weights: `halfpixel.from_torchvision` converts those of torchvision's `maskrcnn_resnet50_fpn` and
`maskrcnn_resnet50_fpn_v2`, key for key. They run with `Settings(alignment="torchvision")`.

Deviations from the paper, as in every current implementation: approximate joint training in one pass, smooth L1 with
beta 1/9, the pyramid's coarsest level is a subsampled one. From torchvision, with `alignment="half_pixel"`: anchors are
centred on their cells and never rounded, RoIAlign is the aligned one, masks are pasted exactly. Normalisation layers
never update their statistics. `mask_rcnn_lite` can suppress duplicates by the overlap of masks instead of boxes.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones import STRIDES, EfficientNetLite, ResNet
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, Norm, conv_stack
from halfpixel.nn.fpn import FeaturePyramid
from halfpixel.nn.losses import mean_count, smooth_l1_sum
from halfpixel.nn.matching import BACKGROUND, BalancedSampler, match
from halfpixel.nn.network import Network, Outputs
from halfpixel.nn.rpn import AnchorPlan, RegionProposalNetwork
from halfpixel.ops import boxes
from halfpixel.ops.mask_nms import suppress_masks
from halfpixel.ops.paste import Alignment
from halfpixel.ops.roi_align import FeatureTable, roi_align
from halfpixel.ops.rows import images_of, in_chunks
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Candidates, Instances
from halfpixel.structures.masks import CropMasks, SoftMasks
from halfpixel.structures.targets import Targets

DETECTION_BOX_WEIGHTS = (10.0, 5.0)
SMALLEST_DETECTION_PX = 1e-2
REGIONS_AT_ONCE, MASKS_AT_ONCE = 1024, 128
"""The heads look at so many regions at a time: their memory does not grow with the number of objects."""
REGION_CHOICE = 1
"""The random choice of `Targets.generator` that is made here; the proposal network has 0."""


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        alignment: where coordinates point, in anchors, RoIAlign, mask targets and pasting.
        detections: the detection limit that the next two suit. Each detection more adds three to both: with one class
            there cannot be more detections than regions.
        proposals_per_level: best anchors of each pyramid level that are considered.
        proposals: regions kept after suppression.
        training_proposals_per_level: the same two in training.
        training_proposals: see above.
        proposal_iou: regions overlapping a better one by more than this are suppressed.
        proposal_score: regions scoring less are not considered.
        box_iou: detections of one class overlapping a better one's box by more than this are suppressed.
        mask_iou: after that, suppress by the overlap of the pasted masks; None to leave it out.
        mask_margin: the mask head looks at each box widened by this share of its sides, on every side, so that a mask
            can reach beyond a box that is a little off; the box of an object is then its mask's. 0 is the paper's.
        anchor_samples: anchors an image that the proposal loss is taken on.
        region_samples: regions an image that the head losses are taken on, a quarter of them objects at most.
    """

    alignment: Alignment = "half_pixel"
    detections: int = 1000
    proposals_per_level: int = 3000
    proposals: int = 3000
    training_proposals_per_level: int = 2000
    training_proposals: int = 2000
    proposal_iou: float = 0.7
    proposal_score: float = 0.0
    box_iou: float = 0.5
    mask_iou: float | None = None
    mask_margin: float = 0.0
    anchor_samples: int = 256
    region_samples: int = 512


class BoxHead(nn.Module):
    """Class and refined box of every region, from its 7 x 7 crop."""

    def __init__(
        self, channels: int, classes: int, fcs: tuple[int, ...], convs: tuple[int, ...] = (), norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.convs = conv_stack(channels, convs, norm)
        inputs = (convs[-1] if convs else channels) * 7 * 7
        self.features = fcs[-1]
        self.fcs = nn.ModuleList(nn.Linear(a, b) for a, b in zip((inputs, *fcs), fcs, strict=False))
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the two layers that depend on the classes by new ones."""
        self.logits = nn.Linear(self.features, 1 + classes)
        self.deltas = nn.Linear(self.features, 4 * (1 + classes))

    def forward(self, crops: Float[Tensor, "n c 7 7"]) -> tuple[Tensor, Tensor]:
        """Logits `[n, 1 + classes]` (background first) and refinements `[n, 1 + classes, 4]`, in float32."""
        hidden = self.convs(crops).flatten(1)
        for fc in self.fcs:
            hidden = fc(hidden).relu_()
        return self.logits(hidden).float(), self.deltas(hidden).float().unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    """One mask per class in every region, from its 14 x 14 crop: a small fully convolutional network."""

    def __init__(
        self, channels: int, classes: int, convs: tuple[int, ...], upsampled: int, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.convs = conv_stack(channels, convs, norm)
        self.upsample = nn.ConvTranspose2d(convs[-1], upsampled, 2, 2)
        nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the layer that depends on the classes by a new one."""
        self.logits = nn.Conv2d(self.upsample.out_channels, classes, 1)
        nn.init.normal_(self.logits.weight, std=0.001)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def forward(self, crops: Float[Tensor, "n c 14 14"]) -> Float[Tensor, "n k 28 28"]:
        """Logits of every class, in float32."""
        masks: Tensor = self.logits(self.upsample(self.convs(crops)).relu_())
        return masks.float()


class MaskRCNN(Network):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: gives feature maps at strides 4, 8, 16, 32.
        pyramid: merges them.
        rpn: proposes regions.
        box_head: names and refines regions.
        mask_head: draws masks in them.
        settings: see there.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: nn.Module,
        pyramid: FeaturePyramid,
        rpn: RegionProposalNetwork,
        box_head: BoxHead,
        mask_head: MaskHead,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone, self.pyramid, self.rpn = backbone, pyramid, rpn
        self.box_head, self.mask_head = box_head, mask_head
        self.sample_regions = BalancedSampler(settings.region_samples, 0.25)

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects. Exports: the numbers of regions and detections stay symbols, so `.shape[0]` and never `len`.

        Args:
            images: normalised, padded to multiples of 32.
            sizes_hw: true sizes inside the padding, in pixels.
            limits: score threshold and detection limit.

        Returns:
            Rows, one per detection over the whole batch, by image and then by descending score: `boxes_xyxy` (input
            pixels), `scores`, `labels`, `image_index`, `masks` `[n, 28, 28]` (probabilities in the box and its
            `mask_margin`). For each image `candidates` `[b, 2]` (before the limits) and `saturated` `[b]`.
        """
        pyramid = self.pyramid(self.backbone(images))
        scored = self.rpn(pyramid, images)
        regions, counts = self.rpn.propose(scored, sizes_hw, *self.proposal_limits(limits))
        features = FeatureTable.of(pyramid[: len(STRIDES)])
        logits, deltas = self._named(features, torch.cat(regions), images_of(regions))
        found, split = [], [region.shape[0] for region in regions]
        for k, (scores, refinements) in enumerate(zip(logits.split(split), deltas.split(split), strict=True)):
            found.append(self._detect(regions[k], scores, refinements, sizes_hw[k], limits))
        outputs = {name: torch.cat([one[name] for one in found]) for name in ("boxes_xyxy", "scores", "labels")}
        outputs["image_index"] = images_of([one["scores"] for one in found])
        outputs["masks"] = self._masks(features, outputs["boxes_xyxy"], outputs["labels"], outputs["image_index"])
        detections = torch.stack([one["candidates"] for one in found])
        outputs["candidates"] = torch.stack([counts, detections], 1)
        outputs["saturated"] = detections > limits.detections.to(detections.device)
        return outputs

    def proposal_limits(self, limits: Limits) -> tuple[int, int]:
        """Anchors considered on each level, and regions kept, for a detection limit."""
        extra = 3 * torch.sym_max(limits.most - self.settings.detections, 0)
        return self.settings.proposals_per_level + extra, self.settings.proposals + extra

    def asks_for(self, limit: int) -> int:
        """Suppression by masks comes after the network's own limit, and must not leave fewer than were wanted."""
        return limit if self.settings.mask_iou is None else 2 * limit

    @property
    def anchor_sizes_px(self) -> tuple[float, ...]:
        """Sides of the proposal network's anchors, in pixels of the input."""
        return self.rpn.plan.sizes

    def _named(self, features: FeatureTable, regions: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and refinements of each region."""
        chunks = in_chunks(REGIONS_AT_ONCE, regions, image_index)
        logits, deltas = zip(*(self.box_head(self._crop(features, some, of, 7)) for some, of in chunks), strict=True)
        return torch.cat(logits), torch.cat(deltas)

    def _masks(self, features: FeatureTable, boxes_xyxy: Tensor, labels: Tensor, image_index: Tensor) -> Tensor:
        """Probabilities of each detection's own class, `[n, 28, 28]`."""
        parts, regions = [], boxes.expand(boxes_xyxy, self.settings.mask_margin)
        for some, label, of in in_chunks(MASKS_AT_ONCE, regions, labels, image_index):
            logits: Tensor = self.mask_head(self._crop(features, some, of, 14))
            parts.append(logits[torch.arange(label.shape[0], device=label.device), label].sigmoid())
        return torch.cat(parts)

    def _crop(self, features: FeatureTable, regions: Tensor, image_index: Tensor, output_size: int) -> Tensor:
        """RoIAlign, each region from the level that suits its size (Lin et al. 2017, equation 1)."""
        level = torch.floor(4 + torch.log2(boxes.area(regions).clamp(min=0).sqrt() / 224) + 1e-6)
        level = level.clamp(2, 1 + len(STRIDES)).long() - 2
        aligned = self.settings.alignment == "half_pixel"
        return roi_align(features, regions, image_index, level, STRIDES, output_size, sampling=2, aligned=aligned)

    def _detect(
        self, regions: Tensor, logits: Tensor, deltas: Tensor, size_hw: Tensor, limits: Limits
    ) -> dict[str, Tensor]:
        """Detections of one image: every region may become one of each class."""
        scores = logits.softmax(dim=1)[:, 1:]
        refined = boxes.decode(deltas, regions[:, None], DETECTION_BOX_WEIGHTS)[:, 1:]
        refined = boxes.clip(refined, size_hw.to(regions.device))
        rows, labels = torch.nonzero(scores > limits.score_threshold.to(scores.device), as_tuple=True)
        candidates, scores = refined[rows, labels], scores[rows, labels]
        usable = boxes.large_enough(candidates, SMALLEST_DETECTION_PX)
        candidates, scores, labels = candidates[usable], scores[usable], labels[usable]
        kept = boxes.suppress(candidates, scores, labels, self.settings.box_iou)
        best = kept[: limits.most]
        count = torch.tensor(kept.shape[0], device=regions.device)
        return {"boxes_xyxy": candidates[best], "scores": scores[best], "labels": labels[best], "candidates": count}

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The five terms: `rpn_objectness`, `rpn_box`, `class`, `box`, `mask`, each a scalar; train on their sum.

        The mask term is a binary cross-entropy over the pixels of the true class's mask only, in regions that match
        an object; with none in the batch it is 0.
        """
        pyramid = self.pyramid(self.backbone(images.tensor))
        scored = self.rpn(pyramid, images.tensor)
        settings, features = self.settings, FeatureTable.of(pyramid[: len(STRIDES)])
        limits = settings.training_proposals_per_level, settings.training_proposals
        regions, _ = self.rpn.propose(scored, images.sizes_hw, *limits)
        return self.rpn.losses(scored, targets) | self._head_losses(features, regions, targets)

    def _head_losses(
        self, features: FeatureTable, proposals: list[Tensor], targets: Sequence[Targets]
    ) -> dict[str, Tensor]:
        regions, matches, classes, wanted = [], [], [], []
        for region, target in zip(proposals, targets, strict=True):
            objects = target.boxes_xyxy.to(region)
            region = torch.cat([region, objects])
            found = match(region, objects, target.ignored_xyxy.to(region), 0.5, 0.5)
            positive, negative = self.sample_regions(found, target.generator(REGION_CHOICE))
            chosen = torch.cat([positive, negative])
            regions.append(region[chosen])
            matches.append(found[chosen])
            labels = target.labels.to(region.device)
            classes.append(torch.cat([labels[found[positive]] + 1, torch.zeros_like(negative)]))
            wanted.append(boxes.encode(objects[found[positive]], region[positive], DETECTION_BOX_WEIGHTS))
        truth = torch.cat(classes)
        logits, deltas = self.box_head(self._crop(features, torch.cat(regions), images_of(regions), 7))
        positive = torch.nonzero(truth > 0).ravel()
        chosen_deltas = deltas[positive, truth[positive]]
        count = mean_count(len(truth), truth.device)
        return {
            "class": nn.functional.cross_entropy(logits, truth, reduction="sum") / count,
            "box": smooth_l1_sum(chosen_deltas, torch.cat(wanted)) / count,
            "mask": self._mask_loss(features, regions, matches, targets),
        }

    def _mask_loss(
        self, features: FeatureTable, regions: list[Tensor], matches: list[Tensor], targets: Sequence[Targets]
    ) -> Tensor:
        margin = self.settings.mask_margin
        positives = [boxes.expand(r[found != BACKGROUND], margin) for r, found in zip(regions, matches, strict=True)]
        labels, truths = [], []
        for region, found, target in zip(positives, matches, targets, strict=True):
            found = found[found != BACKGROUND]
            labels.append(target.labels.to(found)[found])
            truths.append(target.mask_grids(found, region, 28, self.settings.alignment))
        label = torch.cat(labels)
        crops = self._crop(features, torch.cat(positives), images_of(positives), 14)
        logits: Tensor = self.mask_head(crops)
        count = mean_count(len(label), label.device)
        chosen = logits[torch.arange(len(label), device=label.device), label]
        total = nn.functional.binary_cross_entropy_with_logits(chosen, torch.cat(truths), reduction="sum")
        return total / (count * chosen[0].numel() if len(chosen) else 1)

    def decode(self, outputs: Outputs, sizes: Sequence[Resized]) -> list[Instances]:
        """Objects of each image, in pixels of the original image. Uses no weights.

        Args:
            outputs: of `forward`.
            sizes: of each image, before and after resizing.
        """
        outputs = {name: tensor.detach().cpu() for name, tensor in outputs.items()}
        found = []
        for k, size in enumerate(sizes):
            rows = torch.nonzero(outputs["image_index"] == k).ravel()
            factor_y, factor_x = (a / b for a, b in zip(size.original_hw, size.network_hw, strict=True))
            factors = torch.tensor([factor_x, factor_y, factor_x, factor_y])
            boxes_xyxy = outputs["boxes_xyxy"][rows].float() * factors
            regions = boxes.expand(boxes_xyxy, self.settings.mask_margin)
            soft = SoftMasks(outputs["masks"][rows].float(), regions, self.settings.alignment)
            masks = CropMasks.from_soft(soft, size.original_hw)
            if self.settings.mask_margin:  # masks that may correct their boxes do
                boxes_xyxy = torch.where((masks.areas_px() > 0)[:, None], masks.boxes_xyxy(), boxes_xyxy)
            proposals, detections = outputs["candidates"][k].tolist()
            objects = Instances(
                size_hw=size.original_hw,
                boxes_xyxy=boxes_xyxy,
                scores=outputs["scores"][rows].float(),
                labels=outputs["labels"][rows],
                class_names=self.class_names,
                masks=masks,
                saturated=bool(outputs["saturated"][k]),
                candidates=Candidates(proposals, detections),
            )
            if (mask_iou := self.settings.mask_iou) is not None:
                kept = suppress_masks(masks.crops, masks.offsets_xy, objects.scores, objects.labels, mask_iou)
                objects = objects[kept]
            found.append(objects)
        return found

    def with_classes(self, class_names: Sequence[str]) -> "MaskRCNN":
        """A copy for other classes: the last layers of the box and mask heads are new, all else is kept."""
        swapped = copy.deepcopy(self)
        swapped.class_names = tuple(class_names)
        swapped.box_head.set_classes(len(class_names))
        swapped.mask_head.set_classes(len(class_names))
        return swapped.to(self.box_head.logits.weight.device)


def _rpn(channels: int, plan: AnchorPlan, settings: Settings, depth: int = 1) -> RegionProposalNetwork:
    return RegionProposalNetwork(
        channels,
        plan,
        depth=depth,
        alignment=settings.alignment,
        iou_threshold=settings.proposal_iou,
        score_threshold=settings.proposal_score,
        samples=settings.anchor_samples,
    )


def _on_resnet50(
    class_names: Sequence[str],
    settings: Settings | None,
    fcs: tuple[int, ...],
    convs: tuple[int, ...],
    rpn_depth: int,
    norm: Norm | None,
) -> MaskRCNN:
    settings = settings or Settings()
    backbone = ResNet()
    return MaskRCNN(
        class_names,
        backbone,
        FeaturePyramid(backbone.channels, 256, norm),
        _rpn(256, AnchorPlan((32, 64, 128, 256, 512), (4, 8, 16, 32, 64)), settings, rpn_depth),
        BoxHead(256, len(class_names), fcs, convs, norm),
        MaskHead(256, len(class_names), convs=(256,) * 4, upsampled=256, norm=norm),
        settings,
    )


def mask_rcnn_r50_fpn(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """The paper's network on ResNet-50, as torchvision's `maskrcnn_resnet50_fpn`."""
    return _on_resnet50(class_names, settings, fcs=(1024, 1024), convs=(), rpn_depth=1, norm=None)


def mask_rcnn_r50_fpn_v2(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """Normalised heads and a deeper proposal head (Li et al. 2021, arXiv:2111.11429), as torchvision's `..._v2`."""
    return _on_resnet50(class_names, settings, fcs=(1024,), convs=(256,) * 4, rpn_depth=2, norm=FrozenBatchNorm2d)


def mask_rcnn_lite(class_names: Sequence[str], settings: Settings | None = None) -> MaskRCNN:
    """A small network for CPUs and small objects: EfficientNet-Lite0, a light pyramid, light heads."""
    settings = settings or Settings(
        detections=2000,
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
    )


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], MaskRCNN]] = {
    "mask_rcnn_r50_fpn": mask_rcnn_r50_fpn,
    "mask_rcnn_r50_fpn_v2": mask_rcnn_r50_fpn_v2,
    "mask_rcnn_lite": mask_rcnn_lite,
}
