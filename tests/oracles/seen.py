"""What a frame shows of a full-canvas mask, by many points in every pixel. Slow and simple."""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor

Canvas = npt.NDArray[np.float64]


def _points(to_source: Tensor, x: Canvas, y: Canvas) -> tuple[Canvas, Canvas]:
    (a, b, c), (d, e, f) = to_source.tolist()
    return a * x + b * y + c, d * x + e * y + f


def seen_mask(mask: Tensor, to_source: Tensor, frame_hw: tuple[int, int], fine: int = 8) -> Tensor:
    """`[h * fine, w * fine]`: whether each of `fine` x `fine` points in every pixel of the frame is on the mask."""
    y, x = ((np.arange(side * fine) + 0.5) / fine for side in frame_hw)
    source_x, source_y = _points(to_source, x[None, :], y[:, None])
    columns, rows = np.floor(source_x).astype(int), np.floor(source_y).astype(int)
    inside = (columns >= 0) & (rows >= 0) & (columns < mask.shape[1]) & (rows < mask.shape[0])
    values = mask.numpy()[rows.clip(0, mask.shape[0] - 1), columns.clip(0, mask.shape[1] - 1)]
    return torch.from_numpy(values & inside)


def box_of(seen: Tensor, fine: int = 8) -> Tensor:
    """Extent of the points, in pixels of the frame; right to a point's distance."""
    rows, columns = torch.nonzero(seen.any(1)).ravel(), torch.nonzero(seen.any(0)).ravel()
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / fine


def seen_grid(mask: Tensor, to_source: Tensor, region: Tensor, size: int, fine: int = 12) -> Tensor:
    """`[size, size]`: mean in each cell of the interpolated mask, whose edge value goes on for one pixel."""
    x0, y0, x1, y1 = region.tolist()
    steps = (np.arange(size * fine) + 0.5) / (size * fine)
    source_x, source_y = _points(to_source, x0 + (x1 - x0) * steps[None, :], y0 + (y1 - y0) * steps[:, None])
    column, row = source_x - 0.5, source_y - 0.5
    values = map_coordinates(mask.numpy().astype(np.float64), [row, column], order=1, mode="nearest")
    values[(column < -1) | (row < -1) | (column > mask.shape[1]) | (row > mask.shape[0])] = 0
    return torch.from_numpy(values).reshape(size, fine, size, fine).mean(dim=(1, 3))
