"""From what a network says of its references (anchors, cells, queries, regions) to rows, and from rows to objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfpixel.ops import boxes
from halfpixel.ops.mask_nms import suppress_masks
from halfpixel.ops.paste import Alignment
from halfpixel.ops.rows import images_of
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks, SoftMasks

SMALLEST_PX = 1e-2
"""Detections with a shorter side are none."""


class Found(NamedTuple):
    """Detections of one image, best first."""

    boxes_xyxy: Float[Tensor, "m 4"]
    scores: Float[Tensor, "m"]
    labels: Int[Tensor, "m"]
    sources: Int[Tensor, "m"]
    """Which reference each comes from."""
    candidates: Int[Tensor, ""]
    """How many there were before the limit; -1 where not all numbers were finite."""
    saturated: Bool[Tensor, ""]
    """Whether there were more than the limit allows, or may have been."""


def detections(
    scores: Float[Tensor, "n classes"],
    boxes_xyxy: Float[Tensor, "n 4"] | Float[Tensor, "n classes 4"],
    size_hw: Int[Tensor, "2"],
    limits: Limits,
    iou_threshold: float | None,
    finite: Bool[Tensor, ""],
    considered: int | None = None,
) -> Found:
    """Every reference may become a detection of each class. Exports.

    Args:
        scores: 0..1.
        boxes_xyxy: of each reference, or of each of its classes, in pixels of the input.
        size_hw: the image inside its padding, to which boxes are clipped.
        limits: score threshold and detection limit.
        iou_threshold: detections of one class overlapping a better one's box by more than this are suppressed; None
            suppresses none.
        finite: whether all that scores and boxes were made from was.
        considered: only so many of the best are compared with each other; it should follow the image's area. Where it
            cut something off, the image is `saturated`.
    """
    boxes_xyxy = boxes.clip(boxes_xyxy, size_hw.to(boxes_xyxy.device))
    sources, labels = torch.nonzero(scores > limits.score_threshold.to(scores.device), as_tuple=True)
    candidates = boxes_xyxy[sources] if boxes_xyxy.ndim == 2 else boxes_xyxy[sources, labels]
    usable = boxes.large_enough(candidates, SMALLEST_PX)
    candidates, sources, labels = candidates[usable], sources[usable], labels[usable]
    passed = scores[sources, labels]
    cut = torch.zeros_like(finite)
    if considered is not None:
        cut = torch.tensor(passed.shape[0], device=cut.device) > considered
        best = passed.topk(torch.sym_min(considered, passed.shape[0])).indices
        candidates, sources, labels, passed = candidates[best], sources[best], labels[best], passed[best]
    if iou_threshold is None:
        total = passed.shape[0]
        best = passed.topk(torch.sym_min(limits.most, total)).indices
    else:
        kept = boxes.suppress(candidates, passed, labels, iou_threshold)
        total, best = kept.shape[0], kept[: limits.most]
    count = torch.tensor(total, device=finite.device)
    return Found(
        candidates[best],
        passed[best],
        labels[best],
        sources[best],
        torch.where(finite, count, -1),
        cut | (count > limits.detections.to(count.device)),
    )


def as_rows(found: Sequence[Found]) -> dict[str, Tensor]:
    """The rows `boxes_xyxy`, `scores`, `labels` and `image_index`: all images, one after the other."""
    rows = {name: torch.cat([getattr(one, name) for one in found]) for name in ("boxes_xyxy", "scores", "labels")}
    return rows | {"image_index": images_of([one.scores for one in found])}


def before_mask_suppression(limits: Limits, mask_iou: float | None) -> Limits:
    """Twice the limit where masks suppress each other in the end: that must not leave fewer than are wanted."""
    return limits if mask_iou is None else limits._replace(detections=2 * limits.detections)


@dataclass(frozen=True)
class RowRules:
    """How the rows of an image become objects.

    Attributes:
        class_names: class 0 is the first real one.
        candidates: names of the columns of the output `candidates`.
        alignment: how soft masks become pixels.
        mask_margin: soft masks cover each box widened by this share of its sides, on every side; the box of an object
            is then its mask's.
        mask_iou: suppress by the overlap of the masks; None to leave it out.
    """

    class_names: tuple[str, ...]
    candidates: tuple[str, ...]
    alignment: Alignment = "half_pixel"
    mask_margin: float = 0.0
    mask_iou: float | None = None

    def objects(
        self, outputs: Mapping[str, Tensor], k: int, size: Resized, limit: int, maps: Sequence[Tensor] | None
    ) -> Instances:
        """Objects of the k-th image.

        Args:
            outputs: of `Network.forward`, on the CPU.
            k: which image.
            size: of it, before and after resizing.
            limit: keep so many at most, the best ones.
            maps: of each of the image's rows probabilities on a grid that covers its (widened) box; None for boxes
                alone.
        """
        rows = of_image(outputs, k)
        factor_y, factor_x = (a / b for a, b in zip(size.original_hw, size.network_hw, strict=True))
        boxes_xyxy = outputs["boxes_xyxy"][rows].float() * torch.tensor([factor_x, factor_y, factor_x, factor_y])
        masks = None
        if maps is not None:
            soft = SoftMasks(tuple(maps), boxes.expand(boxes_xyxy, self.mask_margin), self.alignment)
            masks = CropMasks.from_soft(soft, size.original_hw)
            if self.mask_margin:  # masks that may correct their boxes do
                boxes_xyxy = torch.where((masks.areas_px() > 0)[:, None], masks.boxes_xyxy(), boxes_xyxy)
        objects = Instances(
            size_hw=size.original_hw,
            boxes_xyxy=boxes_xyxy,
            scores=outputs["scores"][rows].float(),
            labels=outputs["labels"][rows],
            class_names=self.class_names,
            masks=masks,
            saturated=bool(outputs["saturated"][k]),
            candidates=dict(zip(self.candidates, outputs["candidates"][k].tolist(), strict=True)),
        )
        if masks is not None and self.mask_iou is not None:
            kept = suppress_masks(masks.crops, masks.offsets_xy, objects.scores, objects.labels, self.mask_iou)
            objects = objects[kept]
        return replace(objects[:limit], saturated=objects.saturated or len(objects) > limit)


def of_image(outputs: Mapping[str, Tensor], k: int) -> Int[Tensor, "m"]:
    """The rows of the k-th image."""
    return torch.nonzero(outputs["image_index"] == k).ravel()
