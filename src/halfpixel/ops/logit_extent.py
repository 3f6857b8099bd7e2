"""Where masks lie that are known as logits on a map."""

import torch
from jaxtyping import Float
from torch import Tensor


def logit_extents(logits: Float[Tensor, "n h w"], seen_wh: Float[Tensor, "2"] | None = None) -> Float[Tensor, "n 4"]:
    """Tight boxes around where logits, interpolated between cell centres, are above 0; exact. Exports.

    Between four centres the interpolated surface is linear along each axis. So it comes furthest to each side on a line
    through centres, and crosses 0 there between two of them, once. Beyond the outermost centres the edge goes on.

    Args:
        logits: of each mask.
        seen_wh: what counts of the map, from its upper left corner; more than half a cell. None for all of it.

    Returns:
        (left, top, right, bottom) in cells, to be cut to what counts; zeros where nothing is above 0.
    """
    seen = (None, None) if seen_wh is None else seen_wh.to(logits.device).unbind()
    across, down = _extent(logits, seen[1]), _extent(logits.transpose(1, 2), seen[0])
    return torch.stack([across[0], down[0], across[1], down[1]], 1)


def _extent(logits: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
    """Along the last axis, the lowest and the highest place above 0 on any line."""
    cells = logits.shape[2]
    end = torch.tensor(cells, device=logits.device).to(logits)  # a plain number would be frozen by an export
    if seen is not None:
        logits, counts = _with_edge(logits, seen)
    above = logits > 0 if seen is None else (logits > 0) & counts[:, None]
    before, after = logits[..., :-1], logits[..., 1:]
    crossing = torch.arange(cells - 1, device=logits.device) + 0.5 + before / (before - after)
    rises = torch.where(~above[..., :-1] & above[..., 1:], crossing, end)
    falls = torch.where(above[..., :-1] & ~above[..., 1:], crossing, 0.0)
    # a map of one cell has an extreme, too
    rises, falls = torch.cat([rises, end.expand_as(above[..., :1])], 2), torch.nn.functional.pad(falls, (0, 1))
    low = torch.where(above[..., 0].any(1), 0.0, rises.amin((1, 2)))
    high = torch.where(above[..., -1].any(1), end, falls.amax((1, 2)))
    anything = above.flatten(1).any(1)
    return torch.where(anything, low, 0.0), torch.where(anything, high, 0.0)


def _with_edge(logits: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """One line more, along the edge of what is seen, and which lines lie no further."""
    last = logits.shape[1] - 1
    edge = seen.to(logits) - 0.5
    before = edge.floor().long().clamp(min=0, max=last)[None]
    after = (before + 1).clamp(max=last)
    share = (edge - before).clamp(min=0, max=1)
    line = torch.lerp(logits.index_select(1, before), logits.index_select(1, after), share)
    counts = torch.arange(last + 1, device=logits.device) < edge
    return torch.cat([logits, line], 1), torch.cat([counts, torch.ones_like(counts[:1])])
