"""Loss terms that several models share."""

from jaxtyping import Float
from torch import Tensor, nn

SMOOTH_L1_BETA = 1 / 9


def smooth_l1_sum(predicted: Float[Tensor, "n 4"], wanted: Float[Tensor, "n 4"]) -> Float[Tensor, ""]:
    """Summed smooth L1 loss of box refinements, quadratic below 1/9."""
    return nn.functional.smooth_l1_loss(predicted, wanted, beta=SMOOTH_L1_BETA, reduction="sum")
