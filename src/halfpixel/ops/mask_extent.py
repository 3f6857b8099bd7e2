"""Where masks lie, and how much of them is left, in a frame that looks at them through an affine map."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from halfpixel.ops import affine
from halfpixel.ops.crop_stacks import crop_stacks


def visible_extents(
    crops: Sequence[Bool[Tensor, "_ _"]],
    offsets_xy: Int[Tensor, "n 2"],
    to_source: Float64[Tensor, "2 3"],
    frame_hw: tuple[int, int],
) -> tuple[Float64[Tensor, "n 4"], Float64[Tensor, "n"]]:
    """The tight boxes around what a frame shows of masks, and their areas.

    The boxes are exact: each pixel of a mask is a square (in the frame a parallelogram) that is cut at the frame's
    edge. The corners of a turned box would be far too wide.

    Args:
        crops: the masks, all of one image.
        offsets_xy: each crop's first pixel in that image.
        to_source: from the frame to the image.
        frame_hw: the frame, in its own pixels.

    Returns:
        Boxes (left, top, right, bottom) in pixels of the frame, zeros where nothing is seen; and areas in square
        pixels of the frame, of the masks' pixels whose centres are seen.
    """
    from_source, size_wh = affine.invert(to_source), torch.tensor([frame_hw[1], frame_hw[0]], dtype=torch.float64)
    # a hair inside the frame, so that parts which only touch it from outside are not seen
    edge = affine.ROUNDING_PX
    frame_corners = affine.corners(frame_hw, edge)
    in_source = affine.apply(to_source, frame_corners)
    boxes, counts = torch.zeros(len(crops), 4, dtype=torch.float64), torch.zeros(len(crops), dtype=torch.float64)
    for rows, stack in crop_stacks(crops):
        offsets = offsets_xy[rows]
        pixels, of = _points(torch.nonzero(stack), offsets)
        centres = affine.apply(from_source, pixels + 0.5)
        seen = ((centres >= 0) & (centres < size_wh)).all(1)
        counts[rows] = torch.bincount(of[seen], minlength=len(rows)).double()
        (starts, ends), of_sides = _outlines(stack, offsets)
        starts, ends = affine.apply(from_source, starts), affine.apply(from_source, ends)
        points, inside = _cut_segments(starts, ends, edge, size_wh - edge)
        covering, covered = torch.nonzero(_covered(stack, in_source - offsets[:, None]), as_tuple=True)
        of_points = torch.cat([of_sides[inside].repeat(2), covering])
        boxes[rows] = _boxes(torch.cat([points, frame_corners[covered]]), of_points, len(rows))
    return boxes, counts * affine.area_factor(from_source)


def covers(crop: Bool[Tensor, "h w"], points_xy: Float64[Tensor, "n 2"]) -> Bool[Tensor, "n"]:
    """Which points, in coordinates of the crop, lie on a pixel of the mask."""
    return _covered(crop[None], points_xy[None])[0]


def pixel_centres(crop: Bool[Tensor, "h w"]) -> Float64[Tensor, "n 2"]:
    """Centres (x, y) of the mask's pixels, row by row."""
    return torch.nonzero(crop).flip(1) + torch.tensor(0.5, dtype=torch.float64)


def _covered(stack: Bool[Tensor, "k h w"], points_xy: Float64[Tensor, "k n 2"]) -> Bool[Tensor, "k n"]:
    """Whether points, in coordinates of each crop, lie on a pixel of its mask."""
    columns, rows = points_xy.floor().long().unbind(2)
    inside = (columns >= 0) & (rows >= 0) & (columns < stack.shape[2]) & (rows < stack.shape[1])
    which, point = torch.nonzero(inside, as_tuple=True)
    covered = torch.zeros_like(inside)
    covered[which, point] = stack[which, rows[which, point], columns[which, point]]
    return covered


def _points(places: Int[Tensor, "m 3"], offsets_xy: Tensor) -> tuple[Float64[Tensor, "m 2"], Int[Tensor, "m"]]:
    """From number, row and column in a stack: (x, y) in the image, and the number."""
    return (places[:, 1:].flip(1) + offsets_xy[places[:, 0]]).double(), places[:, 0]


def _outlines(
    stack: Tensor, offsets_xy: Tensor
) -> tuple[tuple[Float64[Tensor, "m 2"], Float64[Tensor, "m 2"]], Int[Tensor, "m"]]:
    """Both ends of every pixel side that has a mask on one hand only, in the image, and whose it is."""
    padded = torch.nn.functional.pad(stack, (1, 1, 1, 1))
    upright, of_upright = _points(torch.nonzero(padded[:, 1:-1, 1:] != padded[:, 1:-1, :-1]), offsets_xy)
    level, of_level = _points(torch.nonzero(padded[:, 1:, 1:-1] != padded[:, :-1, 1:-1]), offsets_xy)
    right, down = torch.eye(2, dtype=torch.float64)
    ends = torch.cat([upright, level]), torch.cat([upright + down, level + right])
    return ends, torch.cat([of_upright, of_level])


def _cut_segments(
    starts: Tensor, ends: Tensor, low: float, high: Tensor
) -> tuple[Float64[Tensor, "k 2"], Bool[Tensor, "m"]]:
    """What lies inside a rectangle of each segment (Liang and Barsky 1984, doi:10.1145/357332.357333).

    Returns:
        All starts and then all ends of what is inside, and of which segments something is.
    """
    along = ends - starts
    steps = torch.where(along == 0, 1e-30, along)
    to_low, to_high = (low - starts) / steps, (high - starts) / steps
    enter = to_low.minimum(to_high).amax(1).clamp(min=0)
    leave = to_low.maximum(to_high).amin(1).clamp(max=1)
    inside = enter <= leave
    starts, along, enter, leave = starts[inside], along[inside], enter[inside, None], leave[inside, None]
    return torch.cat([starts + enter * along, starts + leave * along]), inside


def _boxes(points: Float64[Tensor, "m 2"], of: Int[Tensor, "m"], count: int) -> Float64[Tensor, "n 4"]:
    """The tight box around the points of each; zeros where there are none."""
    where, none = of[:, None].expand(-1, 2), points.new_zeros(count, 2)
    low = none.scatter_reduce(0, where, points, "amin", include_self=False)
    high = none.scatter_reduce(0, where, points, "amax", include_self=False)
    return torch.cat([low, high], 1)
