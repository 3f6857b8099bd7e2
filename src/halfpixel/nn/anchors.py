"""Anchor boxes: the reference boxes of every cell of every pyramid level."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from halfpixel.ops.paste import Alignment


def anchor_boxes(
    maps_hw: Sequence[tuple[int, int]],
    image_hw: tuple[int, int],
    sizes: Sequence[float],
    ratios: Sequence[float],
    strides: Sequence[float],
    alignment: Alignment,
    device: torch.device,
    centre: float = 0.5,
) -> list[Float[Tensor, "_ 4"]]:
    """All anchors of a padded image, level by level.

    Args:
        maps_hw: cells of each level.
        image_hw: the padded image, in pixels.
        sizes: square root of an anchor's area, one for each level, in pixels.
        ratios: height over width.
        strides: pixels per cell of each level.
        alignment: `half_pixel` centres anchors on `centre`. `torchvision` centres them on the cell's corner,
            rounds them to whole pixels and divides the image by the cells to get the stride (61 for the coarsest
            level of an 800-pixel side, where it should be 64).
        device: where the boxes are made.
        centre: .5 for the middle of a cell, 0 for its first corner.

    Returns:
        Per level `[cells * len(ratios), 4]`, in order of row, column, ratio.
    """
    heights = torch.tensor(ratios, dtype=torch.float32, device=device).sqrt()
    shapes = torch.stack([1 / heights, heights], dim=1)
    levels = []
    for (rows, columns), size, stride in zip(maps_hw, sizes, strides, strict=True):
        half = shapes * size / 2
        base = torch.cat([-half, half], dim=1)
        step_y, step_x, origin = stride, stride, centre
        if alignment == "torchvision":
            base = base.round()
            step_y, step_x, origin = image_hw[0] // rows, image_hw[1] // columns, 0.0
        y = (torch.arange(rows, dtype=torch.float32, device=device) + origin) * step_y
        x = (torch.arange(columns, dtype=torch.float32, device=device) + origin) * step_x
        centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).repeat(1, 1, 2)
        levels.append((centres[:, :, None] + base).reshape(-1, 4))
    return levels
