"""COCO's average precision with every detection of every draw looked at."""

import numpy as np

LEVELS = np.linspace(0, 1, 101)


def average_precision_slowly(right: np.ndarray, wrong: np.ndarray, times: np.ndarray, n_annotated: int) -> float:
    """The area under the interpolated curve of one IoU.

    Args:
        right: `[d]` whether a detection is right, the best scores first.
        wrong: `[d]` whether it is wrong; one that is neither does not count.
        times: `[d]` how often each counts.
        n_annotated: objects to find.
    """
    found, total = np.cumsum(times * right), np.cumsum(times * (right | wrong))
    precision = found / np.maximum(total, 1)
    highest_from_here_on = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(found / n_annotated, LEVELS)  # the detection that reaches the level
    return sum(float(highest_from_here_on[k]) for k in first if k < len(right)) / len(LEVELS)
