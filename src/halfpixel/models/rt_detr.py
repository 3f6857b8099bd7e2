"""RT-DETR (Zhao et al. 2023, arXiv:2304.08069) with masks as in Mask DINO (Li et al. 2022, arXiv:2206.02777).

No suppression: the queries that a transformer refines see each other, and one of them alone answers for an object.
Shapes for a batch of b images with q queries each and n detections in all:

    images        [b, 3, H, W]            normalised, padded
      | backbone                          ResNet-D: strides 4, 8, 16, 32
      | HybridEncoder                     attention on the coarsest map, then fusion       section 4.2, figure 4
    encoded       [b, 256, H/s, W/s]      for strides s = 8, 16, 32
      | QuerySelection                    the best cells: class scores and a first box     section 4.3
    queries       [b, q, 256]             q = 1,500, or by area
      | BoxDecoder                        layer by layer: look at each other, look at the
      |                                   maps around one's box, refine the box            Deformable DETR, 4.1
    boxes         [b, q, 4]               and class scores
      | detections                        threshold, limit; nothing is suppressed
    detections    [n, 4]                  boxes, scores, labels, and of each query
      | MaskBranch.kernels                a kernel                                         Mask DINO, section 3.3
    kernels       [n, 64]
      | MaskBranch                        encoded maps and the backbone's finest, fused
    maps          [b, 64, H/4, W/4]
      | decode                            kernel times maps, inside the box only
    Instances

Queries are selected, not learned: the weights hold no number of them, so that it follows the area. Where every query
scores above the threshold there may be more objects than queries, and the image is `saturated`.

Train boxes first (`Settings(masks=False)`), masks later: weights of the one start the other. A network without masks
gives boxes alone, as the paper's does.

Settings where the sources differ:

    what                 paper          transformers   ours         why
    queries              300            300            1,500        and by area: counts must not be capped
    detections a query   several        several        1            an object has one class
    boxes relative to    the image      the image      cells        crops and images may have any size
    cells selected for   1              1              4 (lite)     more of them learn from each object; the layers
      each object                                                   behind say which of them it shall be
    masks                none           none           64 maps

Weights: those of transformers' `RTDetrForObjectDetection` and `RTDetrV2ForObjectDetection` with ResNet-18 and -50
convert (boxes only, `Settings(masks=False, coordinates="image")`).

Deviations from the paper: no denoising queries in training (it converges more slowly for it); normalisations in the
encoder are folded into the convolutions, those in the backbone never update their statistics, and the two branches of
a RepVGG block are one; `coordinates="cells"`, see `halfpixel.nn.reference_boxes`. `rt_detr_lite` has its own encoder
widths, ReLU in them, and strides 4, 8 and 16. From Mask DINO: masks are compared on a grid over each object's box and
not at points over the image, since they are applied there alone, and on the last layer's queries only.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import Backbone
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.backbones.resnet_d import ResNetD
from halfpixel.nn.box_decoder import BoxDecoder, QueryOutputs, QuerySelection, class_layer
from halfpixel.nn.candidates import candidates_in
from halfpixel.nn.decoding import Found, as_rows, before_mask_suppression, detections
from halfpixel.nn.hungarian import assign_several
from halfpixel.nn.hybrid_encoder import HybridEncoder
from halfpixel.nn.kernel_network import KernelNetwork
from halfpixel.nn.losses import mean_count, zero_of
from halfpixel.nn.mask_branch import MaskBranch, region_mask_losses
from halfpixel.nn.matching import IGNORED, match
from halfpixel.nn.network import Outputs
from halfpixel.nn.query_losses import matching_cost, query_terms
from halfpixel.nn.reference_boxes import InImage, OnCells, ReferenceBoxes
from halfpixel.ops import boxes
from halfpixel.ops.finite import is_finite
from halfpixel.structures.field_check import Count, Share, check_fields
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets

LEVELS = 3
"""Maps that the encoder fuses, the coarsest ones of the backbone."""

PUBLISHED_HW = (640, 640)
"""The input of the published networks."""

FEWEST_QUERIES = 1500
"""A small image may be crowded, and the weights hold no number of queries."""

CLASS_WEIGHT, BOX_WEIGHT, IOU_WEIGHT, MASK_WEIGHT, DICE_WEIGHT = 1.0, 5.0, 2.0, 5.0, 5.0
"""Of the loss terms: the first three RT-DETR's, the others Mask DINO's."""


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        queries: for each 640 x 640 pixels of the input, and at least 1,500. In training so many, or half as many again
            as there are objects, where that is more.
        selected_for_each: cells that are trained to be selected for each object.
        coordinates: what boxes are told relative to: `cells`, ours, or `image`, the paper's, for images of the size
            that the network was trained on (see `halfpixel.nn.reference_boxes`).
        masks: whether there are any.
        mask_margin: masks are drawn in each box widened by this share of its sides, on every side, so that they can
            reach beyond a box that is a little off; the box of an object is then its mask's.
        mask_iou: suppress by the overlap of the masks; None, the paper's, suppresses nothing.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    queries: Count = 300
    selected_for_each: Count = 1
    coordinates: Literal["cells", "image"] = "cells"
    masks: bool = True
    mask_margin: Share = 0.0
    mask_iou: Share | None = None

    def __post_init__(self) -> None:
        check_fields(self)


class RTDETR(KernelNetwork):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: gives feature maps, of which the three coarsest go into the encoder.
        encoder: fuses them.
        selection: makes queries of cells.
        decoder: refines them.
        masks: draws maps and kernels; None for boxes alone.
        map_stride: of the masks' maps, the finest that the backbone gives.
        settings: see there.
    """

    RECIPE: ClassVar[Mapping[str, object]] = {"learning_rate": 4e-4, "backbone_rate": 0.3, "clip_norm": 1.0}

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: Backbone,
        encoder: HybridEncoder,
        selection: QuerySelection,
        decoder: BoxDecoder,
        masks: MaskBranch | None,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone, self.encoder, self.selection, self.decoder = backbone, encoder, selection, decoder
        self.masks, self.map_stride = masks, backbone.strides[0]
        spoken = ["selection.logits", "selection.deltas.output"]
        for k in range(len(decoder.layers)):
            spoken += [f"decoder.logits.{k}", f"decoder.deltas.{k}.output"]
        if masks is None:
            self.layout = {name: axis for name, axis in self.layout.items() if name not in ("kernels", "maps")}
        else:
            spoken += ["masks.kernels.output", "masks.maps"]
        self.output_layers = tuple(spoken)

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`."""
        width = self.selection.logits.in_features
        self.selection.logits = class_layer(width, classes)
        self.decoder.logits = nn.ModuleList(class_layer(width, classes) for _ in self.decoder.layers)

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects. Exports: the number of queries stays a symbol.

        Args:
            images: normalised, padded to multiples of 32.
            sizes_hw: true sizes inside the padding, in pixels.
            limits: score threshold and detection limit.

        Returns:
            Rows, one per detection over the whole batch, by image and then by descending score: `boxes_xyxy` (input
            pixels), `scores`, `labels`, `image_index` and `kernels`; `maps` of each image; `candidates` `[b, 1]`
            (before the limit; -1 for NaN) and `saturated` `[b]`. Without masks neither kernels nor maps.
        """
        limits = before_mask_suppression(limits, self.settings.mask_iou)
        said, maps = self._say(images, self.queries(images))
        last = said[-1]
        corners = boxes.to_corners(last.boxes.float()) * _sides(images)
        scores = last.logits.float().sigmoid()
        found = [self._detect(*one, limits) for one in zip(scores, corners, sizes_hw, strict=True)]
        if self.masks is None or maps is None:
            counts = {name: torch.stack([getattr(one, name) for one in found]) for name in ("candidates", "saturated")}
            return as_rows(found) | counts | {"candidates": counts["candidates"][:, None]}
        kernels = [self.masks.kernels(last.hidden[k, one.sources]) for k, one in enumerate(found)]
        return self.as_outputs(found, kernels, maps)

    def queries(self, images: Float[Tensor, "b 3 h w"]) -> int:
        """How many queries there are when it predicts, unless there are fewer cells."""
        told = self.settings.queries
        return candidates_in(images, max(told, FEWEST_QUERIES), told, PUBLISHED_HW)

    def _say(self, images: Tensor, queries: int) -> tuple[list[QueryOutputs], Tensor | None]:
        """What the selection and then each layer says of its queries; and the masks' maps."""
        features = self.backbone(images)
        encoded = self.encoder(features[-LEVELS:])
        memory = self.selection.remember(encoded, (images.shape[2], images.shape[3]))
        selected = self.selection(memory, queries)
        said = [selected, *self.decoder(selected, memory)]
        return said, None if self.masks is None else self.masks(features[0], encoded)

    def _detect(self, scores: Tensor, corners: Tensor, size_hw: Tensor, limits: Limits) -> Found:
        """Detections of one image: of each query its best class."""
        best, labels = scores.max(1, keepdim=True)
        of_classes = torch.zeros_like(scores).scatter(1, labels, best)
        found = detections(of_classes, corners, size_hw, limits, None, is_finite(scores, corners))
        exhausted = (best > limits.score_threshold.to(best.device)).all()
        return found._replace(saturated=found.saturated | exhausted)

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The terms `class`, `box` (L1), `iou` (GIoU) and with masks `mask` (cross-entropy) and `dice`.

        The first three are sums over what the selection and every layer say, each matched on its own.
        """
        most = max(len(target) for target in targets)
        said, maps = self._say(images.tensor, max(self.settings.queries, most + most // 2))
        sides, last, terms = _sides(images.tensor), said[-1], []
        kernels = None if self.masks is None else self.masks.kernels(last.hidden)
        of_masks = [] if kernels is None or maps is None else [zero_of(maps, kernels).expand(2)]
        for k, target in enumerate(targets):
            labels = target.labels.to(sides.device)
            truth = boxes.to_centres(target.boxes_xyxy.to(sides) / sides).to(last.boxes.dtype)
            for layer, one in enumerate(said):
                logits, predicted = one.logits[k], one.boxes[k]
                cost = matching_cost(logits.detach(), predicted.detach(), labels, truth)
                queries, objects = assign_several(cost, self.settings.selected_for_each if layer == 0 else 1)
                ignored = _in_crowds(boxes.to_corners(predicted.detach()) * sides, target)
                terms.append(query_terms(logits, predicted, labels[objects], truth[objects], queries, ignored))
            if kernels is not None and maps is not None:  # those that the last layer's queries answer for
                shared, own = maps[k : k + 1].float(), kernels[k, queries].float()
                of_masks.append(torch.stack(region_mask_losses(shared, own, objects, target, self.map_stride)))
        count = mean_count(sum(len(target) for target in targets), sides.device)
        weights = {"class": CLASS_WEIGHT, "box": BOX_WEIGHT, "iou": IOU_WEIGHT}
        sums = [torch.stack(term).sum() for term in zip(*terms, strict=True)]
        if of_masks:
            weights |= {"mask": MASK_WEIGHT, "dice": DICE_WEIGHT}
            sums += torch.stack(of_masks).sum(0)
        return {name: weight * term / count for (name, weight), term in zip(weights.items(), sums, strict=True)}

    def decode(self, outputs: Outputs, sizes: Sequence[Resized], limits: Limits) -> list[Instances]:
        """See `Network.decode`."""
        if self.settings.masks:
            return super().decode(outputs, sizes, limits)
        outputs = {name: tensor.detach().cpu() for name, tensor in outputs.items()}
        return [self.row_rules.objects(outputs, k, size, limits.most, None) for k, size in enumerate(sizes)]


def _sides(images: Tensor) -> Float[Tensor, "4"]:
    """Width and height of the padded images, twice."""
    height, width = images.shape[2:]
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device)


def _in_crowds(boxes_xyxy: Tensor, target: Targets) -> Tensor:
    """Boxes with more than half of themselves in a crowd region."""
    nothing = boxes_xyxy.new_zeros(0, 4)
    return match(boxes_xyxy, nothing, target.ignored_xyxy.to(boxes_xyxy), 0.5, 0.5) == IGNORED


def _references(settings: Settings) -> ReferenceBoxes:
    return OnCells() if settings.coordinates == "cells" else InImage()


def _on_resnet(
    class_names: Sequence[str], settings: Settings | None, backbone: ResNetD, fusion: int, depth: int
) -> RTDETR:
    settings, width, classes = settings or Settings(mask_margin=0.125), 256, len(class_names)
    references = _references(settings)
    return RTDETR(
        class_names,
        backbone,
        HybridEncoder(backbone.channels[-LEVELS:], width, heads=8, attention_inner=1024, fusion_inner=fusion),
        QuerySelection(width, LEVELS, classes, references),
        BoxDecoder(width, 8, LEVELS, 1024, depth, classes, references),
        MaskBranch(backbone.channels[0], width, LEVELS, inner=128, maps=64) if settings.masks else None,
        settings,
    )


def rt_detr_r18(class_names: Sequence[str], settings: Settings | None = None) -> RTDETR:
    """RT-DETR on ResNet-18-D, as transformers' `rtdetr_r18vd`."""
    return _on_resnet(class_names, settings, ResNetD((2, 2, 2, 2), "basic"), fusion=128, depth=3)


def rt_detr_r50(class_names: Sequence[str], settings: Settings | None = None) -> RTDETR:
    """RT-DETR on ResNet-50-D, as transformers' `rtdetr_r50vd`."""
    return _on_resnet(class_names, settings, ResNetD((3, 4, 6, 3), "bottleneck"), fusion=256, depth=6)


def rt_detr_lite(class_names: Sequence[str], settings: Settings | None = None) -> RTDETR:
    """RT-DETR for CPUs and small objects, on EfficientNet-Lite0."""
    settings, width, classes = settings or Settings(mask_margin=0.125, selected_for_each=4), 96, len(class_names)
    backbone, references = EfficientNetLite(outputs=(1, 2, 4), even=True), _references(settings)
    return RTDETR(
        class_names,
        backbone,
        HybridEncoder(backbone.channels, width, 6, 256, fusion_inner=48, activation=nn.functional.relu),
        QuerySelection(width, LEVELS, classes, references),
        BoxDecoder(width, 6, LEVELS, 256, 3, classes, references),
        MaskBranch(None, width, LEVELS, inner=64, maps=32) if settings.masks else None,
        settings,
    )


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], RTDETR]] = {
    "rt_detr_r18": rt_detr_r18,
    "rt_detr_r50": rt_detr_r50,
    "rt_detr_lite": rt_detr_lite,
}
