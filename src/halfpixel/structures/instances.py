"""The one result type: the objects of one image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfpixel.structures.masks import CropMasks, Index, rows_of
from halfpixel.structures.novelty import is_unlike


@dataclass(frozen=True, eq=False)
class PrefilterPass:
    """Where a first pass let the network look.

    Attributes:
        regions_xyxy: boxes in whole pixels of the image that do not overlap; nothing was looked for outside of them.
        seconds: what first pass and network took.
        seconds_saved: about what the network alone would have taken more, by the area it was spared; negative when
            the first pass took longer than it saved. None where it was spared everything: nothing to judge by.
    """

    regions_xyxy: tuple[tuple[int, int, int, int], ...]
    seconds: float
    seconds_saved: float | None

    @property
    def area_px(self) -> int:
        """The pixels that were looked at."""
        return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in self.regions_xyxy)


@dataclass(frozen=True, eq=False)
class Instances:
    """Objects found in (or annotated on) one image, sorted by descending score when predicted.

    Attributes:
        size_hw: the image, in pixels.
        boxes_xyxy: `[n, 4]` float pixels (left, top, right, bottom); pixel j covers [j, j + 1).
        scores: `[n]` in 0..1.
        labels: `[n]` indices into `class_names`; 0 is the first real class.
        class_names: the names.
        masks: one mask per object, or None for a detector without masks.
        score_threshold: the threshold these objects passed, if one was applied.
        saturated: a detection limit cut objects off: there may be more than are listed.
        candidates: how many the network was considering before each of its cuts, by the name of the cut, where it
            tells: for Mask R-CNN `proposals` (before the best were kept) and `detections` (before the limit).
        prefilter: where the network looked, where a first pass decided that.
        scale: by which factor the image was enlarged for the network; None where it was brought to one size, or where
            no network looked.
        found_diameter_px: of the objects, in pixels of the image, as a `SizeFinder` found it before the network
            looked; None where none did, or it found too little.
        novelty: how unlike the image is to those that the model was trained or calibrated on, see
            `halfpixel.structures.novelty.Novelty.of`; of an image in tiles that of the middle object, and without
            objects of the middle tile. None where the model cannot tell.
        track_ids: `[n]` whole numbers from 1, the same for an object in all frames of a film; None where objects were
            not followed.
    """

    size_hw: tuple[int, int]
    boxes_xyxy: Float[Tensor, "n 4"]
    scores: Float[Tensor, "n"]
    labels: Int[Tensor, "n"]
    class_names: tuple[str, ...]
    masks: CropMasks | None = None
    score_threshold: float | None = None
    saturated: bool = False
    candidates: Mapping[str, int] | None = None
    prefilter: PrefilterPass | None = None
    scale: float | None = None
    found_diameter_px: float | None = None
    novelty: float | None = None
    track_ids: Int[Tensor, "n"] | None = None

    def __post_init__(self) -> None:
        n = len(self.boxes_xyxy)
        lengths = {"scores": len(self.scores), "labels": len(self.labels)}
        if self.masks is not None:
            lengths["masks"] = len(self.masks)
            if self.masks.size_hw != self.size_hw:
                raise ValueError(f"masks are on a canvas of {self.masks.size_hw}, the image has {self.size_hw}")
        if self.track_ids is not None:
            lengths["track_ids"] = len(self.track_ids)
        for name, length in lengths.items():
            if length != n:
                raise ValueError(f"{n} boxes but {length} {name}")
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.class_names):
            raise ValueError(f"labels must be in 0..{len(self.class_names) - 1}, the indices of the class names")

    @classmethod
    def concatenate(cls, parts: Sequence[Instances]) -> Instances:
        """The objects of several results on one image, one after the other; what they share is that of the first.

        Raises:
            ValueError: images of different sizes, other class names, or masks only in some.
        """
        first = parts[0]
        if any((one.size_hw, one.class_names) != (first.size_hw, first.class_names) for one in parts):
            raise ValueError("results on images of different sizes, or with other classes")
        masks = [one.masks for one in parts if one.masks is not None]
        if 0 < len(masks) < len(parts):
            raise ValueError("some results have masks and some have none")
        counted = [one.candidates for one in parts if one.candidates is not None]
        novelties = [(one.novelty, len(one)) for one in parts if one.novelty is not None]
        tracks = [one.track_ids for one in parts if one.track_ids is not None]
        return replace(
            first,
            boxes_xyxy=torch.cat([one.boxes_xyxy for one in parts]),
            scores=torch.cat([one.scores for one in parts]),
            labels=torch.cat([one.labels for one in parts]),
            masks=CropMasks.concatenate(masks) if masks else None,
            saturated=any(one.saturated for one in parts),
            candidates=dict(sum((Counter(one) for one in counted), Counter())) if counted else None,
            novelty=_of_middle_object(novelties),
            track_ids=torch.cat(tracks) if len(tracks) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.boxes_xyxy)

    @property
    def unlike_training(self) -> bool | None:
        """Whether the image is unlike those that the model was trained or calibrated on; None where it cannot tell."""
        return is_unlike(self.novelty)

    def __getitem__(self, index: Index) -> Instances:
        """Select by a boolean or integer tensor, a slice or one number, e.g. `objects[objects.scores > 0.7]`."""
        rows = rows_of(index, len(self))
        return replace(
            self,
            boxes_xyxy=self.boxes_xyxy[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else self.masks[rows],
            track_ids=None if self.track_ids is None else self.track_ids[rows],
        )

    def __repr__(self) -> str:
        found = ", ".join(f"{count} {name}" for name, count in self.counts().items() if count) or "nothing"
        height, width = self.size_hw
        return f"Instances({found}, on {width} x {height} pixels{', saturated' if self.saturated else ''})"

    def __iter__(self) -> Iterator[Instances]:
        """The objects one by one."""
        return (self[k] for k in range(len(self)))

    def above(self, threshold: float) -> Instances:
        """The objects that score at least `threshold`; a stricter threshold applied before stays in force.

        A detection limit cuts off the lowest scores: when some of those that are left are under the threshold, it cut
        nothing off above it, and the result is not saturated.
        """
        strictest = max(threshold, self.score_threshold or 0.0)
        passed = self.scores >= threshold
        saturated = self.saturated and bool(passed.all())
        return replace(self[passed], score_threshold=strictest, saturated=saturated)

    def without_probabilities(self) -> Instances:
        """The same objects with binary masks only: the probability maps are the larger part of small ones."""
        return replace(self, masks=self.masks and replace(self.masks, soft=None))

    def counts(self) -> dict[str, int]:
        """Objects of each class, zeros included, in the order of `class_names`."""
        found = Counter(self.labels.tolist())
        return {name: found[k] for k, name in enumerate(self.class_names)}

    def translate(self, dx: int, dy: int, size_hw: tuple[int, int]) -> Instances:
        """The same objects moved by whole pixels onto another canvas."""
        shift = torch.tensor([dx, dy, dx, dy], dtype=self.boxes_xyxy.dtype)
        masks = None if self.masks is None else self.masks.translate(dx, dy, size_hw)
        return replace(self, size_hw=size_hw, boxes_xyxy=self.boxes_xyxy + shift, masks=masks)


def _of_middle_object(novelties: Sequence[tuple[float, int]]) -> float | None:
    """The median over the objects of several parts of an image, or where there are none over the parts.

    Args:
        novelties: of each part, and how many objects it has.
    """
    each = [novelty for novelty, objects in novelties for _ in range(objects)]
    each = each or [novelty for novelty, _ in novelties]
    return median(each) if each else None
