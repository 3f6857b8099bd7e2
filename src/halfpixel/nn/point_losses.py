"""Losses of masks that are looked at in random points (Cheng et al. 2022, arXiv:2112.01527, section 3.3).

Nothing has as many values as an image has pixels for each object: the maps of an image are sampled in points once, and
every kernel of it is applied to the samples.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from halfpixel.nn.losses import dice_loss


@dataclass(frozen=True)
class PointPlan:
    """In how many points masks are looked at (Kirillov et al. 2020, arXiv:1912.08193, section 3.1).

    Attributes:
        points: for each mask.
        oversampling: times as many are candidates...
        important: ...of which the least certain are taken, for this share of the points. The others are random.
    """

    points: int
    oversampling: float = 3.0
    important: float = 0.75

    @property
    def candidates(self) -> int:
        """Among so many the least certain points are looked for."""
        return int(self.points * self.oversampling)

    @property
    def anyway(self) -> int:
        """So many of the points are random."""
        return self.points - int(self.points * self.important)

    def draw(self, size_hw: tuple[int, int], generator: torch.Generator) -> Float[Tensor, "k 2"]:
        """Points all over an image, (x, y) in its pixels: the candidates, then those that are taken anyway."""
        places = torch.rand(self.candidates + self.anyway, 2, generator=generator)
        return places * torch.tensor([size_hw[1], size_hw[0]])

    def choose(self, logits: Float[Tensor, "n k"]) -> Int[Tensor, "n points"]:
        """Which of the drawn points each mask is looked at in, from its logits in all of them."""
        doubt = -logits.detach()[:, : self.candidates].abs()
        unsure = doubt.topk(self.points - self.anyway, dim=1).indices
        others = torch.arange(self.candidates, logits.shape[1], device=logits.device)
        return torch.cat([unsure, others.expand(logits.shape[0], -1)], 1)


def point_mask_costs(
    logits: Float[Tensor, "q k"], truths: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "q n"], Float[Tensor, "q n"]]:
    """Binary cross-entropy and dice of each query's mask with each object's, over points that all of them share.

    Args:
        logits: of the queries.
        truths: 0..1, how much of each point is the object's.
    """
    # cross-entropy = softplus(logit) - truth * logit
    cross = nn.functional.softplus(logits).mean(1, keepdim=True) - logits @ truths.T / logits.shape[1]
    shares = logits.sigmoid()
    return cross, dice_loss(shares @ truths.T, shares.sum(1, keepdim=True) + truths.sum(1))


def point_mask_losses(logits: Float[Tensor, "n k"], truths: Float[Tensor, "n k"]) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy (mean over the points) and dice of each mask with its own object, summed over masks."""
    cross = nn.functional.binary_cross_entropy_with_logits(logits, truths, reduction="sum") / logits.shape[1]
    shares = logits.sigmoid()
    return cross, dice_loss((shares * truths).sum(1), shares.sum(1) + truths.sum(1)).sum()


def in_crowds(
    masks: Float[Tensor, "q k"], points_xy: Float[Tensor, "k 2"], crowds_xyxy: Float[Tensor, "m 4"]
) -> Bool[Tensor, "q"]:
    """Queries more than half of whose masks, logits in random points, lie in crowd regions."""
    low, high = crowds_xyxy.to(points_xy).split(2, 1)
    inside = ((points_xy[:, None] >= low) & (points_xy[:, None] <= high)).all(2).any(1)
    above = (masks > 0).float()
    mostly: Tensor = above @ inside.float() > 0.5 * above.sum(1)
    return mostly
