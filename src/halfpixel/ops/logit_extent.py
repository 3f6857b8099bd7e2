"""Where masks lie that are known as logits on a map."""

import torch
from jaxtyping import Float
from torch import Tensor


def logit_extents(logits: Float[Tensor, "n h w"], seen_wh: Float[Tensor, "2"]) -> Float[Tensor, "n 4"]:
    """Tight boxes around where logits, interpolated between cell centres, are above 0; exact. Exports.

    Between four centres the interpolated surface is linear along each axis. So it comes furthest to each side on a line
    through centres, and crosses 0 there between two of them, once. Beyond the outermost centres the edge goes on.

    Args:
        logits: of each mask.
        seen_wh: what counts of the map, from its upper left corner: lines through centres beyond it do not.

    Returns:
        (left, top, right, bottom) in cells, uncut; zeros where nothing is above 0.
    """
    across, down = (_extent(rows, seen_wh[1 - k]) for k, rows in enumerate((logits, logits.transpose(1, 2))))
    return torch.stack([across[0], down[0], across[1], down[1]], 1)


def _extent(logits: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Along the last axis, the lowest and the highest place above 0 on any line."""
    lines, cells = logits.shape[1], logits.shape[2]
    counts = (torch.arange(lines, device=logits.device) + 0.5 < seen.to(logits.device))[:, None]
    above = (logits > 0) & counts
    before, after = logits[..., :-1], logits[..., 1:]
    crossing = torch.arange(cells - 1, device=logits.device) + 0.5 + before / (before - after)
    rises = torch.where(~above[..., :-1] & above[..., 1:], crossing, float(cells))
    falls = torch.where(above[..., :-1] & ~above[..., 1:], crossing, 0.0)
    low = torch.where(above[..., 0].any(1), 0.0, _all_but_one(rises, float(cells)).amin((1, 2)))
    high = torch.where(above[..., -1].any(1), float(cells), _all_but_one(falls, 0.0).amax((1, 2)))
    anything = above.flatten(1).any(1)
    return torch.where(anything, low, 0.0), torch.where(anything, high, 0.0)


def _all_but_one(values: Tensor, neutral: float) -> Tensor:
    """With one column more, so that a map of one cell has an extreme, too."""
    return torch.nn.functional.pad(values, (0, 1), value=neutral)
