"""RTMDet-Ins (Lyu et al. 2022, arXiv:2212.07784): the YOLO family's way to objects with masks, in real time.

Every point of a pyramid says class, box, and the weights of a network of three tiny layers that draws its mask on maps
that all objects share. Shapes for a batch of b images, p points and n detections in all:

    images        [b, 3, H, W]            normalised, padded
      | CSPNeXt                           strides 8, 16, 32                            section 3.2
      | CSPNeXtPAFPN                      down and up again, one width
    pyramid       [b, c, H/s, W/s]        for each stride s
      | DynamicHead                       convolutions shared by all levels            section 3.2
    of each point [b, p, _]               class logits, a box, 169 numbers             section 3.4
    maps          [b, 8, H/s, W/s]        s is the finest stride
      | detections                        sigmoid, threshold, suppress by class, limit
    detections    [n, _]                  boxes, scores, labels, kernels
      | decode                            3 layers of 1 x 1 convolutions in each box alone, sigmoid, cut at .5
    Instances

Settings where the sources differ:

    what                         MMDetection   ours              why
    detections an image          100           the user's limit  counts must not be capped
    candidates compared          1,000 a level 10,000            by area on an input > 640 x 640; a cut is told
    where a point is in a cell   its corner    its centre        half a cell more exact; converted weights: the corner
    masks in training            whole image   each box and a quarter more around it: masks are seen only there
    mask targets                 every fourth  share of a cell   soft targets keep small objects
                                 pixel
    masks trained on             all           400 an image      chosen at random: memory is bounded
    mask loss                    dice          dice, and cross-entropy: dice alone has no way back from full masks

Weights: `halfpixel.zoo.convert.mmdet_rtmdet` converts MMDetection's `rtmdet-ins_{tiny,s,m,l,x}`, key for key; they run
with `Settings(cell_point=0)`.

Deviations from the paper and MMDetection: normalisation layers never update their statistics, so that training starts
from converted weights or as if there were none. Images are padded by zeros after normalisation, and to the next
multiple of 32, where MMDetection pads to a square by a grey of 114: channel attention, which averages over the whole
input, sees another share of padding. Masks are cut to their boxes (widened by `mask_margin`); MMDetection's may reach
beyond. Of an object so small that no point lies in its box, the nearest fine point answers. There is neither mosaic nor
mixing of images. As in MMDetection's code, class and box share their two convolutions, whose weights all levels share
while normalisations are each level's own; the convolutions before a mask's numbers and all last layers are each level's
own too.

`rtmdet_lite` is ours: EfficientNet-Lite0 with strides 4, 8, 16, so that maps are at stride 4 and a nucleus has points
enough; a wider pyramid than its channels, and no normalisation in pyramid and head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfpixel.nn.backbones.backbone import Backbone
from halfpixel.nn.backbones.cspnext import CSPNeXt, CSPNeXtPAFPN
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.candidates import candidates_in
from halfpixel.nn.decoding import before_mask_suppression, detections
from halfpixel.nn.dynamic_assignment import assign
from halfpixel.nn.dynamic_head import DynamicHead, PointOutputs, dynamic_logits
from halfpixel.nn.kernel_network import KernelNetwork
from halfpixel.nn.losses import dice_losses, mean_count, quality_focal_losses, seen_entropies, zero_of
from halfpixel.nn.network import Outputs
from halfpixel.ops import boxes
from halfpixel.ops.assemble import assemble_on
from halfpixel.ops.finite import is_finite
from halfpixel.ops.mask_targets import centres_of_mass
from halfpixel.ops.rows import images_of
from halfpixel.structures.field_check import Count, Share, check_fields
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.structures.targets import Targets

BOX_WEIGHT, MASK_WEIGHT = 2.0, 2.0
MASK_CONTEXT = 0.25
"""Masks are trained on their boxes widened by this share of their sides, so that they learn where to end."""
MASK_CELL = 2
"""Side of a soft mask's cells, in pixels of the input."""
PUBLISHED_HW = (640, 640)
"""The input of the published networks."""
MASK_CHOICE = 0
"""The random choice of `Targets.generator` that is made here."""


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        cell_point: where in its cell a point is, along both axes: .5 is the centre, 0 the corner at the top left.
        box_iou: detections of one class overlapping a better one's box by more than this are suppressed.
        mask_iou: after that, suppress by the overlap of the masks; None to leave it out.
        mask_margin: masks are drawn in each box widened by this share of its sides, on every side; the box of an object
            is then its mask's. 0 leaves boxes as they are.
        considered: best candidates of an image that are compared with each other, on an input of up to 640 x 640
            pixels; on larger ones as many more as their area is larger.
        mask_samples: points an image that the mask loss is taken on.
        mask_grid: cells along a side of the grids on which it is taken.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    cell_point: Share = 0.5
    box_iou: Share = 0.6
    mask_iou: Share | None = None
    mask_margin: Share = 0.0
    considered: Count = 10_000
    mask_samples: Count = 400
    mask_grid: Count = 56

    def __post_init__(self) -> None:
        check_fields(self)


