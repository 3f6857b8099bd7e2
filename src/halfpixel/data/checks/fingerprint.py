"""The same photograph twice: images compared by what they show, not by their bytes.

Candidates come from a difference hash (Neal Krawetz, "Kind of like that", hackerfactor.com, 2013) on a 16 x 16 grid,
and are then compared as small pictures. Found are copies that were rescaled, stored anew, brightened or turned grey;
copies that were cropped, mirrored or turned are not.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LUMA = (0.299, 0.587, 0.114)
"""How bright the three colours are (ITU-R BT.601), as for those who turn a picture grey."""
GRID = 16
DEAD_ZONE = 0.05
"""Neighbouring cells count as equal where they differ by less than this part of the picture's contrast."""
LARGEST_DISTANCE = 64
"""Of the hash's 512 bits, at most this many differ between candidates."""
THUMBNAIL = 32
LEAST_CORRELATION = 0.8
"""Of the fine structure of two candidates' thumbnails, from which they count as one picture."""
BLANK = 0.1
"""Grey levels (of 255): a thumbnail whose fine structure has a standard deviation under this shows nothing."""


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What an image is known by.

    Attributes:
        bits: `[8]` the difference hash: where the next cell to the right is brighter, then where it is darker.
        details: `[32 * 32]` the thumbnail without its slow changes of brightness, of mean 0 and norm 1.
    """

    bits: npt.NDArray[np.uint64]
    details: npt.NDArray[np.float32]


def fingerprint(image: npt.NDArray[np.uint8]) -> Fingerprint | None:
    """What an image `[h, w, 3]` is known by; None where it shows nothing, as all blank images are alike."""
    thumbnail = _cell_means(image, THUMBNAIL, THUMBNAIL)
    # what microscopes and lamps do to every picture alike is slow; what tells pictures apart is not
    around = np.lib.stride_tricks.sliding_window_view(np.pad(thumbnail, 2, mode="edge"), (5, 5)).mean((2, 3))
    details = thumbnail - around
    if float(details.std()) < BLANK:
        return None
    details -= details.mean()
    cells = _cell_means(image, GRID, GRID + 1)
    steps = np.diff(cells, axis=1)
    least = DEAD_ZONE * float(np.ptp(cells))
    bits = np.packbits(np.stack([steps > least, steps < -least])).view(np.uint64)
    return Fingerprint(bits, (details / np.linalg.norm(details)).astype(np.float32).ravel())


def find_repeats(fingerprints: Sequence[Fingerprint | None]) -> list[tuple[int, int]]:
    """The images that show what an earlier one shows: pairs of the earlier one's index and its own."""
    known = [k for k, one in enumerate(fingerprints) if one is not None]
    prints = [one for one in fingerprints if one is not None]
    if not prints:
        return []
    bits, details = np.stack([one.bits for one in prints]), np.stack([one.details for one in prints])
    repeats = []
    for n in range(1, len(prints)):
        distances = np.bitwise_count(bits[:n] ^ bits[n]).sum(axis=1)
        candidates = np.flatnonzero(distances <= LARGEST_DISTANCE)
        same = candidates[details[candidates] @ details[n] >= LEAST_CORRELATION]
        if len(same):
            repeats.append((known[int(same[0])], known[n]))
    return repeats


def _cell_means(image: npt.NDArray[np.uint8], rows: int, columns: int) -> npt.NDArray[np.float64]:
    """The mean brightness of a grid of cells; an image smaller than the grid has its pixels repeated."""
    (top, bottom), (left, right) = (_cells(side, n) for side, n in zip(image.shape, (rows, columns), strict=False))
    # whole numbers until the end, and not a copy of the image among them
    in_rows = np.stack([image[a:b].sum(axis=0, dtype=np.uint32) for a, b in zip(top, bottom, strict=True)])
    in_cells = np.add.reduceat(in_rows, left, axis=1, dtype=np.uint64)
    n_pixels = np.outer(np.subtract(bottom, top), np.subtract(right, left))
    means: npt.NDArray[np.float64] = in_cells @ np.array(LUMA) / n_pixels
    return means


def _cells(side: int, n: int) -> tuple[list[int], list[int]]:
    """Where `n` cells begin and end along a side."""
    edges = [k * side // n for k in range(n + 1)]
    return edges[:-1], [max(last, first + 1) for first, last in itertools.pairwise(edges)]
