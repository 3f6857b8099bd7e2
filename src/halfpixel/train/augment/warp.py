"""One image seen through an affine map: shrunk with antialiasing where it must be, then interpolated once.

The map goes from the frame (what is wanted) to the image. A caller cuts the window that
`halfpixel.ops.affine.source_window` names, so that only what is seen is ever touched:

    window, to_window = shrink(image[:, rows, columns], compose(shift(-columns.start, -rows.start), to_image))
    picture = resample(window, to_window, frame_hw)

In between is the place for whatever changes the exposure.
"""

import torch
from torch import Tensor

from halfpixel.ops import affine


def shrink(window: Tensor, to_window: Tensor) -> tuple[Tensor, Tensor]:
    """Make a window smaller, antialiased, until its pixels are no finer than those of the frame.

    Args:
        window: `[c, h, w]`, float.
        to_window: `[2, 3]`, from the frame to the window.

    Returns:
        The window, and the map from the frame to it. Both are as they were where nothing shrinks.
    """
    before_hw = (window.shape[1], window.shape[2])
    step_x, step_y = torch.linalg.vector_norm(to_window[:, :2], dim=1).clamp(min=1).tolist()
    height, width = max(round(before_hw[0] / step_y), 1), max(round(before_hw[1] / step_x), 1)
    if (height, width) == before_hw:
        return window, to_window
    smaller = torch.nn.functional.interpolate(window[None], size=(height, width), mode="bilinear", antialias=True)[0]
    return smaller, affine.compose(affine.scale(width / before_hw[1], height / before_hw[0]), to_window)


def resample(window: Tensor, to_window: Tensor, frame_hw: tuple[int, int]) -> Tensor:
    """Interpolate a window at the pixel centres of a frame, bilinearly.

    Args:
        window: `[c, h, w]`, float.
        to_window: `[2, 3]`, from the frame to the window. A shift by whole pixels copies exactly.
        frame_hw: the frame, in its own pixels.

    Returns:
        `[c, height, width]`; 0 where the frame looks past the window.
    """
    offsets = to_window[:, 2].round()
    if torch.allclose(to_window, affine.shift(*offsets.tolist()), rtol=0, atol=affine.ROUNDING_PX):
        return _copy(window, int(offsets[0]), int(offsets[1]), frame_hw)
    y, x = (torch.arange(side, dtype=torch.float64) + 0.5 for side in frame_hw)
    points = affine.apply(to_window, torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
    size_wh = torch.tensor([window.shape[2], window.shape[1]], dtype=torch.float64)
    inside = ((points >= -affine.ROUNDING_PX) & (points <= size_wh + affine.ROUNDING_PX)).all(-1)
    grid = (2 * points / size_wh - 1).to(window.dtype)
    # between the outermost pixel centres and the edge the edge's value goes on
    found = torch.nn.functional.grid_sample(window[None], grid[None], padding_mode="border", align_corners=False)[0]
    return found * inside


def _copy(window: Tensor, dx: int, dy: int, frame_hw: tuple[int, int]) -> Tensor:
    frame = window.new_zeros(len(window), *frame_hw)
    left, top = max(dx, 0), max(dy, 0)
    seen = window[:, top : max(dy + frame_hw[0], 0), left : max(dx + frame_hw[1], 0)]
    frame[:, top - dy : top - dy + seen.shape[1], left - dx : left - dx + seen.shape[2]] = seen
    return frame
