"""Affine maps of the plane: `[2, 3]` float64 tensors that act on continuous pixel coordinates (x, y).

Pixel (i, j) covers [j, j + 1) x [i, i + 1), so its centre lies at (j + 0.5, i + 0.5). Maps are small and stay on the
CPU; only what they are applied to may be elsewhere.
"""

import math
from functools import reduce

import torch
from jaxtyping import Float, Float64
from torch import Tensor

ROUNDING_PX = 1e-6
"""Differences below this are the arithmetic's, not the map's."""

QUARTERS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


def shift(dx: float, dy: float) -> Float64[Tensor, "2 3"]:
    """Move by (dx, dy) pixels."""
    return torch.tensor([[1, 0, dx], [0, 1, dy]], dtype=torch.float64)


def scale(x: float, y: float) -> Float64[Tensor, "2 3"]:
    """Multiply the coordinates; `scale(-1, 1)` mirrors left to right about x = 0."""
    return torch.tensor([[x, 0, 0], [0, y, 0]], dtype=torch.float64)


def rotate(degrees: float) -> Float64[Tensor, "2 3"]:
    """Turn about the origin, clockwise as an image is seen (y points down); exact at multiples of 90."""
    quarters, rest = divmod(degrees, 90)
    angle = math.radians(degrees)
    cosine, sine = QUARTERS[int(quarters) % 4] if rest == 0 else (math.cos(angle), math.sin(angle))
    return torch.tensor([[cosine, -sine, 0], [sine, cosine, 0]], dtype=torch.float64)


def compose(*maps: Float64[Tensor, "2 3"]) -> Float64[Tensor, "2 3"]:
    """One map for several, the last applied first, as matrices are multiplied."""
    return reduce(
        lambda outer, inner: torch.cat([outer[:, :2] @ inner[:, :2], apply(outer, inner[:, 2:].T).T], 1), maps
    )


def invert(to_there: Float64[Tensor, "2 3"]) -> Float64[Tensor, "2 3"]:
    """The way back."""
    linear = torch.linalg.inv(to_there[:, :2])
    return torch.cat([linear, -linear @ to_there[:, 2:]], dim=1)


def apply(to_there: Float64[Tensor, "2 3"], points_xy: Float[Tensor, "*n 2"]) -> Float64[Tensor, "*n 2"]:
    """Where points go."""
    return points_xy.double() @ to_there[:, :2].T + to_there[:, 2]


def area_factor(to_there: Float64[Tensor, "2 3"]) -> float:
    """Square pixels there for each square pixel here."""
    (a, b, _), (c, d, _) = to_there.tolist()
    return float(abs(a * d - b * c))


def corners(size_hw: tuple[int, int], inset: float = 0.0) -> Float64[Tensor, "4 2"]:
    """The corners (x, y) of a frame, moved inwards by `inset` pixels."""
    (low, high_y), high_x = (inset, size_hw[0] - inset), size_hw[1] - inset
    points = [[low, low], [high_x, low], [low, high_y], [high_x, high_y]]
    return torch.tensor(points, dtype=torch.float64)


def source_window(
    to_source: Float64[Tensor, "2 3"], frame_hw: tuple[int, int], source_hw: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of the source that a frame looks at, neighbours for interpolation included.

    Args:
        to_source: from the frame to the source.
        frame_hw: the frame, in its own pixels.
        source_hw: the source; at least one pixel high and wide.

    Returns:
        Slices inside the source, of one pixel at least.
    """
    seen, centres = apply(to_source, corners(frame_hw)), apply(to_source, corners(frame_hw, 0.5))
    points = torch.cat([seen, centres - 0.5, centres + 0.5])
    low, high = (points.amin(0) + ROUNDING_PX).floor().tolist(), (points.amax(0) - ROUNDING_PX).ceil().tolist()
    sides = []
    for first, last, length in zip(low, high, reversed(source_hw), strict=True):
        start = min(max(int(first), 0), length - 1)
        sides.append(slice(start, min(max(int(last), start + 1), length)))
    return sides[1], sides[0]
