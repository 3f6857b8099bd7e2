"""Assignment by trying everything."""

import itertools


def best_by_trial(gains: dict[tuple[int, int], float], n: int, m: int) -> tuple[float, dict[int, int]]:
    """Every way to give each of n rows one of m columns or none."""
    best: tuple[float, dict[int, int]] = (-1.0, {})
    for columns in itertools.product(range(m + 1), repeat=n):
        taken = [column for column in columns if column < m]
        pairs = [(row, column) for row, column in enumerate(columns) if column < m]
        if len({*taken}) == len(taken) and all(pair in gains for pair in pairs):
            total = sum(gains[pair] for pair in pairs)
            if total > best[0] + 1e-12:
                best = total, dict(pairs)
    return best
