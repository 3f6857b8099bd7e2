"""Masks from maps that all objects share and a small kernel for each object, inside the objects' boxes only.

YOLACT (Bolya et al. 2019, arXiv:1904.02689), SOLOv2 (Wang et al. 2020, arXiv:2003.10152), RTMDet (Lyu et al. 2022,
arXiv:2212.07784), Mask2Former (Cheng et al. 2022, arXiv:2112.01527) and RT-DETR with masks all end in this.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfpixel.ops.interpolate import sample_boxes
from halfpixel.ops.wide import wide

Apply = Callable[[Tensor, Tensor, Tensor], Tensor]
"""What a kernel does: windows of the maps `[n, c, h, w]`, kernels `[n, k]` and the first cell `(x, y)` of each window
`[n, 2]` become logits `[n, h, w]`. It sees each cell on its own."""

VALUES_AT_ONCE = 1 << 22
"""Of windows: memory does not grow with the number of objects."""

FINE_ENOUGH = 256
"""Cells along a side beyond which a grid need not be finer than the maps."""


def linear_kernels(
    features: Float[Tensor, "n c h w"], kernels: Float[Tensor, "n c"], first_xy: Int[Tensor, "n 2"]
) -> Float[Tensor, "n h w"]:
    """A weight for each map: the usual kernel."""
    return torch.einsum("nchw,nc->nhw", features, kernels)


def assemble(
    maps: Float[Tensor, "b c h w"],
    kernels: Float[Tensor, "n k"],
    image_index: Int[Tensor, "n"],
    boxes_xyxy: Float[Tensor, "n 4"],
    stride: float,
    apply_kernels: Apply = linear_kernels,
    finer: float = 2.0,
) -> list[Float[Tensor, "_ _"]]:
    """Logits of each object on a grid that covers its box exactly.

    Kernels are applied to cells, and the logits interpolated between the cells' centres; beyond the maps their edge
    goes on. A large grid costs no more than the part of the maps below it.

    Args:
        maps: of each image.
        kernels: of each object.
        image_index: whose maps an object has.
        boxes_xyxy: in pixels of the network's input.
        stride: of the maps, in the same pixels.
        apply_kernels: what a kernel does.
        finer: cells of the grids along a cell of the maps, for boxes that are not large. Logits bend between two
            cells, probabilities bend more: a grid of probabilities wants to be finer than its logits.
    """
    found: dict[int, Tensor] = {}
    windows = _Windows(boxes_xyxy.double() / stride, (maps.shape[2], maps.shape[3]))
    for rows, sides_hw in windows.by_size(maps.shape[1]):
        height, width = (max(side, min(round(side * finer), FINE_ENOUGH)) for side in sides_hw)
        logits = windows.logits(rows, sides_hw, (height, width), maps, kernels, image_index, apply_kernels)
        found |= zip(rows.tolist(), logits.unbind(), strict=True)
    return [found[k] for k in range(len(boxes_xyxy))]


def assemble_on(
    grid: int,
    maps: Float[Tensor, "b c h w"],
    kernels: Float[Tensor, "n k"],
    image_index: Int[Tensor, "n"],
    boxes_xyxy: Float[Tensor, "n 4"],
    stride: float,
    apply_kernels: Apply = linear_kernels,
) -> Float[Tensor, "n g g"]:
    """`assemble` on grids of one size, for training: what lies in each box at `grid` x `grid` points."""
    windows, maps, kernels = _Windows(boxes_xyxy.detach().double() / stride, maps.shape[2:]), wide(maps), wide(kernels)
    parts, order = [maps.new_zeros(0, grid, grid)], [torch.zeros(0, dtype=torch.int64, device=maps.device)]
    with torch.autocast(maps.device.type, enabled=False):  # logits are sums of many terms, coordinates are large
        for rows, sides_hw in windows.by_size(maps.shape[1]):
            parts.append(windows.logits(rows, sides_hw, (grid, grid), maps, kernels, image_index, apply_kernels))
            order.append(rows)
    return torch.cat(parts)[torch.cat(order).argsort()]


class _Windows:
    """The part of the maps that each box needs: its cells and one more on every side, in few different sizes.

    Args:
        boxes: in cells of the maps.
        maps_hw: cells of the maps.
    """

    def __init__(self, boxes: Tensor, maps_hw: Sequence[int]) -> None:
        self.boxes = boxes
        most = boxes.new_tensor(maps_hw).flip(0).long()
        low = (boxes[:, :2] - 0.5).floor().long()
        needed = (boxes[:, 2:] - 0.5).floor().long() + 2 - low
        # in steps of a quarter at most: few sizes, and few cells in vain
        step = torch.pow(2.0, needed.clamp(min=8).float().log2().floor() - 2).long()
        self.sides_xy = ((needed + step - 1) // step * step).minimum(most)
        self.first_xy = low.clamp(min=0).minimum(most - self.sides_xy)

    def by_size(self, channels: int) -> Iterator[tuple[Int[Tensor, "k"], tuple[int, int]]]:
        """Rows whose windows have one size (height, width), no more of them than memory is meant to hold."""
        sizes, which = self.sides_xy.unique(dim=0, return_inverse=True)
        for k, (width, height) in enumerate(sizes.tolist()):
            rows = torch.nonzero(which == k).ravel()
            for some in rows.split(max(VALUES_AT_ONCE // (channels * height * width), 1)):
                yield some, (height, width)

    def logits(
        self,
        rows: Int[Tensor, "k"],
        sides_hw: tuple[int, int],
        grid_hw: tuple[int, int],
        maps: Tensor,
        kernels: Tensor,
        image_index: Tensor,
        apply_kernels: Apply,
    ) -> Float[Tensor, "k i j"]:
        """Of some objects, whose windows have one size."""
        first_xy = self.first_xy[rows]
        down, across = (first_xy[:, 1 - k, None] + torch.arange(sides_hw[k], device=rows.device) for k in (0, 1))
        windows = maps[image_index[rows, None, None], :, down[:, :, None], across[:, None]].permute(0, 3, 1, 2)
        logits = apply_kernels(windows, kernels[rows], first_xy)
        return sample_boxes(logits, self.boxes[rows] - first_xy.repeat(1, 2), grid_hw)
