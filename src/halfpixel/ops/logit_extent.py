"""Where the masks lie that logits show."""

import torch
from jaxtyping import Float
from torch import Tensor


def logit_extents(logits: Float[Tensor, "n h w"]) -> Float[Tensor, "n 4"]:
    """The box around what is above zero, found between the cells' centres.

    Between two centres logits change linearly, so a mask ends where they cross zero; beyond the outermost centres they
    go on. A box never cuts anything off: along a side, each row may be as high as the highest of all.

    Returns:
        In cells, the first of which covers 0 to 1; zeros where nothing is above zero.
    """
    left, right = _ends(logits.amax(1))
    top, bottom = _ends(logits.amax(2))
    return torch.stack([left, top, right, bottom], 1)


def _ends(highest: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    count, seen = highest.shape[1], highest > 0
    number = torch.arange(count, device=highest.device)
    first = torch.where(seen, number, count - 1).amin(1)
    last = torch.where(seen, number, 0).amax(1)
    low = torch.where(first > 0, first + 0.5 - _share(highest, first, first - 1), 0.0)
    high = torch.where(last < count - 1, last + 0.5 + _share(highest, last, last + 1), float(count))
    some = seen.any(1)
    return torch.where(some, low, 0.0), torch.where(some, high, 0.0)


def _share(highest: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """How far from the inner centre to the outer one zero is crossed, in 0..1."""
    a = highest.gather(1, inside[:, None])[:, 0]
    b = highest.gather(1, outside.clamp(0, highest.shape[1] - 1)[:, None])[:, 0]
    return (a / (a - b).clamp(min=1e-12)).clamp(0, 1)


def sample_boxes(
    logits: Float[Tensor, "n h w"], boxes_xyxy: Float[Tensor, "n 4"], points: int
) -> Float[Tensor, "n points points"]:
    """Logits between the cells' centres, at points all over one box in each map.

    Args:
        logits: beyond them their edge goes on.
        boxes_xyxy: in cells.
        points: along each side, evenly spread.
    """
    steps = (torch.arange(points, device=logits.device) + 0.5) / points
    low, span = boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]
    sides = (logits.shape[2], logits.shape[1])
    x, y = ((low[:, k, None] + steps * span[:, k, None]) / sides[k] * 2 - 1 for k in (0, 1))
    places = torch.stack([x[:, None].expand(-1, points, points), y[:, :, None].expand(-1, points, points)], 3)
    sampled = torch.nn.functional.grid_sample(logits[:, None], places, padding_mode="border", align_corners=False)
    return sampled[:, 0]
