"""Fast R-CNN's region pooling, kept to show what RoIAlign repairs; no model of ours uses it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def roi_pool(
    features: Float[Tensor, "b c h w"],
    boxes: Float[Tensor, "n 5"],
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
) -> Float[Tensor, "n c oh ow"]:
    """Crop regions of a feature map by quantised max pooling (Girshick, "Fast R-CNN", 2015).

    It rounds twice: each region to whole cells of the map, then each bin to whole cells of the region, so that a
    region may move by a good part of a cell without its crop changing, and then change all at once.

    Args:
        features: the map.
        boxes: (image index, x1, y1, x2, y2), coordinates in pixels of the input image.
        output_size: bins (rows, columns).
        spatial_scale: cells of the map for each pixel of the image.

    Returns:
        The maximum over each bin; a bin wholly outside the map is zero. Equals `torchvision.ops.roi_pool`.
    """
    height, width = features.shape[2:]
    scaled = boxes[:, 1:] * spatial_scale
    left, top, right, bottom = _round_half_away(scaled).unbind(1)
    rows_from, rows_to = _bins(top, bottom, output_size[0], height)
    columns_from, columns_to = _bins(left, right, output_size[1], width)
    crops = []
    for n, image in enumerate(boxes[:, 0].long().tolist()):
        row_bins = list(zip(rows_from[n].tolist(), rows_to[n].tolist(), strict=True))
        column_bins = list(zip(columns_from[n].tolist(), columns_to[n].tolist(), strict=True))
        cells = [_highest(features[image, :, y0:y1, x0:x1]) for y0, y1 in row_bins for x0, x1 in column_bins]
        crops.append(torch.stack(cells, dim=1).unflatten(1, output_size))
    return torch.stack(crops) if crops else features.new_zeros(0, features.shape[1], *output_size)


def _bins(low: Tensor, high: Tensor, count: int, length: int) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n k"]]:
    """First cell and one past the last cell of `count` bins for each region; neighbouring bins may share a cell."""
    bin_size = (high - low + 1).clamp(min=1) / count  # both ends count, and every region has at least one cell
    k = torch.arange(count, dtype=low.dtype, device=low.device)
    first = low[:, None] + (k * bin_size[:, None]).floor()
    past = low[:, None] + ((k + 1) * bin_size[:, None]).ceil()
    return first.clamp(0, length).long(), past.clamp(0, length).long()


def _highest(cells: Float[Tensor, "c _ _"]) -> Float[Tensor, "c"]:
    flat = cells.flatten(1)
    return flat.max(dim=1).values if flat.shape[1] else flat.new_zeros(len(flat))


def _round_half_away(x: Tensor) -> Tensor:
    """Round halves away from zero as C does (torch rounds them to even)."""
    whole = x.trunc()
    return torch.where((x - whole).abs() == 0.5, whole + x.sign(), x.round())
