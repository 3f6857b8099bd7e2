"""SOLOv2 (Wang et al. 2020, arXiv:2003.10152): no boxes, no anchors; every cell may be the middle of an object.

Cells say what they hold and give a kernel; a kernel turns maps that all objects share into the mask. Shapes for a batch
of b images, m candidates and n detections in all:

    images        [b, 3, H, W]            normalised, padded
      | backbone                          strides 4, 8, 16, 32
      | FeaturePyramid                    P2..P5 (and P6)                             section 3.1
    pyramid       [b, c, H/s, W/s]        for each stride s
      | MaskFeatures                      all levels added up at stride 4             section 3.2, "mask feature"
    maps          [b, e, H/4, W/4]
      | CellHead                          on each level's cells                       section 3.1
    logits        [b, cells, classes]     what a cell is the middle of
    kernels       [b, cells, k]           how its mask is made of the maps            section 3.2, "mask kernel"
      | peaks                             cells that score no less than those just above and left
    candidates    [m]
      | kernel applied, cut at 0          extent, and score times mean probability    section 3.3
      | matrix_nms                        decay by the IoU with better masks          section 3.3, equations 4 and 5
    detections    [n]                     boxes, scores, labels, kernels
      | decode                            kernel applied in the box alone
    Instances

Settings where the sources differ:

    what                  paper                 `solov2_lite`            why
    cells                 40, 36, 24, 16, 12    those of the pyramid,    a grid relative to the image loses 2.5% of
                          along each side       strides 8, 16, 32        nuclei to others in their cell, stride 8 0.53%
    a kernel sees         maps and, in them,    maps, and how far away   tied cells know nothing of the image's size
                          where in the image    the middle of its cell is
    a mask reaches        the whole image       as far as objects of     it cannot spill over to the image's other end,
                                                its level are large      and costs what the object costs
    an object's cells     in its inner 20%      in its inner 40%         it has few cells: more of them learn
    candidates            500                   10,000                   by area on an input > 800 x 1344
    detections            100                   the limit

Weights: `halfpixel.zoo.convert.mmdet_solov2` converts MMDetection's `solov2_r50_fpn` and `solov2-light_r50_fpn`, key
for key. They run on the paper's grid.

Deviations from the paper: masks whose boxes share no pixel are not compared; the IoU of two that do is taken on 28 x 28
points; boxes come from logits between the cells' centres; masks are trained on soft targets, and by cross-entropy
beside Dice, which says nothing to a mask that has vanished; of several objects in one cell the smallest has it; there
is no object too small or too large for all levels; of more than 400 cells of an image's level that answer for objects,
400 chosen at random are trained to draw masks, so that memory is bounded. `solov2_lite`: the table above.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import Backbone
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.backbones.resnet import ResNet
from halfpixel.nn.candidates import candidates_in
from halfpixel.nn.cell_head import NOBODY, CellHead, CellLevel, assign_cells, cell_centres, middles, peaks, sizes_px
from halfpixel.nn.decoding import before_mask_suppression, detections
from halfpixel.nn.fpn import FeaturePyramid
from halfpixel.nn.kernel_network import KernelNetwork
from halfpixel.nn.losses import dice_losses, focal_sum, mean_count, seen_entropies, zero_of
from halfpixel.nn.mask_features import MaskFeatures
from halfpixel.nn.network import Outputs
from halfpixel.ops import boxes
from halfpixel.ops.assemble import assemble_on, linear_kernels
from halfpixel.ops.finite import is_finite
from halfpixel.ops.interpolate import sample_boxes
from halfpixel.ops.logit_extent import logit_extents
from halfpixel.ops.matrix_nms import matrix_nms
from halfpixel.ops.rows import in_chunks
from halfpixel.structures.field_check import Count, Share, check_fields
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.structures.targets import Targets

STRIDE = 4
"""Of the maps."""

GRID = 28
"""Points along each side at which masks are compared."""

TRAINED_ON = 64
"""Points along each side of a window that masks are trained on."""

CANDIDATES = 10_000, 10_000, (800, 1344)
"""So many cells that pass the threshold are looked at on the largest input of the published networks, padded, and on
smaller ones: their masks decide which are the best. On a larger one as many more as its area is larger."""

WINDOWS_AT_ONCE, WHOLE_AT_ONCE = 256, 32
"""Candidates are looked at so many at a time: memory does not grow with their number."""

PLACED = 4
"""Numbers of a kernel for the place: x, y, their squares' sum, and 1."""


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        centre_region: share of an object's sides within which cells answer for it.
        sigma: how fast scores decay with the overlap (see `halfpixel.ops.matrix_nms`).
        mask_iou: after that, suppress by the overlap of the pasted masks; None to leave it out.
        class_weight: of the focal loss.
        dice_weight: of the Dice loss.
        mask_samples: cells of an image's level that the mask losses are taken on.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    centre_region: Share = 0.4
    sigma: float = 2.0
    mask_iou: Share | None = None
    class_weight: float = 2.0
    dice_weight: float = 3.0
    mask_samples: Count = 400

    def __post_init__(self) -> None:
        check_fields(self)


