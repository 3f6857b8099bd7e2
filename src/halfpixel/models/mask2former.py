"""Mask2Former (Cheng et al. 2022, arXiv:2112.01527): queries that attend to what they have found so far.

No anchors, no proposals, no suppression: a set of learnt queries is assigned to objects one to one. Shapes for a batch
of b images and n detections in all:

    images        [b, 3, H, W]            normalised, padded
      | backbone                          ResNet, Swin or EfficientNet-Lite: strides 4, 8, 16, 32
      | PixelDecoder                      deformable attention over strides 32, 16, 8          section 3.1, 4.1
    maps          [b, c, H/4, W/4]        what masks are made of
    coarse maps   [b, 256, H/s, W/s]      for s = 32, 16, 8: what queries attend to
      | MaskedDecoder                     layer by layer, one coarse map each in turns         section 3.2
      |   attend                          each query inside of its own mask so far             equation 2
      |   compare                         queries with each other
      |   say                             a class and a kernel, before the first layer, too
    queries       [b, q, k + 1], [b, q, c]  logits of the classes and of "no object"; kernels
      | outline                           masks as kernel . maps, at stride 4; their boxes; how sure they are
      | detections                        class probability times mean probability in the mask, threshold, limit
    rows          [n, ...]                boxes, scores, labels, kernels
      | decode                            kernels applied to maps inside of boxes, interpolated, cut at .5
    Instances

A mask is not bound to a box: the object's box is around what its mask covers, exact to where the interpolated logits
cross 0.

**Queries are weights.** A network finds no more objects than it has queries; where all of them score above the
threshold, an image is `saturated`, and has to be cut into tiles.

Settings where variants differ: 100 queries, 200 for `mask2former_swin_l` as published and for `mask2former_lite`, which
is made for many small objects.

Weights: `halfpixel.zoo.convert.transformers_mask2former` converts those of transformers'
`Mask2FormerForUniversalSegmentation` for instances (Swin-T, S, B, L and ResNet-50), key for key.

Deviations from the paper and its code:

- The points in which masks are compared with objects (section 3.3) are drawn once for an image, and serve matching, all
  layers and all objects; each object still takes the least certain of them for its loss. They lie inside of the image,
  never in its padding, and truths are interpolated in the annotated masks.
- Masks for attention are made at the coarse maps' strides from shrunken maps, which is the same: both are linear. They
  are cut at 0, so that a rounding error may show a query one cell more and change what follows: an image alone and in a
  batch agree as far as no logit is within rounding of 0 (so it was wherever it was tried), not by construction.
- The mean probability in a mask is taken over cells of the maps inside of the image, not over its pixels.
- A query may become a detection of several classes, as in the paper; how many there are is limited at the end alone.
- The class term is divided by the sum of its weights with the objects averaged over processes.
- `mask2former_lite` attends strides 16 and 8 alone, and trains three queries of an object in all layers but the last
  (`matched_before`).
- No random depth in Swin; normalisation layers of ResNet never update their statistics.
- Objects beyond the number of queries in a training crop are not learnt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import Backbone
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.backbones.resnet import ResNet
from halfpixel.nn.backbones.swin import swin_base, swin_large, swin_small, swin_tiny
from halfpixel.nn.decoding import detections
from halfpixel.nn.deformable_encoder import grid_positions
from halfpixel.nn.hungarian import assign_several
from halfpixel.nn.kernel_network import KernelNetwork
from halfpixel.nn.losses import mean_count, zero_of
from halfpixel.nn.matching import IGNORED
from halfpixel.nn.network import Outputs
from halfpixel.nn.pixel_decoder import PixelDecoder
from halfpixel.nn.point_losses import PointPlan, in_crowds, point_mask_costs, point_mask_losses
from halfpixel.nn.transformer import FeedForward, MultiHeadAttention, MultiLayerPerceptron
from halfpixel.ops.finite import is_finite
from halfpixel.ops.logit_extent import logit_extents
from halfpixel.ops.point_sample import point_sample
from halfpixel.ops.rows import in_chunks
from halfpixel.structures.field_check import Count, check_fields
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.structures.targets import Targets

STRIDE = 4
"""Of the maps."""

CLASS, MASK, DICE = 2.0, 5.0, 5.0
"""Weights of the terms, in matching and in the loss (section 4.1)."""

NO_OBJECT = 0.1
"""What a query without an object counts in the class term."""

POINT_CHOICE = 0
"""The random choice of `Targets.generator` that is made here."""

OUTLINED_AT_ONCE = 32
"""So many queries' masks are there at a time."""


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        queries: no more objects can be found; part of the weights.
        points: each mask is compared with its object in so many points of an image.
        matched_before: queries that are trained to show each object, before the last layer says which one it is.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    queries: Count = 100
    points: Count = 12_544
    matched_before: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)


