"""Matrix suppression: scores of masks decay with what they share with better ones (Wang et al. 2020)."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfpixel.ops.rows import in_chunks

ROWS_AT_ONCE, PAIRS_AT_ONCE = 256, 4096


def matrix_nms(
    grids: Bool[Tensor, "n s s"],
    boxes_xyxy: Float[Tensor, "n 4"],
    scores: Float[Tensor, "n"],
    labels: Int[Tensor, "n"],
    sigma: float = 2.0,
) -> Float[Tensor, "n"]:
    """Scores after a Gaussian decay (SOLOv2, arXiv:2003.10152, section 3.3).

    A mask loses by its IoU with every better mask of its class, less where the better one is itself shared with one
    that is better still. Only pairs whose boxes overlap are looked at: a dense matrix of masks as large as the image
    would cap their number.

    Args:
        grids: each mask on the cells of a grid over its box.
        boxes_xyxy: tight boxes.
        scores: of each mask.
        labels: masks of other classes do not count.
        sigma: how fast scores decay.
    """
    order = scores.argsort(descending=True)
    grids, boxes_xyxy, labels = grids[order], boxes_xyxy[order], labels[order]
    pairs = torch.cat(list(_overlapping(boxes_xyxy, labels)))
    ious = torch.cat([_ious(grids, boxes_xyxy, *some) for some in in_chunks(PAIRS_AT_ONCE, pairs[:, 0], pairs[:, 1])])
    better, worse = pairs.unbind(1)
    shared = torch.zeros_like(scores).scatter_reduce(0, worse, ious, "amax")
    decay = torch.exp(-sigma * (ious.square() - shared[better].square()))
    decayed = scores[order] * torch.ones_like(scores).scatter_reduce(0, worse, decay, "amin")
    return torch.zeros_like(scores).scatter(0, order, decayed)


def _overlapping(boxes_xyxy: Tensor, labels: Tensor) -> Iterator[Int[Tensor, "p 2"]]:
    """Pairs (better, worse) of one class whose boxes overlap; rows come best first."""
    number = torch.arange(boxes_xyxy.shape[0], device=boxes_xyxy.device)
    for worse, box, label in in_chunks(ROWS_AT_ONCE, number, boxes_xyxy, labels):
        apart = (box[:, None, :2] >= boxes_xyxy[:, 2:]) | (box[:, None, 2:] <= boxes_xyxy[:, :2])
        near = ~apart.any(2) & (label[:, None] == labels) & (number < worse[:, None])
        rows, better = torch.nonzero(near, as_tuple=True)
        yield torch.stack([better, worse[rows]], 1)


def _ious(grids: Tensor, boxes_xyxy: Tensor, better: Tensor, worse: Tensor) -> Float[Tensor, "p"]:
    """Of the masks of some pairs: the worse one's cells are looked up in the better one's grid."""
    side = grids.shape[1]
    low, sides = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    steps = (torch.arange(side, device=grids.device) + 0.5) / side
    # of each cell's centre along x and along y, the cell of the other grid: [p, side] each
    column, row = (
        ((low[worse, k, None] + steps * sides[worse, k, None] - low[better, k, None]) / sides[better, k, None] * side)
        .floor()
        .long()
        for k in (0, 1)
    )
    inside = ((row >= 0) & (row < side))[:, :, None] & ((column >= 0) & (column < side))[:, None, :]
    row, column = row.clamp(0, side - 1), column.clamp(0, side - 1)
    seen = grids[better[:, None, None], row[:, :, None], column[:, None, :]]
    cell = sides.prod(1) / side**2
    areas = cell * grids.sum((1, 2))
    both = cell[worse] * (grids[worse] & seen & inside).sum((1, 2))
    return both / (areas[better] + areas[worse] - both).clamp(min=1e-12)