class GridOutputs(NamedTuple):
    """What the network says, float32: of each level's cells, and of the maps."""

    logits: list[Float[Tensor, "b k i j"]]
    kernels: list[Float[Tensor, "b e i j"]]
    maps: Float[Tensor, "b c h w"]


class SOLOv2(KernelNetwork):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: gives feature maps at strides 4, 8, 16, 32.
        pyramid: merges them.
        head: of the cells.
        mask_features: the maps that objects share.
        levels: which objects the cells of each level answer for.
        grid: cells along each side of each level, whatever the image's size; None for the cells of the pyramid's own
            levels, its finest left out.
        settings: see there.
    """

    map_stride = STRIDE
    output_layers = ("head.logits", "head.kernels")

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: Backbone,
        pyramid: FeaturePyramid,
        head: CellHead,
        mask_features: MaskFeatures,
        levels: Sequence[CellLevel],
        grid: Sequence[int] | None,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone, self.pyramid = backbone, pyramid
        self.head, self.mask_features = head, mask_features
        self.levels, self.grid = tuple(levels), grid

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`: the last layer of the class branch."""
        self.head.set_classes(classes)

    def _say(self, images: Tensor) -> GridOutputs:
        pyramid = self.pyramid(self.backbone(images))
        maps = self.mask_features(pyramid[:4]).float()
        if self.grid is None:
            said = [self.head(x, None) for x in pyramid[1:]]
        else:
            pyramid[0] = nn.functional.interpolate(pyramid[0], scale_factor=0.5, mode="bilinear")
            pyramid[4] = nn.functional.interpolate(pyramid[4], size=pyramid[3].shape[2:], mode="bilinear")
            said = [self.head(x, (side, side)) for x, side in zip(pyramid, self.grid, strict=True)]
        return GridOutputs([logits for logits, _ in said], [kernels for _, kernels in said], maps)

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects; see `Network.forward`."""
        said = self._say(images)
        limits = before_mask_suppression(limits, self.settings.mask_iou)
        scores = [logits.sigmoid() for logits in said.logits]
        scores = [torch.where(peaks(one), one, 0.0).flatten(2).transpose(1, 2) for one in scores]
        kernels = [one.flatten(2).transpose(1, 2) for one in said.kernels]
        centres = [cell_centres(one.shape[2:], images.shape[2:], images.device) for one in said.logits]
        xy = torch.cat(centres)
        level = torch.cat([torch.full_like(one[:, 0], n, dtype=torch.int64) for n, one in enumerate(centres)])
        found, chosen = [], []
        for k, size_hw in enumerate(sizes_hw.to(images.device)):
            of_image, placed = torch.cat([one[k] for one in scores]), torch.cat([one[k] for one in kernels])
            finite = is_finite(said.maps[k], *(one[k] for one in (*said.logits, *said.kernels)))
            cells, labels, cut = _candidates(of_image, level, limits, candidates_in(images, *CANDIDATES))
            rows = self._placed(placed[cells], xy[cells], level[cells])
            extents, shares, grids = self._look(said.maps[k], rows, xy[cells], level[cells], size_hw)
            decayed = matrix_nms(grids, extents, of_image[cells, labels] * shares, labels, self.settings.sigma)
            classes = torch.arange(of_image.shape[1], device=labels.device) == labels[:, None]
            one = detections(torch.where(classes, decayed[:, None], 0.0), extents, size_hw, limits, None, finite)
            found.append(one._replace(saturated=one.saturated | cut))
            chosen.append(rows[one.sources])
        return self.as_outputs(found, chosen, said.maps)

    def _placed(self, kernels: Tensor, centres_xy: Tensor, level: Tensor) -> Tensor:
        """Kernels with the middle of their cells and the unit of length of their levels, where they need them."""
        if self.grid is not None:
            return kernels
        units = kernels.new_tensor([(one.reach_px or 2 * one.smallest_px) / 2 for one in self.levels])
        return torch.cat([kernels, centres_xy, units[level.long()][:, None]], 1)

    def apply_kernels(
        self, features: Float[Tensor, "n c h w"], kernels: Float[Tensor, "n k"], first_xy: Int[Tensor, "n 2"]
    ) -> Float[Tensor, "n h w"]:
        """See `KernelNetwork.apply_kernels`: a weight for each map, and for the distance from the cell's middle."""
        logits = linear_kernels(features, kernels[:, : features.shape[1]], first_xy)
        if self.grid is not None:
            return logits
        place, centres_xy, unit = kernels[:, features.shape[1] :].split([PLACED, 2, 1], 1)
        x, y = (
            ((torch.arange(count, device=unit.device) + first_xy[:, k, None] + 0.5) * STRIDE - centres_xy[:, k, None])
            / unit
            for k, count in ((0, features.shape[3]), (1, features.shape[2]))
        )
        # a new network says a disc
        bent = place[:, 2, None] - 1
        along_x = place[:, 0, None] * x + bent * x.square()
        along_y = place[:, 1, None] * y + bent * y.square() + place[:, 3, None] + 1
        out: Tensor = logits + along_x[:, None] + along_y[:, :, None]
        return out

    def _look(
        self, maps: Tensor, kernels: Tensor, centres_xy: Tensor, level: Tensor, size_hw: Tensor
    ) -> tuple[Float[Tensor, "m 4"], Float[Tensor, "m"], Bool[Tensor, "m s s"]]:
        """Of candidates in the order of their levels: extent, mean probability inside, mask on a grid over the extent.

        Beyond the image the maps' last cells go on.
        """
        last, parts = torch.ceil(size_hw / STRIDE - 0.5).long().clamp(min=1) - 1, []
        for n, reach in enumerate(one.reach_px for one in self.levels):
            rows = torch.nonzero(level == n).ravel()
            for some, xy in in_chunks(WINDOWS_AT_ONCE if reach else WHOLE_AT_ONCE, kernels[rows], centres_xy[rows]):
                first = torch.zeros(1, 2, dtype=torch.int64, device=xy.device)  # the whole is the same for all
                sides: Sequence[int] = maps.shape[1:]
                if reach:
                    sides = (2 * reach // STRIDE,) * 2
                    first = torch.round(xy / STRIDE).long() - reach // STRIDE
                cells = [first[:, 1 - k, None] + torch.arange(side, device=xy.device) for k, side in enumerate(sides)]
                down, across = (one.clamp(min=0).minimum(end) for one, end in zip(cells, last, strict=True))
                windows = maps[:, down[:, :, None], across[:, None]].transpose(0, 1)
                windows, first = windows.expand(xy.shape[0], -1, -1, -1), first.expand(xy.shape[0], 2)
                logits = self.apply_kernels(windows, some, first)
                real = (cells[0] == down)[:, :, None] & (cells[1] == across)[:, None]
                inside = (logits > 0) & real
                share = (logits.sigmoid() * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
                shift = first.repeat(1, 2)
                extents = boxes.clip((logit_extents(logits) + shift) * STRIDE, size_hw)
                parts.append((extents, share, sample_boxes(logits, extents / STRIDE - shift, (GRID, GRID)) > 0))
        extents, shares, grids = (torch.cat(every) for every in zip(*parts, strict=True))
        return extents, shares, grids

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """`class`, a focal loss over all cells; of every cell that answers for an object `dice` and `cross_entropy`."""
        said = self._say(images.tensor)
        input_hw = (images.tensor.shape[2], images.tensor.shape[3])
        focal, of_masks, answering = [zero_of(said.maps, *said.kernels)], list[Tensor](), 0
        for k, target in enumerate(targets):
            truth, middles_xy = (one.to(said.maps.device) for one in (target.boxes_xyxy, middles(target)))
            labels = target.labels.to(truth.device)
            region = self.settings.centre_region
            of_size = sizes_px(truth, region, by_reach=self.grid is None)
            for n, level in enumerate(self.levels):
                logits = said.logits[n][k]
                cells_hw = (logits.shape[1], logits.shape[2])
                owners = assign_cells(truth, of_size, middles_xy, level, cells_hw, input_hw, region)
                centres = cell_centres(cells_hw, input_hw, truth.device)
                known = (owners != NOBODY) | ~boxes.within_any(centres, target.ignored_xyxy.to(truth))
                known &= (centres < images.sizes_hw[k].flip(0).to(centres)).all(1)
                wanted = torch.zeros_like(logits).flatten(1).T
                cells = torch.nonzero(owners != NOBODY).ravel()
                wanted[cells, labels[owners[cells]]] = 1
                focal.append(focal_sum(logits.flatten(1).T[known], wanted[known]))
                answering += len(cells)
                if len(cells) > self.settings.mask_samples:
                    chosen = torch.randperm(len(cells), generator=target.generator(n)).to(cells.device)
                    cells = cells[chosen[: self.settings.mask_samples]]
                kernels = said.kernels[n][k].flatten(1).T[cells]
                rows = self._placed(kernels, centres[cells], torch.full_like(cells, n))
                of_masks.append(
                    self._mask_losses(said.maps[k : k + 1], rows, centres[cells], owners[cells], target, level)
                )
        count, masks = (mean_count(k, said.maps.device) for k in (answering, sum(map(len, of_masks))))
        dice, cross_entropy = torch.cat(of_masks).sum(0) / masks
        return {
            "class": self.settings.class_weight * torch.stack(focal).sum() / count,
            "dice": self.settings.dice_weight * dice,
            "cross_entropy": cross_entropy,
        }

    def _mask_losses(
        self, maps: Tensor, kernels: Tensor, centres_xy: Tensor, owners: Tensor, target: Targets, level: CellLevel
    ) -> Float[Tensor, "p 2"]:
        """Dice loss and mean cross-entropy of cells of one level; what the input does not show does not count."""
        if level.reach_px is None:
            grid = max(maps.shape[2:])
            regions = centres_xy.new_tensor([0.0, 0.0, STRIDE * grid, STRIDE * grid]).expand(len(owners), 4)
        else:
            grid = TRAINED_ON
            regions = torch.cat([centres_xy - level.reach_px, centres_xy + level.reach_px], 1)
        wanted = target.mask_grids(owners, regions, grid)
        image_index = torch.zeros_like(owners)
        said = assemble_on(grid, maps, kernels, image_index, regions, STRIDE, self.apply_kernels)
        seen = target.seen_on(regions, grid)
        dice = dice_losses(said.sigmoid() * seen, wanted * seen)
        return torch.stack([dice, seen_entropies(said, wanted, seen)], 1)


def _candidates(
    scores: Float[Tensor, "cells classes"], level: Int[Tensor, "cells"], limits: Limits, most: int
) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"], Bool[Tensor, ""]]:
    """The best cells and what they say they hold, by their levels, `most` of them; and whether there were more."""
    cells, labels = torch.nonzero(scores > limits.score_threshold.to(scores.device), as_tuple=True)
    cut = torch.tensor(cells.shape[0], device=cells.device) > most
    best = scores[cells, labels].topk(torch.sym_min(most, cells.shape[0])).indices
    best = best[level[cells[best]].argsort()]
    return cells[best], labels[best], cut


# Variants


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(32, channels)


def _on_resnet50(
    class_names: Sequence[str], settings: Settings | None, width: int, depth: int, maps: int, largest_px: int
) -> SOLOv2:
    backbone = ResNet()
    ranges = [CellLevel(largest_px / 2 ** (k + 1), largest_px / 2 ** (k - 1)) for k in (4, 3, 2, 1, 0)]
    ranges[0], ranges[-1] = replace(ranges[0], smallest_px=0.0), replace(ranges[-1], largest_px=float("inf"))
    return SOLOv2(
        class_names,
        backbone,
        FeaturePyramid(backbone.channels, 256),
        CellHead(256, width, depth, maps, len(class_names), _group_norm, coordinates=True),
        MaskFeatures(256, 128, maps, norm=_group_norm, coordinates=True, bounded=True),
        ranges,
        (40, 36, 24, 16, 12),
        settings or Settings(centre_region=0.2, class_weight=1.0),
    )


def solov2_r50(class_names: Sequence[str], settings: Settings | None = None) -> SOLOv2:
    """SOLOv2 on ResNet-50, as MMDetection's `solov2_r50_fpn`."""
    return _on_resnet50(class_names, settings, width=512, depth=4, maps=256, largest_px=768)


def solov2_light_r50(class_names: Sequence[str], settings: Settings | None = None) -> SOLOv2:
    """SOLOv2-light, as MMDetection's `solov2-light_r50_fpn`."""
    return _on_resnet50(class_names, settings, width=256, depth=2, maps=128, largest_px=448)


def solov2_lite(class_names: Sequence[str], settings: Settings | None = None) -> SOLOv2:
    """SOLOv2 for CPUs and small objects, on EfficientNet-Lite0."""
    backbone = EfficientNetLite(even=True)
    return SOLOv2(
        class_names,
        backbone,
        FeaturePyramid(backbone.channels, 80, coarser=False),
        CellHead(80, 80, 2, 24 + PLACED, len(class_names), rare=0.05),
        MaskFeatures(80, 48, 24),
        (CellLevel(0, 64, 64), CellLevel(48, 128, 128), CellLevel(96, float("inf"))),
        None,
        settings or Settings(mask_iou=0.5),
    )


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], SOLOv2]] = {
    "solov2_r50": solov2_r50,
    "solov2_light_r50": solov2_light_r50,
    "solov2_lite": solov2_lite,
}