class DecoderLayer(nn.Module):
    """Masked attention, then attention among queries, then two linear layers: the order of section 3.2.2."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attend, self.attend_norm = MultiHeadAttention(width, heads), nn.LayerNorm(width)
        self.compare, self.compare_norm = MultiHeadAttention(width, heads), nn.LayerNorm(width)
        self.feed_forward, self.feed_forward_norm = FeedForward(width, inner), nn.LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "b q width"],
        places: Float[Tensor, "q width"],
        keys: Float[Tensor, "b s width"],
        values: Float[Tensor, "b s width"],
        allowed: Bool[Tensor, "b q s"],
    ) -> Float[Tensor, "b q width"]:
        """Apply the layer; `places` are learnt and tell queries apart."""
        x = self.attend_norm(x + self.attend(x + places, keys, values, allowed[:, None]))
        x = self.compare_norm(x + self.compare(x + places, x + places, x))
        out: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return out


class MaskedDecoder(nn.Module):
    """Queries that look at coarse maps, each where its own mask is.

    Args:
        width: of queries and of the coarse maps.
        channels: of the maps that kernels are for.
        queries: how many.
        levels: coarse maps.
        layers: one after the other.
        heads: of attention.
        inner: width inside of a layer.
    """

    def __init__(
        self, width: int, channels: int, queries: int, levels: int, layers: int, heads: int, inner: int
    ) -> None:
        super().__init__()
        self.queries, self.places = (nn.Parameter(torch.randn(queries, width)) for _ in range(2))
        self.level = nn.Parameter(torch.randn(levels, width))
        self.layers = nn.ModuleList(DecoderLayer(width, heads, inner) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.kernels = MultiLayerPerceptron(width, width, channels, 3)

    def say(self, x: Float[Tensor, "b q width"]) -> tuple[Float[Tensor, "b q width"], Float[Tensor, "b q c"]]:
        """Queries, normalised, and their kernels."""
        x = self.norm(x)
        return x, self.kernels(x)

    def forward(
        self, coarse: Sequence[Float[Tensor, "b width _ _"]], maps: Float[Tensor, "b c h w"]
    ) -> list[tuple[Tensor, Tensor]]:
        """Queries, normalised, and their kernels: before the first layer and after each one."""
        values = [x.flatten(2).transpose(1, 2) + self.level[k] for k, x in enumerate(coarse)]
        keys = [value + grid_positions(x) for value, x in zip(values, coarse, strict=True)]
        shrunken = [_shrink(maps.detach(), x.shape[2:]).flatten(2) for x in coarse]
        x = self.queries.expand(maps.shape[0], -1, -1)
        said = [self.say(x)]
        for n, layer in enumerate(self.layers):
            level = n % len(coarse)
            inside = said[-1][1].detach() @ shrunken[level] >= 0
            nowhere = ~inside.any(2, keepdim=True)
            x = layer(x, self.places, keys[level], values[level], inside | nowhere)  # an empty mask hides nothing
            said.append(self.say(x))
        return said


def _shrink(maps: Tensor, size_hw: Sequence[int]) -> Tensor:
    return nn.functional.interpolate(maps, size=tuple(size_hw), mode="bilinear", align_corners=False)


class Mask2Former(KernelNetwork):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: gives feature maps at strides 4, 8, 16, 32.
        pixel_decoder: makes of them one fine map and coarse ones.
        decoder: finds objects in those.
        settings: see there.
    """

    RECIPE: ClassVar[Mapping[str, Any]] = {"learning_rate": 3e-4}

    output_layers = ("pixel_decoder.maps", "decoder.kernels.output", "logits")
    map_stride = STRIDE

    def __init__(
        self,
        class_names: Sequence[str],
        backbone: Backbone,
        pixel_decoder: PixelDecoder,
        decoder: MaskedDecoder,
        settings: Settings,
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.settings: Settings = settings
        self.backbone, self.pixel_decoder, self.decoder = backbone, pixel_decoder, decoder
        self.set_classes(len(class_names))

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`; the last class is "no object"."""
        self.logits = nn.Linear(self.decoder.queries.shape[1], classes + 1)

    def says(self, images: Float[Tensor, "b 3 h w"]) -> tuple[list[tuple[Tensor, Tensor]], Float[Tensor, "b c h4 w4"]]:
        """What the decoder says, and the maps that kernels are for."""
        coarse, maps = self.pixel_decoder(self.backbone(images))
        return self.decoder(coarse, maps), maps

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Find objects. Exports.

        Returns:
            As `KernelNetwork.layout` lists: `kernels` `[n, c]` are for `maps` `[b, c, H / 4, W / 4]`. `candidates`
            `[b, 1]` counts what scored above the threshold; `saturated` `[b]` says that the limit cut, or that all
            queries did.
        """
        said, maps = self.says(images)
        logits, kernels, maps = self.logits(said[-1][0]).float(), said[-1][1].float(), maps.float()
        found = []
        for k, size_hw in enumerate(sizes_hw):
            boxes_xyxy, certainty = outline(kernels[k], maps[k], size_hw)
            scores = logits[k].softmax(1)[:, :-1] * certainty[:, None]
            finite = is_finite(logits[k], kernels[k], maps[k])
            one = detections(scores, boxes_xyxy, size_hw, limits, None, finite)
            full = (scores.amax(1) > limits.score_threshold.to(scores.device)).all()
            found.append(one._replace(saturated=one.saturated | full))
        return self.as_outputs(found, [kernels[k, one.sources] for k, one in enumerate(found)], maps)

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The terms `class`, `mask` (binary cross-entropy) and `dice`, each summed over the decoder's layers."""
        layers, maps = self.says(images.tensor)
        said, maps = [(self.logits(queries).float(), kernels.float()) for queries, kernels in layers], maps.float()
        plan, device = PointPlan(self.settings.points), maps.device
        wanted = [logits.new_full(logits.shape[:2], logits.shape[2] - 1).long() for logits, _ in said]
        mask, dice = zero_of(maps), zero_of(maps)
        with torch.autocast(device.type, enabled=False):
            for k, target in enumerate(targets):
                points = plan.draw(target.size_hw, target.generator(POINT_CHOICE)).to(device)
                seen = point_sample(maps[k : k + 1], points[None] / STRIDE)[0]
                truths, labels = target.masks_at(points), target.labels.to(device)
                for layer, ((logits, kernels), classes) in enumerate(zip(said, wanted, strict=True)):
                    masks = kernels[k].detach() @ seen.detach()[:, : plan.points]
                    times = 1 if layer == len(said) - 1 else self.settings.matched_before
                    queries, objects = match_masks(logits[k], masks, truths[:, : plan.points], labels, times)
                    classes[k, in_crowds(masks, points[: plan.points], target.ignored_xyxy)] = IGNORED
                    classes[k, queries] = labels[objects]
                    drawn = kernels[k, queries] @ seen
                    chosen = plan.choose(drawn)
                    terms = point_mask_losses(drawn.gather(1, chosen), truths[objects].gather(1, chosen))
                    mask, dice = mask + terms[0], dice + terms[1]
            count = mean_count(sum(min(len(target), self.settings.queries) for target in targets), device)
            of_layers = [class_loss(logits, classes, count) for (logits, _), classes in zip(said, wanted, strict=True)]
            return {
                "class": CLASS * torch.stack(of_layers).sum(),
                "mask": MASK * mask / count,
                "dice": DICE * dice / count,
            }


@torch.no_grad()
def match_masks(
    logits: Float[Tensor, "q classes"],
    masks: Float[Tensor, "q k"],
    truths: Float[Tensor, "n k"],
    labels: Int[Tensor, "n"],
    times: int = 1,
) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"]]:
    """Queries and the objects that they answer for: the assignment that costs least (section 3.3).

    Args:
        logits: of the classes.
        masks: the queries' logits in random points.
        truths: the objects' masks there.
        labels: of the objects.
        times: queries for each object.
    """
    cross, dice = point_mask_costs(masks, truths)
    return assign_several(MASK * cross + DICE * dice - CLASS * logits.softmax(1)[:, labels], times)


def class_loss(logits: Float[Tensor, "b q classes"], wanted: Int[Tensor, "b q"], count: float) -> Float[Tensor, ""]:
    """Cross-entropy, in which "no object", the last class, counts little.

    Args:
        logits: of all queries.
        wanted: their classes, or `IGNORED`.
        count: of objects; with the weights of the others it is what the sum is divided by.
    """
    weights = logits.new_ones(logits.shape[2])
    weights[-1] = NO_OBJECT
    cross: Tensor = nn.functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), weights, ignore_index=IGNORED, reduction="sum"
    )
    return cross / (NO_OBJECT * wanted.numel() + (1 - NO_OBJECT) * count)


def outline(
    kernels: Float[Tensor, "q c"], maps: Float[Tensor, "c h w"], size_hw: Int[Tensor, "2"]
) -> tuple[Float[Tensor, "q 4"], Float[Tensor, "q"]]:
    """The box of each query's mask, in pixels of the input, and the mean probability in it.

    Args:
        kernels: of the queries.
        maps: of one image.
        size_hw: the image inside its padding; what is beyond it counts for neither.
    """
    seen_hw = size_hw.to(maps) / STRIDE
    down, across = (torch.arange(side, device=maps.device) + 0.5 < seen_hw[k] for k, side in enumerate(maps.shape[1:]))
    boxes_xyxy, means = [], []
    for (some,) in in_chunks(OUTLINED_AT_ONCE, kernels):
        logits = torch.einsum("qc,chw->qhw", some, maps)
        covered = (logits > 0) & down[:, None] & across
        boxes_xyxy.append(STRIDE * logit_extents(logits, seen_hw.flip(0)))
        means.append((logits.sigmoid() * covered).sum((1, 2)) / covered.sum((1, 2)).clamp(min=1))
    return torch.cat(boxes_xyxy), torch.cat(means)


# Variants


def _published(class_names: Sequence[str], settings: Settings, backbone: Backbone) -> Mask2Former:
    """The paper's network: six layers of the encoder, nine of the decoder, all 256 wide."""
    return Mask2Former(
        class_names,
        backbone,
        PixelDecoder(backbone.channels, 256, layers=6, inner=1024, heads=8, channels=256),
        MaskedDecoder(256, 256, settings.queries, 3, layers=9, heads=8, inner=2048),
        settings,
    )


def mask2former_r50(class_names: Sequence[str], settings: Settings | None = None) -> Mask2Former:
    """Mask2Former on ResNet-50."""
    return _published(class_names, settings or Settings(), ResNet())


def mask2former_swin_t(class_names: Sequence[str], settings: Settings | None = None) -> Mask2Former:
    """Mask2Former on Swin-T."""
    return _published(class_names, settings or Settings(), swin_tiny())


def mask2former_swin_s(class_names: Sequence[str], settings: Settings | None = None) -> Mask2Former:
    """Mask2Former on Swin-S."""
    return _published(class_names, settings or Settings(), swin_small())


def mask2former_swin_b(class_names: Sequence[str], settings: Settings | None = None) -> Mask2Former:
    """Mask2Former on Swin-B."""
    return _published(class_names, settings or Settings(), swin_base())


def mask2former_swin_l(class_names: Sequence[str], settings: Settings | None = None) -> Mask2Former:
    """Mask2Former on Swin-L, with 200 queries."""
    return _published(class_names, settings or Settings(queries=200), swin_large())


def mask2former_lite(class_names: Sequence[str], settings: Settings | None = None) -> Mask2Former:
    """Mask2Former for CPUs, on EfficientNet-Lite0, 128 wide."""
    settings, backbone = settings or Settings(queries=200, matched_before=3), EfficientNetLite(outputs=(1, 2, 4))
    return Mask2Former(
        class_names,
        backbone,
        PixelDecoder(backbone.channels, 128, layers=2, inner=512, heads=4, channels=64),
        MaskedDecoder(128, 64, settings.queries, 2, layers=4, heads=4, inner=512),
        settings,
    )


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], Mask2Former]] = {
    "mask2former_lite": mask2former_lite,
    "mask2former_r50": mask2former_r50,
    "mask2former_swin_t": mask2former_swin_t,
    "mask2former_swin_s": mask2former_swin_s,
    "mask2former_swin_b": mask2former_swin_b,
    "mask2former_swin_l": mask2former_swin_l,
}
