"""One-to-one assignment of rows to columns where few pairs are possible."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def assign_sparsely(rows: Indices, columns: Indices, gains: Floats, shape: tuple[int, int]) -> Indices:
    """Of some pairs those, each row and each column in at most one, whose gains add up to the most.

    What is connected by no pair is independent, so that each connected part is an assignment of its own (Kuhn 1955):
    nothing grows with the product of rows and columns.

    Args:
        rows: `[p]`.
        columns: `[p]`.
        gains: `[p]`, above 0.
        shape: how many rows and columns there are.

    Returns:
        The places of the chosen pairs, ascending.
    """
    if not any(len(one) and np.bincount(one).max() > 1 for one in (rows, columns)):  # nobody has a choice
        return np.arange(len(rows))
    graph = coo_array((np.ones(len(rows), dtype=np.bool_), (rows, shape[0] + columns)), shape=(sum(shape), sum(shape)))
    part = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(part, kind="stable")
    kept = []
    for pairs in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
        kept.append(pairs if len(pairs) == 1 else pairs[_assign(rows[pairs], columns[pairs], gains[pairs])])
    return np.sort(np.concatenate(kept))


def _assign(rows: Indices, columns: Indices, gains: Floats) -> Indices:
    """The places of the chosen pairs, of all that are looked at together."""
    (some_rows, i), (some_columns, j) = (np.unique(one, return_inverse=True) for one in (rows, columns))
    gain, place = np.zeros((len(some_rows), len(some_columns))), np.full((len(some_rows), len(some_columns)), -1)
    gain[i, j], place[i, j] = gains, np.arange(len(gains))
    chosen = place[linear_sum_assignment(gain, maximize=True)]
    found: Indices = chosen[chosen >= 0]
    return found
