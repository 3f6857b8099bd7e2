"""Images of touching cells whose true masks are known, for trying things and for documents that anyone can repeat.

They look a little like nuclei under a fluorescence microscope: bright blobs on a dark, noisy field. What is measured
on them shows how something works, not how well it does on anybody's own images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from halfpixel.errors import ArgumentError
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

CLASS_NAMES = ("nucleus",)

OVERLAP = 0.85
"""Touching cells are this much of the sum of their radii apart: pressed together, with no gap between them."""

GAP_PX = 3.0
TRIES = 200
BACKGROUND, PHOTONS = 0.06, 400.0


@dataclass(frozen=True)
class Cells:
    """One generated image.

    Attributes:
        picture: `[h, w, 3]` uint8, grey.
        objects: the cells and their true masks, which do not overlap; of a film with `track_ids`.
    """

    picture: npt.NDArray[np.uint8]
    objects: Instances


@dataclass(frozen=True)
class _Cell:
    x: float
    y: float
    radius: float
    stretch: float
    angle: float
    waves: tuple[float, float]


def touching_cells(
    size_hw: tuple[int, int],
    n: int,
    *,
    touching: float = 0.5,
    radius_px: tuple[float, float] = (7.0, 12.0),
    regions_xyxy: Sequence[tuple[float, float, float, float]] | None = None,
    seed: int = 0,
) -> Cells:
    """Draw cells, many of which touch another.

    Args:
        size_hw: of the image, in pixels.
        n: how many cells; fewer are placed where there is no room.
        touching: the share of cells that are laid against an earlier one, 0..1.
        radius_px: smallest and largest mean radius.
        regions_xyxy: boxes that hold all cells' centres; default the whole image.
        seed: of everything random.

    Raises:
        ArgumentError: a number out of range.
    """
    if min(size_hw) < 1 or n < 0 or not 0 <= touching <= 1 or not 0 < radius_px[0] <= radius_px[1]:
        raise ArgumentError(
            f"expected a size, a number and radii above 0 and a share in 0..1, got {size_hw}, {n}, {radius_px}, "
            f"{touching}"
        )
    rng = np.random.default_rng(seed)
    regions = np.array(regions_xyxy or [(0, 0, size_hw[1], size_hw[0])], dtype=np.float64)
    cells = _place(rng, regions, n, touching, radius_px)
    labels, depth = _draw(cells, size_hw)
    return Cells(_photograph(rng, labels, depth, _brightness(rng, len(cells))), _objects(labels))


def moving_cells(
    size_hw: tuple[int, int],
    n: int,
    frames: int,
    *,
    speed_px: tuple[float, float] = (0.5, 2.5),
    radius_px: tuple[float, float] = (7.0, 12.0),
    seed: int = 0,
) -> Iterator[Cells]:
    """Draw a film of cells that move straight on, each at its own speed; they come and go over the picture's edges.

    Where two meet they press on each other, and each hides what the other would show there. A cell's number in
    `track_ids` is the same in all frames.

    Args:
        size_hw: of the frames, in pixels.
        n: how many cells, some of which are outside of the picture at first; fewer are placed where there is no room.
        frames: how many.
        speed_px: slowest and fastest, in pixels a frame.
        radius_px: smallest and largest mean radius.
        seed: of everything random.

    Raises:
        ArgumentError: a number out of range.
    """
    if min(size_hw) < 1 or n < 0 or frames < 1 or not 0 <= speed_px[0] <= speed_px[1] or not radius_px[0] > 0:
        raise ArgumentError(
            f"expected a size, frames and radii above 0 and a speed of 0 or more, got {size_hw}, {n}, {frames}, "
            f"{speed_px}, {radius_px}"
        )
    rng = np.random.default_rng(seed)
    beside = radius_px[1] + speed_px[1] * frames / 4  # some are still to come
    around = np.array([[-beside, -beside, size_hw[1] + beside, size_hw[0] + beside]])
    cells = _place(rng, around, n, 0.0, radius_px)
    angles, speeds = rng.uniform(0, 2 * math.pi, len(cells)), rng.uniform(*speed_px, len(cells))
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * speeds[:, None]
    brightness = _brightness(rng, len(cells))
    for frame in range(frames):
        moved = [
            replace(cell, x=cell.x + frame * dx, y=cell.y + frame * dy)
            for cell, (dx, dy) in zip(cells, steps.tolist(), strict=True)
        ]
        labels, depth = _draw(moved, size_hw)
        numbers = np.unique(labels[labels > 0]).astype(np.int64)
        objects = replace(_objects(labels), track_ids=torch.from_numpy(numbers))
        yield Cells(_photograph(rng, labels, depth, brightness), objects)


def _objects(labels: npt.NDArray[np.int32]) -> Instances:
    masks = CropMasks.from_label_image(torch.from_numpy(labels))
    return Instances(
        size_hw=(labels.shape[0], labels.shape[1]),
        boxes_xyxy=masks.boxes_xyxy(),
        scores=torch.ones(len(masks)),
        labels=torch.zeros(len(masks), dtype=torch.int64),
        class_names=CLASS_NAMES,
        masks=masks,
    )


def _place(
    rng: np.random.Generator,
    regions: npt.NDArray[np.float64],
    n: int,
    touching: float,
    radius_px: tuple[float, float],
) -> list[_Cell]:
    """Cells that overlap no more than touching ones do."""
    areas = (regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])
    cells: list[_Cell] = []
    places = np.zeros((n, 3))  # x, y, radius
    for _ in range(n * TRIES):
        if len(cells) == n:
            break
        radius = rng.uniform(*radius_px)
        before = places[: len(cells)]
        against = bool(cells) and rng.random() < touching
        if against:
            x, y, other = before[rng.integers(len(before))]
            angle = rng.uniform(0, 2 * math.pi)
            x, y = x + OVERLAP * (radius + other) * math.cos(angle), y + OVERLAP * (radius + other) * math.sin(angle)
        else:
            left, top, right, bottom = regions[rng.choice(len(regions), p=areas / areas.sum())]
            x, y = rng.uniform(left, right), rng.uniform(top, bottom)
        inside = (regions[:, 0] <= x) & (x < regions[:, 2]) & (regions[:, 1] <= y) & (y < regions[:, 3])
        apart = np.hypot(before[:, 0] - x, before[:, 1] - y)
        nearest = OVERLAP * (before[:, 2] + radius) - 1e-6 if against else before[:, 2] + radius + GAP_PX
        if inside.any() and (apart >= nearest).all():
            places[len(cells)] = x, y, radius
            waves = tuple(rng.uniform(0, 2 * math.pi, 2).tolist())
            stretch, angle = rng.uniform(1.0, 1.25), rng.uniform(0, math.pi)
            cells.append(_Cell(x, y, radius, stretch, angle, (waves[0], waves[1])))
    return cells


def _draw(cells: Sequence[_Cell], size_hw: tuple[int, int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Which cell each pixel shows (0 for none, else its place in the list and one), and how deep inside it is, 0..1."""
    labels = np.zeros(size_hw, np.int32)
    nearest = np.ones(size_hw, np.float32)
    for number, cell in enumerate(cells, start=1):
        reach = math.ceil(1.4 * cell.radius) + 1
        top, left = max(int(cell.y) - reach, 0), max(int(cell.x) - reach, 0)
        window = np.s_[top : max(int(cell.y) + reach + 1, 0), left : max(int(cell.x) + reach + 1, 0)]
        height, width = labels[window].shape
        dy, dx = np.mgrid[top : top + height, left : left + width] + 0.5
        dx, dy = dx - cell.x, dy - cell.y
        along = (dx * math.cos(cell.angle) + dy * math.sin(cell.angle)) / math.sqrt(cell.stretch)
        across = (dy * math.cos(cell.angle) - dx * math.sin(cell.angle)) * math.sqrt(cell.stretch)
        around = np.arctan2(across, along)
        rim = 1 + 0.05 * np.cos(2 * around + cell.waves[0]) + 0.04 * np.cos(3 * around + cell.waves[1])
        distance = (np.hypot(along, across) / (cell.radius * rim)).astype(np.float32)
        closer = distance < nearest[window]  # cells that press on each other share the room between them
        labels[window][closer] = number
        nearest[window][closer] = distance[closer]
    return labels, 1 - nearest


def _brightness(rng: np.random.Generator, n: int) -> npt.NDArray[np.float32]:
    """Of the background and of `n` cells."""
    return np.concatenate([[0], rng.uniform(0.35, 0.85, n)]).astype(np.float32)


def _photograph(
    rng: np.random.Generator,
    labels: npt.NDArray[np.int32],
    depth: npt.NDArray[np.float32],
    brightness: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    """What a microscope makes of it: uneven brightness, blur and shot noise."""
    texture = gaussian_filter(rng.standard_normal(labels.shape).astype(np.float32), 2.0) * 0.35
    light = brightness[labels] * (0.55 + 0.45 * np.sqrt(depth)) * (1 + texture)
    light = gaussian_filter(light, 0.9) + BACKGROUND
    counts = rng.poisson(np.clip(light, 0, 1) * PHOTONS) / PHOTONS
    grey = np.clip(np.round(counts * 255), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
