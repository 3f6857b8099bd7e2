"""Convolutions in a few cells of maps, for what is trained on a few hundred cells of many thousands."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.backbones.cspnext import SiluConv
from halfpixel.nn.conv_blocks import ConvBlock
from halfpixel.ops.wide import wide


def in_cells(
    blocks: Iterable[nn.Module],
    maps: Float[Tensor, "b c h w"],
    image_index: Int[Tensor, "n"],
    rows: Int[Tensor, "n"],
    columns: Int[Tensor, "n"],
) -> Float[Tensor, "n d"]:
    """What blocks, one after the other, say in some cells: that of their maps, at a cost that grows with the cells.

    Each cell is seen with as many neighbours on every side as there are blocks.

    Args:
        blocks: `ConvBlock` or `SiluConv` of 3 x 3 cells and stride 1.
        maps: what the first is given.
        image_index: whose maps a cell is in.
        rows: of the cells.
        columns: likewise.
    """
    blocks = tuple(blocks)
    height, width = maps.shape[2:]
    around = torch.arange(-len(blocks), len(blocks) + 1, device=maps.device)
    y, x = (rows[:, None] + around)[:, :, None], (columns[:, None] + around)[:, None]
    inside = ((y >= 0) & (y < height) & (x >= 0) & (x < width))[:, None]
    cells = (image_index[:, None, None] * height + y.clamp(0, height - 1)) * width + x.clamp(0, width - 1)
    table = wide(maps).permute(0, 2, 3, 1).reshape(-1, maps.shape[1])  # its gradient is a sum of many terms
    seen = table.index_select(0, cells.ravel()).unflatten(0, cells.shape).permute(0, 3, 1, 2)
    for block in blocks:
        assert isinstance(block, ConvBlock | SiluConv)
        seen = block.after(nn.functional.conv2d(seen * inside, block.conv.weight, block.conv.bias))
        inside = inside[:, :, 1:-1, 1:-1]
    found: Tensor = seen[:, :, 0, 0]
    return found


def in_pyramid(
    towers: Sequence[Iterable[nn.Module]],
    pyramid: Sequence[Float[Tensor, "b c _ _"]],
    image_index: Int[Tensor, "n"],
    cells: Int[Tensor, "n"],
) -> Float[Tensor, "n d"]:
    """`in_cells` of several levels: the cells are counted row by row, all levels one after the other.

    Args:
        towers: the blocks of each level.
        pyramid: what the first of them is given.
        image_index: as for `in_cells`.
        cells: their numbers.
    """
    found, order, start = [], [], 0
    for tower, maps in zip(towers, pyramid, strict=True):
        height, width = maps.shape[2:]
        here = torch.nonzero((cells >= start) & (cells < start + height * width)).ravel()
        place = cells[here] - start
        found.append(in_cells(tower, maps, image_index[here], place // width, place % width))
        order.append(here)
        start += height * width
    return torch.cat(found)[torch.cat(order).argsort()]
