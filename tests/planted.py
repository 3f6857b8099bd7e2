"""Films whose truth is known: discs that move, those in front hiding those behind."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from masked import disc, with_masks

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

Way = Callable[[int], tuple[float, float] | None]
"""Where a disc is in a frame (from 0), or that it is not there."""


@dataclass(frozen=True)
class Planted:
    """A disc on its way; earlier ones of a list are in front of later ones."""

    way: Way
    radius: float = 6.0
    label: int = 0


def straight(start: tuple[float, float], step: tuple[float, float], missing: Sequence[int] = ()) -> Way:
    """The way of a disc that moves evenly, and is missed in some frames."""

    def way(frame: int) -> tuple[float, float] | None:
        return None if frame in missing else (start[0] + step[0] * frame, start[1] + step[1] * frame)

    return way


def film(
    discs: Sequence[Planted], n: int, size_hw: tuple[int, int] = (80, 120), names: tuple[str, ...] = ("cell",)
) -> Iterator[tuple[Instances, list[int]]]:
    """The visible discs of each frame in a random order, and which of the planted ones each is."""
    rng = np.random.default_rng(0)
    for frame in range(n):
        free = np.ones(size_hw, dtype=bool)
        seen: list[tuple[int, np.ndarray]] = []
        for number, one in enumerate(discs):
            if (at := one.way(frame)) is not None:
                mask = disc(one.radius, at, size_hw) & free
                free &= ~mask
                if mask.any():
                    seen.append((number, mask))
        rng.shuffle(seen)
        numbers = [number for number, _ in seen]
        dense = np.stack([mask for _, mask in seen]) if seen else np.zeros((0, *size_hw), dtype=bool)
        masks = CropMasks.from_dense(torch.from_numpy(dense))
        yield with_masks(masks, names, [discs[number].label for number in numbers] or None), numbers


def ids_of(frames: Sequence[tuple[Instances, list[int]]], linked: Sequence[Instances | None]) -> dict[int, list[int]]:
    """For each planted disc the track's number in every frame that shows it."""
    found: dict[int, list[int]] = {}
    for (_, numbers), objects in zip(frames, linked, strict=True):
        if objects is not None:
            assert objects.track_ids is not None
            for number, track in zip(numbers, objects.track_ids.tolist(), strict=True):
                found.setdefault(number, []).append(track)
    return found


def switches(ids: dict[int, list[int]]) -> int:
    """How often a disc's number changes, or is another disc's."""
    changes = sum(int(a != b) for track in ids.values() for a, b in itertools.pairwise(track))
    shared = sum(len({*a} & {*b}) for k, a in ids.items() for m, b in ids.items() if k < m)
    return changes + shared
