"""Loss terms that several models share."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributed, nn

SMOOTH_L1_BETA = 1 / 9


def smooth_l1_sum(predicted: Float[Tensor, "n 4"], wanted: Float[Tensor, "n 4"]) -> Float[Tensor, ""]:
    """Summed smooth L1 loss of box regression deltas, quadratic below 1/9."""
    return nn.functional.smooth_l1_loss(predicted, wanted, beta=SMOOTH_L1_BETA, reduction="sum")


def quality_focal_losses(logits: Float[Tensor, "*n"], wanted: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Quality focal loss of each number (Li et al. 2020, arXiv:2006.04388): a score should be the quality, 0..1."""
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return entropy * (wanted - logits.sigmoid()) ** 2


def focal_sum(
    logits: Float[Tensor, "*n"], wanted: Float[Tensor, "*n"], alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, ""]:
    """Summed focal loss (Lin et al. 2017, arXiv:1708.02002): what is easy counts little.

    Args:
        logits: of any shape.
        wanted: 0 or 1.
        alpha: weight of what is wanted, 1 - alpha that of the rest.
        gamma: how little what is easy counts.
    """
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    off = (wanted - logits.sigmoid()).abs()
    return ((alpha * wanted + (1 - alpha) * (1 - wanted)) * off**gamma * entropy).sum()


def seen_entropies(
    logits: Float[Tensor, "n h w"], wanted: Float[Tensor, "n h w"], seen: Bool[Tensor, "n h w"]
) -> Float[Tensor, "n"]:
    """Mean cross-entropy of each mask over the points that count."""
    entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * seen
    return entropy.sum((1, 2)) / seen.sum((1, 2)).clamp(min=1)


def dice_losses(said: Float[Tensor, "n h w"], wanted: Float[Tensor, "n h w"]) -> Float[Tensor, "n"]:
    """One minus the Dice coefficient of each mask (Milletari et al. 2016, arXiv:1606.04797), both in 0..1."""
    both, each = (said * wanted).sum((1, 2)), (said.square() + wanted.square()).sum((1, 2))
    return 1 - 2 * both / (each + 1e-3)


def dice_loss(overlap: Float[Tensor, "*n"], total: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """The same from sums of products and sums of both, not squared; one more in each keeps empty masks finite."""
    return 1 - (2 * overlap + 1) / (total + 1)


def zero_of(*outputs: Tensor) -> Tensor:
    """0, and a gradient of 0 for all that made the outputs: some have no object to learn from, none may be left out."""
    return 0 * torch.stack([one.sum() for one in outputs]).sum()


def mean_count(count: float, device: torch.device) -> float:
    """What to divide a sum over `count` samples, or over weights that sum up to it, by.

    Under several processes, whose gradients are averaged, it is the mean of their counts: only so is each sample worth
    the same, and the loss that of one process with all the samples. Every process has to call this, equally often.

    Returns:
        At least 1 in sum over the processes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return max(count, 1)
    total = torch.tensor(float(count), dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return max(float(total), 1.0) / distributed.get_world_size()
