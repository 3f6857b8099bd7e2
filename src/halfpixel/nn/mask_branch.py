"""Fine maps that all queries share, and a kernel for each query (Li et al. 2022, Mask DINO, arXiv:2206.02777)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import ConvBlock, conv_stack, start_small
from halfpixel.nn.losses import dice_loss, seen_entropies
from halfpixel.nn.transformer import MultiLayerPerceptron
from halfpixel.ops import boxes
from halfpixel.ops.assemble import assemble_on
from halfpixel.structures.targets import Targets

GRID = 28
"""Cells along a side of the grids on which masks are compared: for small objects finer than the maps."""

AROUND = 0.25
"""They reach so many sides beyond the object's box: predicted boxes are a little off, and masks end inside of them."""


class MaskBranch(nn.Module):
    """What is needed to cut objects out.

    Args:
        fine: channels of the backbone's map that has the stride of the masks; None where the encoder has it too.
        width: of the encoder's maps and of the queries.
        levels: maps of the encoder.
        inner: channels inside.
        maps: channels of the maps, and numbers of a kernel.
    """

    def __init__(self, fine: int | None, width: int, levels: int, inner: int, maps: int) -> None:
        super().__init__()
        self.fine = None if fine is None else ConvBlock(fine, inner, 1, activation=False)
        self.coarse = nn.ModuleList(ConvBlock(width, inner, 1, activation=False) for _ in range(levels))
        self.fuse = conv_stack(inner, (inner, inner))
        self.maps = nn.Conv2d(inner, maps, 1)
        start_small(self.maps)
        self.kernels = MultiLayerPerceptron(width, width, maps, 3)

    def forward(
        self, fine: Float[Tensor, "b _ h w"] | None, encoded: Sequence[Float[Tensor, "b width _ _"]]
    ) -> Float[Tensor, "b maps h w"]:
        """The shared maps: from coarse to fine, each enlarged and added to the next."""
        total: Tensor | None = None
        levels = [layer(x) for layer, x in zip(self.coarse, encoded, strict=True)]
        finest = [] if self.fine is None else [self.fine(fine)]
        for x in reversed(finest + levels):
            total = x if total is None else x + nn.functional.interpolate(total, scale_factor=2.0, mode="bilinear")
        out: Tensor = self.maps(self.fuse(total))
        return out


def region_mask_losses(
    maps: Float[Tensor, "1 c h w"],
    kernels: Float[Tensor, "n c"],
    objects: Int[Tensor, "n"],
    target: Targets,
    stride: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross-entropy and dice loss of some objects of an image, in and around their boxes, each summed over objects.

    Args:
        maps: of the image.
        kernels: of each object's query.
        objects: which objects they are.
        target: what is annotated; cells that a mask covers in part want that part.
        stride: of the maps, in pixels of the input.
    """
    regions = boxes.expand(target.boxes_xyxy.to(maps)[objects], AROUND)
    wanted = target.mask_grids(objects, regions, GRID).to(maps.dtype)
    said = assemble_on(GRID, maps, kernels, torch.zeros_like(objects), regions, stride)
    seen = target.seen_on(regions, GRID)
    shares, truths = said.sigmoid() * seen, wanted * seen
    dice = dice_loss((shares * truths).sum((1, 2)), (shares + truths).sum((1, 2)))
    return seen_entropies(said, wanted, seen).sum(), dice.sum()
