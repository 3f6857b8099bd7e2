"""What is around the nuclei of a stained section: fibres, gaps, and things that are not nuclei."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from halfpixel.train.augment.texture import clouds, fibres

FREE = 0.08
"""Nothing else lies on objects, nor closer to one than this share of a diameter."""
MOST_CLUTTER = 0.12
"""Things that are not nuclei, for each square of a nucleus's diameter, at most."""


class Clutter(NamedTuple):
    """`[h, w]` units of dyes in things that are not nuclei, 1 for a usual one, and where tissue has holes."""

    bodies: Tensor
    """Of the tissue's dye."""
    blood: Tensor
    patches: Tensor
    faint: Tensor
    """Of the nuclei's own dye, in places out of focus."""
    kept: Tensor
    """0 in holes, 1 elsewhere."""


class Thing(NamedTuple):
    """A sort of thing; lengths are in diameters of a nucleus."""

    where: str
    """The field of `Clutter`."""
    radius: tuple[float, float]
    amount: tuple[float, float]
    edge: float
    """Over how much of its radius it ends."""
    hollow: float = 0.0
    """How much paler its middle is."""


THINGS = (
    Thing("bodies", (0.6, 1.5), (0.2, 0.9), 0.35),  # of cells
    Thing("blood", (0.3, 0.5), (0.4, 1.3), 0.12, 0.35),  # red cells
    Thing("blood", (0.4, 1.2), (0.3, 1.0), 0.3),  # cells full of granules
    Thing("patches", (0.5, 1.8), (0.15, 0.9), 0.5),  # cells that took the other dye outside of their nuclei
    Thing("patches", (0.05, 0.2), (0.5, 1.6), 0.4),  # specks of it, pigment
    Thing("faint", (0.4, 0.7), (0.08, 0.3), 1.0),
    Thing("faint", (0.3, 0.6), (0.05, 0.15), 0.15, 0.8),  # outlines of emptied cells
    Thing("kept", (0.4, 1.5), (0.8, 1.0), 0.1),  # vacuoles
)


def tissue(distance_px: Tensor, diameter_px: float, gaps: float, generator: torch.Generator) -> Tensor:
    """`[h, w]` how dense tissue is, around 1: clouds, winding fibres, grains, and gaps without any.

    Args:
        distance_px: `[h, w]` of each pixel from the nearest object, 0 on one: around objects tissue stays.
        diameter_px: of a nucleus, which everything is measured by.
        gaps: share of the picture where there is none.
        generator: the source of randomness.
    """
    size_hw = (distance_px.shape[0], distance_px.shape[1])

    def cloudy(grain: float) -> Tensor:
        return clouds(size_hw, grain * diameter_px, generator)

    uneven, fibrous, grainy, winding, halo, soft, turn = torch.rand(7, generator=generator).tolist()
    bend = torch.stack([cloudy(4.0), cloudy(4.0)]) * (1.5 * diameter_px * winding)
    lines = fibres(0.4 * diameter_px, 4 + 6 * fibrous, math.pi * turn, bend, generator)
    lines = lines + 0.6 * fibres(0.15 * diameter_px, 10.0, math.pi * turn + 0.15, bend, generator)
    density: Tensor = 1 + 0.3 * uneven * cloudy(1.5) + 0.25 * fibrous**2 * lines + 0.2 * grainy * cloudy(0.2)
    if gaps > 0:
        hollow = cloudy(3.5) + 0.35 * cloudy(0.9) + 0.1 * lines
        edge = torch.quantile(hollow[::4, ::4], 1 - gaps)
        far = 1 - torch.exp(-(distance_px / (diameter_px * (0.1 + 0.6 * halo))).square())
        density = density * (1 - torch.sigmoid((hollow - edge) / (0.04 + 0.3 * soft**2)) * far)
    return density.clamp(min=0)


def clutter(distance_px: Tensor, diameter_px: float, generator: torch.Generator) -> Clutter:
    """Blobs, discs, specks and holes between the objects.

    Args:
        distance_px: `[h, w]` of each pixel from the nearest object, 0 on one.
        diameter_px: of a nucleus.
        generator: the source of randomness.
    """
    height, width = distance_px.shape
    maps = {name: torch.zeros(height, width) for name in Clutter._fields}
    outline = clouds((height, width), 0.4 * diameter_px, generator)
    common = torch.rand(len(THINGS), generator=generator) ** 3
    most = MOST_CLUTTER * float(torch.rand(1, generator=generator)) * height * width / diameter_px**2
    for thing, share in zip(THINGS, common.tolist(), strict=True):
        for y, x, size, amount, shape, angle in torch.rand(round(share * most), 6, generator=generator).tolist():
            radius = diameter_px * _between(thing.radius, size)
            _add(
                maps[thing.where],
                thing,
                (y * height, x * width),
                radius,
                _between(thing.amount, amount),
                (1 + shape**2, math.pi * angle),
                outline,
            )
    free = (distance_px / (FREE * diameter_px)).clamp(max=1)
    maps = {name: amounts * free for name, amounts in maps.items()}
    maps["kept"] = 1 - maps["kept"].clamp(max=1)
    return Clutter(**maps)


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * share


def _add(
    canvas: Tensor,
    thing: Thing,
    centre_yx: tuple[float, float],
    radius: float,
    amount: float,
    longer: tuple[float, float],
    outline: Tensor,
) -> None:
    """Draw one thing: longer by a factor along an angle, its outline as wavy as a texture is."""
    (y, x), (stretch, angle) = centre_yx, longer
    reach = math.ceil(radius * (stretch + 1)) + 2
    rows = slice(max(int(y) - reach, 0), int(y) + reach)
    columns = slice(max(int(x) - reach, 0), int(x) + reach)
    part = canvas[rows, columns]
    dy = torch.arange(rows.start, rows.start + part.shape[0])[:, None] + 0.5 - y
    dx = torch.arange(columns.start, columns.start + part.shape[1]) + 0.5 - x
    along = (dx * math.cos(angle) + dy * math.sin(angle)) / stretch
    across = dy * math.cos(angle) - dx * math.sin(angle)
    off = torch.hypot(along, across) / radius + 0.1 * outline[rows, columns]
    inside = ((1 - off) / max(thing.edge, 1 / radius) + 0.5).clamp(0, 1)
    part += amount * inside * (1 + 0.3 * outline[rows, columns]) * (1 - thing.hollow * (1 - off.clamp(0, 1) ** 2))
