"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597) and connected components: what came before Mask R-CNN.

The network says of every pixel which class it shows, and an object is what hangs together. It cannot tell two touching
objects of a class from one. With `Settings(boundary=True)` it also marks the outlines as a class of their own, as
Caicedo et al. 2019 (doi:10.1002/cyto.a.23863) do for nuclei: objects then are the insides, grown back over their
outlines by a watershed.

Weights: no published ones are converted.

Deviations from the paper: the contracting path is EfficientNet-Lite0 with weights of ImageNet, down to stride 16;
convolutions are padded, so the map is as large as the image; nearest upsampling takes the place of up-convolutions;
instead of a weight map that favours gaps between objects there is the soft Dice loss (Milletari et al. 2016,
arXiv:1606.04797) beside cross-entropy.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from msgspec import Meta
from torch import Tensor, nn

from halfpixel.errors import ModelFileError
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite
from halfpixel.nn.conv_blocks import ConvBlock, conv_stack
from halfpixel.nn.losses import mean_count
from halfpixel.nn.network import Axis, Outputs, Semantic
from halfpixel.structures.field_check import check_fields
from halfpixel.structures.images import ImageBatch, Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks, SoftMasks
from halfpixel.structures.targets import Targets

UNKNOWN = -1
"""A pixel that is not trained on."""


SOFT_MARGIN, LEAST_MARGIN_PX = 0.25, 4
"""How far the map of an object reaches beyond its box: a share of its sides, and at least so many pixels."""

JUST_ABOVE_HALF = float(np.nextafter(np.float32(0.5), np.float32(1)))