class Drawn(NamedTuple):
    """Masks to train on."""

    points: Int[Tensor, "n"]
    """Those that say them."""
    regions_xyxy: Float[Tensor, "n 4"]
    """Where they are looked at, in pixels of the input."""
    wanted: Float[Tensor, "n g g"]
    """What they should be on a grid of each region."""
    seen: Bool[Tensor, "n g g"]
    """Which of its cells the input shows."""


class RTMDet(KernelNetwork):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: gives maps of three strides or more.
        neck: merges them.
        head: says what is at each point.
        settings: see there.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: Backbone,
        neck: CSPNeXtPAFPN,
        head: DynamicHead,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone, self.neck, self.head = backbone, neck, head
        self.map_stride = head.strides[0]
        self.finer_masks = self.map_stride / MASK_CELL
        self.output_layers = tuple(f"head.{name}" for name in head.output_layers)

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`: the last layers of the classes, one for each level."""
        self.head.set_classes(classes)

    def apply_kernels(
        self, features: Float[Tensor, "n c h w"], kernels: Float[Tensor, "n k"], first_xy: Int[Tensor, "n 2"]
    ) -> Float[Tensor, "n h w"]:
        """Three tiny layers on the maps and on the coordinates relative to the object's point (section 3.4)."""
        return dynamic_logits(features, kernels, first_xy, self.map_stride, self.settings.cell_point)

    def _said(self, images: Tensor) -> PointOutputs:
        said: PointOutputs = self.head(self.neck(self.backbone(images)))
        return said

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects. Exports.

        Args:
            images: normalised, padded to multiples of 32.
            sizes_hw: true sizes inside the padding, in pixels.
            limits: score threshold and detection limit.

        Returns:
            Rows, one per detection over the whole batch, by image and then by descending score: `boxes_xyxy` (input
            pixels), `scores`, `labels`, `image_index`, `kernels` `[n, 172]` (169 weights, the point, the unit of the
            coordinates around it). For each image `maps` `[b, 8, H / s, W / s]`, `candidates` `[b, 1]` (before the
            limit; -1 for NaN) and `saturated` `[b]`.
        """
        settings = self.settings
        limits = before_mask_suppression(limits, settings.mask_iou)
        considered = candidates_in(images, settings.considered, settings.considered, PUBLISHED_HW)
        said = self._said(images)
        found = []
        for k, size_hw in enumerate(sizes_hw):
            logits, corners = said.logits[k], said.boxes_xyxy[k]
            finite = is_finite(logits, corners)
            found.append(detections(logits.sigmoid(), corners, size_hw, limits, settings.box_iou, finite, considered))
        return self.as_outputs(found, [said.kernels(k, one.sources) for k, one in enumerate(found)], said.maps)

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The terms `class`, `box` and `mask`, each a scalar; train on their sum (section 3.3).

        A point's score for its object's class should be the IoU of its box with the object's, every other score 0:
        quality focal loss. Boxes: generalised IoU, weighed by that IoU. Masks: dice
        and cross-entropy. Both terms are 0 without objects.
        """
        said = self._said(images.tensor)
        with torch.autocast(images.tensor.device.type, enabled=False):
            parts = [self._of_image(said, k, target) for k, target in enumerate(targets)]
            weight, classes, corners = (
                torch.stack(part).sum() for part in zip(*(sums for sums, _ in parts), strict=True)
            )
            image_index = images_of([drawn.points for _, drawn in parts])
            drawn = Drawn(*(torch.cat(part) for part in zip(*(drawn for _, drawn in parts), strict=True)))
            kernels = said.kernels(image_index, drawn.points)
            masks = self._mask_losses(said.maps, kernels, image_index, drawn).sum()
        quality, count = (mean_count(float(one), said.logits.device) for one in (weight, len(drawn.points)))
        nothing = zero_of(said.boxes_xyxy, kernels, said.maps)
        return {
            "class": classes / quality,
            "box": nothing + BOX_WEIGHT * corners / quality,
            "mask": nothing + MASK_WEIGHT * masks / count,
        }

    def _of_image(self, said: PointOutputs, k: int, target: Targets) -> tuple[tuple[Tensor, Tensor, Tensor], Drawn]:
        """By what to divide the sums of the terms `class` and `box`, and these; what to take `mask` of."""
        truth, labels = target.boxes_xyxy.to(said.logits), target.labels.to(said.logits.device)
        logits, corners = said.logits[k], said.boxes_xyxy[k]
        regions = boxes.expand(truth, MASK_CONTEXT)
        every = torch.arange(len(target), device=labels.device)
        seen = target.seen_on(regions, self.settings.mask_grid)
        grids = target.mask_grids(every, regions, self.settings.mask_grid).to(truth) * seen
        centres = centres_of_mass(grids, regions)
        mine = assign(logits.detach(), corners.detach(), said.points_xy, said.strides, truth, centres, labels)

        wanted = torch.zeros_like(logits)
        wanted[mine.points, labels[mine.objects]] = mine.overlaps
        trained = ~boxes.within_any(said.points_xy, target.ignored_xyxy.to(truth))
        trained[mine.points] = True
        off = 1 - boxes.generalised_iou(corners[mine.points], truth[mine.objects])

        chosen = torch.randperm(len(mine.points), generator=target.generator(MASK_CHOICE)).to(labels.device)
        chosen = chosen[: self.settings.mask_samples]
        objects = mine.objects[chosen]
        of_classes = (quality_focal_losses(logits, wanted) * trained[:, None]).sum()
        sums = mine.overlaps.sum(), of_classes, (off * mine.overlaps).sum()
        return sums, Drawn(mine.points[chosen], regions[objects], grids[objects], seen[objects])

    def _mask_losses(self, maps: Tensor, kernels: Tensor, image_index: Tensor, drawn: Drawn) -> Float[Tensor, "n"]:
        grid, where = self.settings.mask_grid, (image_index, drawn.regions_xyxy)
        logits = assemble_on(grid, maps, kernels, *where, self.map_stride, self.apply_kernels)
        dice = dice_losses(logits.sigmoid() * drawn.seen, drawn.wanted)
        return dice + seen_entropies(logits, drawn.wanted, drawn.seen)


# Variants


def _on_cspnext(
    class_names: Sequence[str], settings: Settings | None, depth: float, width: float, blocks: int
) -> RTMDet:
    """The paper's network: factors on CSPNeXt's blocks and channels, and blocks in each layer of the pyramid."""
    settings, backbone = settings or Settings(), CSPNeXt(depth, width)
    channels = backbone.channels[0]
    neck = CSPNeXtPAFPN(backbone.channels, channels, blocks)
    head = DynamicHead(channels, len(class_names), backbone.strides, settings.cell_point)
    return RTMDet(class_names, backbone, neck, head, settings)


def rtmdet_ins_tiny(class_names: Sequence[str], settings: Settings | None = None) -> RTMDet:
    """RTMDet-Ins, as MMDetection's `rtmdet-ins_tiny`."""
    return _on_cspnext(class_names, settings, 0.167, 0.375, 1)


def rtmdet_ins_s(class_names: Sequence[str], settings: Settings | None = None) -> RTMDet:
    """RTMDet-Ins, as MMDetection's `rtmdet-ins_s`."""
    return _on_cspnext(class_names, settings, 0.33, 0.5, 1)


def rtmdet_ins_m(class_names: Sequence[str], settings: Settings | None = None) -> RTMDet:
    """RTMDet-Ins, as MMDetection's `rtmdet-ins_m`."""
    return _on_cspnext(class_names, settings, 0.67, 0.75, 2)


def rtmdet_ins_l(class_names: Sequence[str], settings: Settings | None = None) -> RTMDet:
    """RTMDet-Ins, as MMDetection's `rtmdet-ins_l`."""
    return _on_cspnext(class_names, settings, 1.0, 1.0, 3)


def rtmdet_ins_x(class_names: Sequence[str], settings: Settings | None = None) -> RTMDet:
    """RTMDet-Ins, as MMDetection's `rtmdet-ins_x`."""
    return _on_cspnext(class_names, settings, 1.33, 1.25, 4)


def rtmdet_lite(class_names: Sequence[str], settings: Settings | None = None) -> RTMDet:
    """RTMDet-Ins for CPUs and small objects, on EfficientNet-Lite0."""
    settings = settings or Settings(box_iou=0.7, mask_iou=0.4, mask_margin=0.125, mask_grid=28)
    backbone, channels = EfficientNetLite(outputs=(1, 2, 4), even=True), 48
    neck = CSPNeXtPAFPN(backbone.channels, channels, 2, widths=(48, 96, 192), norm=None)
    head = DynamicHead(channels, len(class_names), backbone.strides, settings.cell_point, norm=None)
    return RTMDet(class_names, backbone, neck, head, settings)


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], RTMDet]] = {
    "rtmdet_ins_tiny": rtmdet_ins_tiny,
    "rtmdet_ins_s": rtmdet_ins_s,
    "rtmdet_ins_m": rtmdet_ins_m,
    "rtmdet_ins_l": rtmdet_ins_l,
    "rtmdet_ins_x": rtmdet_ins_x,
    "rtmdet_lite": rtmdet_lite,
}
