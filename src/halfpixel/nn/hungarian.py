"""Which query answers for which object: the assignment that costs least (Kuhn 1955; Carion 2020, arXiv:2005.12872)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

NEVER = 1e9
"""What a pair costs whose cost is no number."""


def assign(cost: Float[Tensor, "q n"]) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
    """Pair queries with objects, each once, so that the costs of the pairs add up to the least.

    Args:
        cost: of each pair; no gradient flows through it.

    Returns:
        Indices of the queries, ascending, and of their objects: as many pairs as there are of the fewer.
    """
    from scipy.optimize import linear_sum_assignment  # only training needs it, and it takes time to import

    known = cost.detach().double().nan_to_num(NEVER, NEVER, -NEVER)
    queries, objects = linear_sum_assignment(known.cpu().numpy())
    return torch.as_tensor(queries, device=cost.device), torch.as_tensor(objects, device=cost.device)


def assign_several(cost: Float[Tensor, "q n"], times: int) -> tuple[Int[Tensor, "k"], Int[Tensor, "k"]]:
    """The same with so many queries for each object, as far as there are enough.

    More queries learn from each object that way, where a later layer tells which of them it shall be (Jia et al. 2022,
    arXiv:2207.13080).
    """
    queries, objects = assign(cost.repeat(1, times))
    return queries, objects % max(cost.shape[1], 1)
