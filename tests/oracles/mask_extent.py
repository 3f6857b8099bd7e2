"""What a frame shows of one mask at a time. Slow and simple."""

import torch
from torch import Tensor

from halfpixel.ops import affine


def visible_extent(crop: Tensor, to_crop: Tensor, frame_hw: tuple[int, int]) -> tuple[Tensor, float]:
    """The tight box around what a frame shows of a mask, and its area.

    The box is exact: each pixel of the mask is a square (in the frame a parallelogram) that is cut at the frame's
    edge. The corners of a turned box would be far too wide.

    Args:
        crop: the mask.
        to_crop: from the frame to the crop, whose first pixel covers (0, 0) to (1, 1).
        frame_hw: the frame, in its own pixels.

    Returns:
        The box (left, top, right, bottom) in pixels of the frame, zeros if nothing is seen; and the area in square
        pixels of the frame, of the mask's pixels whose centres are seen.
    """
    from_crop, size_wh = affine.invert(to_crop), torch.tensor([frame_hw[1], frame_hw[0]], dtype=torch.float64)
    centres = affine.apply(from_crop, pixel_centres(crop))
    seen = ((centres >= 0) & (centres < size_wh)).all(1)
    area = float(seen.sum()) * affine.area_factor(from_crop)
    starts, ends = (affine.apply(from_crop, points) for points in _outline(crop))
    # a hair inside the frame, so that parts which only touch it from outside are not seen
    edge = affine.ROUNDING_PX
    frame_corners = affine.corners(frame_hw, edge)
    covered = frame_corners[covers(crop, affine.apply(to_crop, frame_corners))]
    points = torch.cat([_cut_segments(starts, ends, edge, size_wh - edge), covered])
    if len(points) == 0:
        return torch.zeros(4, dtype=torch.float64), 0.0
    return torch.cat([points.amin(0), points.amax(0)]), area


def covers(crop: Tensor, points_xy: Tensor) -> Tensor:
    """Which points, in coordinates of the crop, lie on a pixel of the mask."""
    columns, rows = points_xy.floor().long().unbind(1)
    inside = (columns >= 0) & (rows >= 0) & (columns < crop.shape[1]) & (rows < crop.shape[0])
    covered = torch.zeros(len(points_xy), dtype=torch.bool)
    covered[inside] = crop[rows[inside], columns[inside]]
    return covered


def pixel_centres(crop: Tensor) -> Tensor:
    """Centres (x, y) of the mask's pixels, row by row."""
    return torch.nonzero(crop).flip(1) + torch.tensor(0.5, dtype=torch.float64)


def _outline(crop: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends of every pixel side that has the mask on one hand only."""
    padded = torch.nn.functional.pad(crop, (1, 1, 1, 1))
    upright = torch.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1]).flip(1).double()
    level = torch.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1]).flip(1).double()
    right, down = torch.eye(2, dtype=torch.float64)
    return torch.cat([upright, level]), torch.cat([upright + down, level + right])


def _cut_segments(starts: Tensor, ends: Tensor, low: float, high: Tensor) -> Tensor:
    """Both ends of what lies inside a rectangle of each segment (Liang and Barsky 1984, doi:10.1145/357332.357333)."""
    along = ends - starts
    steps = torch.where(along == 0, 1e-30, along)
    crossings = torch.stack([(low - starts) / steps, (high - starts) / steps])
    enter = crossings.amin(0).amax(1).clamp(min=0)
    leave = crossings.amax(0).amin(1).clamp(max=1)
    inside = enter <= leave
    starts, along, enter, leave = starts[inside], along[inside], enter[inside, None], leave[inside, None]
    return torch.cat([starts + enter * along, starts + leave * along])