@dataclass(frozen=True)
class Settings:
    """What is decided about a network besides its weights.

    Attributes:
        boundary: outlines are a class of their own, so that touching objects can be told apart.
        smallest_px: components of fewer pixels of the image are noise.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    boundary: bool = False
    smallest_px: Annotated[int, Meta(ge=0, le=10**9)] = 10

    def __post_init__(self) -> None:
        check_fields(self)


class Expansion(nn.Module):
    """One step of the expanding path: twice the size, joined with the map of that size, two convolutions."""

    def __init__(self, inputs: int, skipped: int, outputs: int) -> None:
        super().__init__()
        self.convs = conv_stack(inputs + skipped, (outputs, outputs))

    def forward(self, x: Float[Tensor, "b c h w"], skipped: Float[Tensor, "b d i j"]) -> Float[Tensor, "b e i j"]:
        """The finer map has twice the sides of the coarser."""
        x = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        out: Tensor = self.convs(torch.cat([x, skipped], dim=1))
        return out


class UNet(Semantic):
    """The network.

    Args:
        class_names: class 0 is the first real one.
        backbone: the contracting path: gives feature maps at strides 2, 4, 8, 16.
        widths: channels of the expanding path at strides 8, 4, 2, 1.
        settings: see there.
    """

    layout: Mapping[str, Axis] = {"probabilities": "map"}
    output_layers = ("logits",)

    def __init__(
        self, class_names: Sequence[str], backbone: EfficientNetLite, widths: Sequence[int], settings: Settings
    ) -> None:
        super().__init__()
        self.class_names = tuple(class_names)
        self.backbone = backbone
        self.settings: Settings = settings
        self.first = ConvBlock(3, widths[-1])  # sees single pixels, which the contracting path does not
        skipped = (*reversed(backbone.channels[:-1]), widths[-1])
        coarse_to_fine = pairwise((backbone.channels[-1], *widths))
        self.expansions = nn.ModuleList(Expansion(a, s, b) for (a, b), s in zip(coarse_to_fine, skipped, strict=True))
        self.set_classes(len(class_names))

    def set_classes(self, classes: int) -> None:
        """See `Network.set_classes`: the last layer."""
        self.logits = nn.Conv2d(self.first.conv.out_channels, 1 + classes + self.settings.boundary, 1)
        nn.init.normal_(self.logits.weight, std=0.01)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def forward(self, images: Float[Tensor, "b 3 h w"], sizes_hw: Int[Tensor, "b 2"], limits: Limits) -> Outputs:
        """Say of every pixel what it shows.

        Args:
            images: normalised, padded to multiples of 16.
            sizes_hw: true sizes inside the padding; what is said of the padding means nothing.
            limits: for `decode` alone.

        Returns:
            The map `probabilities` `[b, k, h, w]`: background, the classes, and with `boundary` the outlines; they add
            up to 1.
        """
        return {"probabilities": self._pixel_logits(images).softmax(dim=1)}

    def foreground(self, outputs: Outputs) -> Float[Tensor, "b h w"]:
        """See `Semantic.foreground`."""
        return 1 - outputs["probabilities"][:, 0]

    def _pixel_logits(self, images: Tensor) -> Float[Tensor, "b k h w"]:
        maps: list[Tensor] = [self.first(images), *self.backbone(images)]
        x = maps.pop()
        for expansion in self.expansions:
            x = expansion(x, maps.pop())
        logits: Tensor = self.logits(x)
        return logits.float()

    def losses(self, images: ImageBatch, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """The two terms: `cross_entropy`, a mean over pixels, and `dice`, a mean over images and classes."""
        logits = self._pixel_logits(images.tensor)
        truth = torch.stack([self._truth(target, images.tensor.shape[2:]) for target in targets]).to(logits.device)
        known = truth != UNKNOWN
        entropy = nn.functional.cross_entropy(logits, truth, ignore_index=UNKNOWN, reduction="sum")
        wanted = nn.functional.one_hot(truth.clamp(min=0), logits.shape[1])[..., 1:].permute(0, 3, 1, 2)
        said = logits.softmax(dim=1)[:, 1:] * known[:, None]
        overlap, total = (said * wanted).sum((2, 3)), (said + wanted * known[:, None]).sum((2, 3))
        dice = 1 - (2 * overlap + 1) / (total + 1)
        return {
            "cross_entropy": entropy / mean_count(int(known.sum()), logits.device),
            "dice": dice.sum() / mean_count(dice.numel(), logits.device),
        }

    def _truth(self, target: Targets, padded_hw: Sequence[int]) -> Int[Tensor, "h w"]:
        """The class of each pixel, 0 for background; of padding and crowd regions unknown."""
        objects = target.label_map()
        truth = torch.cat([torch.zeros(1, dtype=torch.int64), target.labels.cpu() + 1])[objects]
        if self.settings.boundary:
            truth[_inner_boundaries(objects)] = 1 + len(self.class_names)
        for x0, y0, x1, y1 in target.ignored_xyxy.round().long().tolist():
            truth[y0:y1, x0:x1][objects[y0:y1, x0:x1] == 0] = UNKNOWN
        height, width = target.size_hw
        return nn.functional.pad(truth, (0, padded_hw[1] - width, 0, padded_hw[0] - height), value=UNKNOWN)

    def decode(self, outputs: Outputs, sizes: Sequence[Resized], limits: Limits) -> list[Instances]:
        """Objects of each image: connected pixels of one class, in pixels of the original image. Uses no weights.

        An object's score is the mean probability, over its pixels, that they show its class (or an outline).

        Args:
            outputs: of `forward`.
            sizes: of each image, before and after resizing.
            limits: score threshold and detection limit.

        Raises:
            ModelFileError: there are probabilities of other classes than the network has.
        """
        found, kinds = [], outputs["probabilities"].shape[1]
        if kinds != self.logits.out_channels:  # a graph in a file may say anything
            raise ModelFileError(f"probabilities of {kinds} kinds of pixels, expected {self.logits.out_channels}")
        for probabilities, size in zip(outputs["probabilities"].detach().cpu(), sizes, strict=True):
            height, width = size.network_hw
            cut = probabilities[None, :, :height, :width].float()
            pixels = nn.functional.interpolate(cut, size=size.original_hw, mode="bilinear")[0]
            found.append(self._objects(pixels, float(limits.score_threshold), limits.most))
        return found

    def _objects(self, probabilities: Float[Tensor, "k h w"], threshold: float, limit: int) -> Instances:
        """Components, best score first."""
        from skimage.measure import label as connected_components  # slow to import, and Mask R-CNN needs none of it

        classes = len(self.class_names)
        kinds = probabilities.argmax(dim=0).numpy()
        masks, labels, scores = [CropMasks.empty(kinds.shape)], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
        outline = probabilities[1 + classes].numpy() if self.settings.boundary else None
        whole = kinds if outline is None else _nearest_class(probabilities, kinds)
        for k in range(classes):
            said = probabilities[1 + k].numpy()
            own = probabilities[1 + k] if outline is None else torch.maximum(probabilities[1 + k], probabilities[-1])
            others = torch.cat([probabilities[: 1 + k], probabilities[2 + k : 1 + classes]]).amax(dim=0)
            if outline is None:
                components = connected_components(kinds == 1 + k, connectivity=1)
            else:
                components = _grown(kinds == 1 + k, whole == 1 + k, outline)
                said = said + outline
            sizes_px = np.bincount(components.ravel())
            sums = np.bincount(components.ravel(), weights=said.ravel())
            kept = np.flatnonzero(sizes_px >= self.settings.smallest_px)
            kept = kept[kept > 0]
            numbers = np.zeros(len(sizes_px), np.int32)
            numbers[kept] = np.arange(1, len(kept) + 1)
            objects = torch.from_numpy(numbers[components])
            masks.append(_with_soft(CropMasks.from_label_image(objects), objects, own / (own + others)))
            labels.append(np.full(len(kept), k))
            scores.append((sums[kept] / sizes_px[kept]).astype(np.float32).clip(0, 1))
        return _best(masks, np.concatenate(labels), np.concatenate(scores), self.class_names, threshold, limit)


def _inner_boundaries(objects: Int[Tensor, "h w"]) -> Tensor:
    """Pixels of objects that have a pixel of something else among their eight neighbours."""
    numbers = objects[None].float()
    edged = nn.functional.pad(numbers[None], (1, 1, 1, 1), mode="replicate")[0]
    highest = nn.functional.max_pool2d(edged, 3, stride=1)
    lowest = -nn.functional.max_pool2d(-edged, 3, stride=1)
    return ((highest != lowest) & (numbers > 0))[0]


def _nearest_class(probabilities: Tensor, kinds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The class of each pixel, outlines being given to the likeliest class beside them; 0 is background."""
    likeliest = probabilities[1:-1].argmax(dim=0).numpy() + 1
    nearest: npt.NDArray[np.int64] = np.where(kinds == len(probabilities) - 1, likeliest, kinds)
    return nearest


