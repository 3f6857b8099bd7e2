import numpy as np
import pytest
from oracles.assignment import best_by_trial

from halfpixel.ops.assignment import assign_sparsely


@pytest.mark.parametrize("seed", range(25))
def test_assignment_against_all_ways_to_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 6, 2).tolist()
    gains = {(i, j): float(rng.uniform(0.1, 1)) for i in range(n) for j in range(m) if rng.random() < 0.45}
    rows, columns = (np.array([pair[k] for pair in gains], dtype=np.int64) for k in (0, 1))
    kept = assign_sparsely(rows, columns, np.array([*gains.values()]), (n, m))
    assert {int(rows[k]): int(columns[k]) for k in kept} == best_by_trial(gains, n, m)[1]
