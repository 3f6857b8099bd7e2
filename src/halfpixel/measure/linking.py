"""Objects followed from frame to frame by the overlap of their masks.

As in SORT (Bewley et al. 2016, arXiv:1602.00763) objects move on as they did, and are paired one to one so that their
overlaps add up to the most; as in the IoU tracker (Bochinski et al. 2017, doi:10.1109/AVSS.2017.8078516) nothing but
overlap is looked at. Unlike both, masks overlap here and not boxes, and an object moves on by its last steps, without
a Kalman filter; one that is partly hidden goes on as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from halfpixel.errors import ImageError
from halfpixel.measure.pixel_masks import pixel_masks
from halfpixel.measure.track_rules import USUAL_RULES, TrackRules
from halfpixel.ops.assignment import Floats, Indices, assign_sparsely
from halfpixel.ops.mask_overlap import PlacedCrops, common_pixels
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

PARTLY_HIDDEN = 0.7
"""An object that is seen with less than this part of its area is taken to be partly hidden."""


@dataclass(frozen=True, eq=False)
class Followed:
    """The objects that are being followed, `n` of them, whatever came before.

    Attributes:
        track_ids: `[n]`, from 1.
        labels: `[n]`.
        masks: `n`, each as the object was last seen, or last seen whole where it is partly hidden now.
        centres_xy: `[n, 2]` pixels, the mean of the centres of such a mask's pixels; NaN for an empty mask.
        velocities_xy: `[n, 2]` pixels a frame, then: the mean of the last step and of what it was before that, so that
            trembling is not taken for movement; NaN for an object that was seen once.
        ages: `[n]` frames since then; 0 for the last frame.
        unseen: `[n]` frames since the object was last seen, be it in part.
        next_id: of an object that is new.
    """

    track_ids: Indices
    labels: Indices
    masks: CropMasks
    centres_xy: Floats
    velocities_xy: Floats
    ages: Indices
    unseen: Indices
    next_id: int = 1

    @classmethod
    def seen_first(cls, objects: Instances) -> Followed:
        """The objects of a frame, without numbers yet."""
        masks = replace(pixel_masks(objects), soft=None)
        centres = np.full((len(masks), 2), np.nan)
        for k, (crop, (x, y)) in enumerate(masks.placed()):
            rows, columns = np.nonzero(crop.numpy())
            if len(rows):
                centres[k] = x + columns.mean() + 0.5, y + rows.mean() + 0.5
        nothing, unknown = np.zeros(len(masks), dtype=np.int64), np.full((len(masks), 2), np.nan)
        return cls(nothing, objects.labels.numpy(), masks, centres, unknown, nothing, nothing)

    def __len__(self) -> int:
        return len(self.track_ids)

    def __getitem__(self, rows: Indices) -> Followed:
        chosen: dict[str, Any] = {name: getattr(self, name)[rows] for name in ARRAYS}
        return replace(self, masks=self.masks[torch.from_numpy(rows)], **chosen)

    def __add__(self, other: Followed) -> Followed:
        joined: dict[str, Any] = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in ARRAYS}
        return replace(self, masks=CropMasks.concatenate([self.masks, other.masks]), **joined)

    def expected(self) -> CropMasks:
        """The masks, moved by whole pixels as far as their velocities have led until now."""
        steps = np.rint(np.nan_to_num(self.velocities_xy) * self.ages[:, None]).astype(np.int64)
        return replace(self.masks, offsets_xy=self.masks.offsets_xy + torch.from_numpy(steps))


ARRAYS = ("track_ids", "labels", "centres_xy", "velocities_xy", "ages", "unseen")
"""Of `Followed`, those with a row for each object."""


def link_frames(frames: Iterable[Instances | None], rules: TrackRules = USUAL_RULES) -> Iterator[Instances | None]:
    """The same objects with `track_ids`, frame by frame; only one mask of each is kept.

    Args:
        frames: of one film, in order; None for a frame that could not be looked at.
        rules: when two objects are one.

    Raises:
        ImageError: frames of different sizes.
    """
    followed, frames_since = None, 1
    for objects in frames:
        if objects is None:
            frames_since += 1
            yield None
            continue
        followed = link(followed, objects, rules, frames_since)
        frames_since = 1
        yield with_track_ids(objects, followed)


def with_track_ids(objects: Instances, followed: Followed) -> Instances:
    """The objects of a frame with the numbers that `link` has found for them."""
    return replace(objects, track_ids=torch.from_numpy(followed.track_ids[: len(objects)].copy()))


def link(followed: Followed | None, objects: Instances, rules: TrackRules, frames_since: int = 1) -> Followed:
    """Find the objects of the next frame among those that are being followed.

    Two objects can be one if they are of one class and overlap enough, see `TrackRules`. Each is at most one of the
    others; among all ways to pair them, that with the largest sum of IoU is taken. Objects without masks overlap by
    their boxes.

    One that is seen with much less of its area than is to be expected, as something passes before it, is expected for
    some frames more (`max_gap`) as it was before, whole and on its way.

    Args:
        followed: what was seen until now; None before the first frame.
        objects: on the next frame.
        rules: when two objects are one.
        frames_since: how many frames after the last one; more than 1 where some could not be looked at.

    Returns:
        The frame's objects, in their order, followed by those that were missed and may come back.

    Raises:
        ImageError: a frame of another size than those before.
    """
    seen = Followed.seen_first(objects)
    if followed is None:
        followed = seen[np.arange(0)]
    if objects.size_hw != followed.masks.size_hw:
        raise ImageError(
            f"a frame of {_wide(objects.size_hw)} pixels in a film of {_wide(followed.masks.size_hw)}: its frames have "
            "to be of one size"
        )
    followed = replace(followed, ages=followed.ages + frames_since, unseen=followed.unseen + frames_since)
    followed = followed[np.flatnonzero(followed.unseen <= rules.max_gap + 1)]
    before, now, part_seen = _pairs(followed, seen, rules.min_iou)
    steps = (seen.centres_xy[now] - followed.centres_xy[before]) / followed.ages[before, None]
    velocities = followed.velocities_xy[before]
    seen.velocities_xy[now] = (steps + np.where(np.isnan(velocities), steps, velocities)) / 2
    hidden = (part_seen < PARTLY_HIDDEN) & (followed.ages[before] <= rules.max_gap)
    # of which object each row is: one of those seen, one that is partly hidden, one that was missed
    rows = np.arange(len(seen))
    rows[now[hidden]] = len(seen) + before[hidden]
    missed = np.setdiff1d(np.arange(len(followed)), before)
    found = (seen + followed)[np.concatenate([rows, len(seen) + missed])]
    found.unseen[: len(seen)] = 0
    found.track_ids[now] = followed.track_ids[before]
    new = np.setdiff1d(np.arange(len(seen)), now)
    found.track_ids[new] = followed.next_id + np.arange(len(new))
    return replace(found, next_id=followed.next_id + len(new))


def _wide(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]:,} x {size_hw[0]:,}"


def _pairs(followed: Followed, seen: Followed, min_iou: float) -> tuple[Indices, Indices, Floats]:
    """Which of those followed is which of those seen, and how large a part of its area that is."""
    a, b = PlacedCrops.of(followed.expected().placed()), PlacedCrops.of(seen.masks.placed())
    before, now, common_px = common_pixels(a, b)
    ious = common_px / np.maximum(a.areas_px[before] + b.areas_px[now] - common_px, 1)
    near = (ious >= min_iou) & (followed.labels[before] == seen.labels[now])
    before, now, ious = before[near], now[near], ious[near]
    kept = assign_sparsely(before, now, ious, (len(followed), len(seen)))
    before, now = before[kept], now[kept]
    return before, now, b.areas_px[now] / a.areas_px[before]