def _grown(
    inside: npt.NDArray[np.bool_], whole: npt.NDArray[np.bool_], outline: npt.NDArray[np.float32]
) -> npt.NDArray[np.int32]:
    """Components of `inside` grown over `whole`; what is whole and has nothing inside is an object, too."""
    from skimage.measure import label as connected_components
    from skimage.segmentation import watershed

    seeds = connected_components(inside, connectivity=1)
    components = connected_components(whole, connectivity=1)
    with_seed = np.zeros(components.max() + 1, dtype=bool)
    with_seed[components[inside]] = True
    lone = ~with_seed[components] & whole
    seeds = np.where(lone, components + seeds.max(), seeds)
    grown: npt.NDArray[np.int32] = watershed(outline, seeds, mask=whole)
    return grown


def _with_soft(masks: CropMasks, objects: Int[Tensor, "h w"], share: Float[Tensor, "h w"]) -> CropMasks:
    """The same masks with a map of how likely each pixel in and around an object's box is the object's.

    Above one half the maps have the very pixels of the masks, and nowhere those of another object.

    Args:
        masks: of the objects, in the order of their numbers.
        objects: 0 is none, k + 1 the k-th.
        share: what the network gives the class, as a part of that and what it gives the likeliest other one.
    """
    height, width = masks.size_hw
    maps, boxes = [], []
    for k, (crop, (x, y)) in enumerate(masks.placed()):
        around_y, around_x = (max(LEAST_MARGIN_PX, math.ceil(SOFT_MARGIN * side)) for side in crop.shape)
        top, bottom = max(y - around_y, 0), min(y + crop.shape[0] + around_y, height)
        left, right = max(x - around_x, 0), min(x + crop.shape[1] + around_x, width)
        whose, said = objects[top:bottom, left:right], share[top:bottom, left:right]
        own = torch.where(whose == k + 1, said.clamp(min=JUST_ABOVE_HALF), said.clamp(max=0.5))
        maps.append(own.masked_fill((whose != 0) & (whose != k + 1), 0.0))
        boxes.append((left, top, right, bottom))
    soft = SoftMasks(tuple(maps), torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    return dataclasses.replace(masks, soft=soft)


def _best(
    masks: Sequence[CropMasks],
    labels: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    class_names: tuple[str, ...],
    threshold: float,
    limit: int,
) -> Instances:
    """The objects above the threshold, by descending score, the best up to the limit."""
    every = CropMasks.concatenate(masks)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] > threshold]
    best = torch.from_numpy(order[:limit])
    chosen = every[best]
    return Instances(
        size_hw=every.size_hw,
        boxes_xyxy=chosen.boxes_xyxy(),
        scores=torch.from_numpy(scores)[best],
        labels=torch.from_numpy(labels)[best],
        class_names=class_names,
        masks=chosen,
        saturated=len(order) > limit,
        candidates={"components": len(every), "detections": len(order)},
    )


# Variants


def unet_lite(class_names: Sequence[str], settings: Settings | None = None) -> UNet:
    """U-Net for CPUs, on EfficientNet-Lite0 down to stride 16."""
    backbone = EfficientNetLite(outputs=(0, 1, 2, 4))
    return UNet(class_names, backbone, (64, 48, 32, 16), settings or Settings())


def unet_lite_boundary(class_names: Sequence[str], settings: Settings | None = None) -> UNet:
    """`unet_lite` with outlines as a class of their own."""
    return unet_lite(class_names, settings or Settings(boundary=True))


VARIANTS: dict[str, Callable[[Sequence[str], Settings | None], UNet]] = {
    "unet_lite": unet_lite,
    "unet_lite_boundary": unet_lite_boundary,
}
