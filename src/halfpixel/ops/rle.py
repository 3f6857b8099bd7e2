"""COCO run-length encoding of crops, without ever making the full canvas.

Runs go down the columns, alternating background and object, and start with background. The compressed string packs
the runs in groups of five bits (https://github.com/cocodataset/cocoapi, `common/maskApi.c`, documents the format).
Masks of an image go through together where they can: one by one, most of the time goes into starting numpy's functions.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Crop = npt.NDArray[np.bool_]
PlacedCrop = tuple[Crop, tuple[int, int]]
"""A boolean crop `[h, w]` and its first pixel `(x, y)`."""

_MOST_GROUPS = 7
"""Of five bits each, in a number of a string."""


def encode_crops(crops: Sequence[PlacedCrop], size_hw: tuple[int, int]) -> list[Counts]:
    """Run lengths on a canvas `size_hw` of each crop.

    Raises:
        ValueError: a crop does not fit the canvas.
    """
    height, width = size_hw
    sides = np.array([crop.shape for crop, _ in crops], dtype=np.int64).reshape(-1, 2)
    offsets = np.array([offset_xy for _, offset_xy in crops], dtype=np.int64).reshape(-1, 2)
    outside = ((offsets < 0) | (offsets + sides[:, ::-1] > (width, height))).any(1)
    if outside.any():
        k = int(outside.argmax())
        (h, w), offset_xy = sides[k].tolist(), tuple(offsets[k].tolist())
        raise ValueError(f"crop of {h} x {w} pixels at {offset_xy} does not fit a canvas of {height} x {width}")
    # the columns of all crops one after the other, with a pixel of background before the first and after each
    lengths = (sides[:, 0] + 1) * sides[:, 1]
    firsts = _firsts(lengths)
    line = np.zeros(1 + firsts[-1], dtype=np.bool_)
    for (crop, _), first in zip(crops, (firsts + 1).tolist(), strict=False):
        h, w = crop.shape
        line[first : first + (h + 1) * w].reshape(w, h + 1)[:, :h] = crop.T
    changes = np.flatnonzero(line[1:] != line[:-1])
    starts, ends = changes[::2], changes[1::2]
    owner = np.searchsorted(firsts, starts, side="right") - 1
    column, row = np.divmod(starts - firsts[owner], sides[owner, 0] + 1)
    ends = ends - starts
    starts = (column + offsets[owner, 0]) * height + row + offsets[owner, 1]
    ends += starts
    # a run that reaches the canvas's foot goes on at the next column's head
    apart = (starts[1:] != ends[:-1]) | (owner[1:] != owner[:-1])
    apart = np.concatenate([[True], apart, [True]])[: len(starts) + 1]
    return _as_counts(starts[apart[:-1]], ends[apart[1:]], owner[apart[:-1]], len(crops), height * width)


def _as_counts(starts: Counts, ends: Counts, owner: Counts, n: int, canvas_px: int) -> list[Counts]:
    """The run lengths of `n` masks from where the runs of each one start and end."""
    n_runs = np.bincount(owner, minlength=n)
    firsts = _firsts(2 * n_runs + 1)
    before = np.concatenate([[0], ends])[: len(ends)]
    before[_firsts(n_runs)[:-1][n_runs > 0]] = 0
    counts = np.empty(firsts[-1], dtype=np.int64)
    place = 2 * np.arange(len(starts)) + owner
    counts[place], counts[place + 1] = starts - before, ends - starts
    last_end = np.zeros(n, dtype=np.int64)
    last_end[owner] = ends
    counts[firsts[1:] - 1] = canvas_px - last_end
    none_left = (last_end == canvas_px) & (n_runs > 0)
    return _split(counts, firsts[:-1], firsts[1:] - none_left)


def compress(counts: Sequence[Counts]) -> list[str]:
    """The COCO string of each mask's run lengths."""
    lengths = np.array([len(one) for one in counts], dtype=np.int64)
    firsts = _firsts(lengths)
    runs = np.concatenate([np.zeros(0, dtype=np.int64), *counts])
    late = np.flatnonzero(_places(lengths) > 2)
    values = runs.copy()
    values[late] -= runs[late - 2]  # from the fourth on, the difference to two runs before
    groups: list[npt.NDArray[np.int64]] = []
    more = np.ones(len(values), dtype=np.bool_)
    while more.any():
        group = values & 0x1F
        values >>= 5
        goes_on = np.where(group & 0x10, values != -1, values != 0) & more
        groups.append(np.where(more, (group | np.where(goes_on, 0x20, 0)) + 48, 0))
        more = goes_on
    if not groups:
        return [""] * len(counts)
    characters = np.stack(groups, axis=1).astype(np.uint8)
    used = characters > 0
    text = characters[used].tobytes().decode("ascii")
    bounds = _firsts(used.sum(1))[firsts].tolist()
    return [text[first:last] for first, last in itertools.pairwise(bounds)]


def decompress(text: str) -> Counts:
    """Run lengths of a COCO string.

    Raises:
        ValueError: a character outside the alphabet, or the string ends in the middle of a number.
    """
    groups = np.frombuffer(text.encode("utf-8", errors="surrogatepass"), dtype=np.uint8).astype(np.int64) - 48
    if ((groups < 0) | (groups > 63)).any():
        raise ValueError("the run-length string holds characters outside '0'..'o'")
    ends = (groups & 0x20) == 0
    if len(groups) and not ends[-1]:
        raise ValueError("the run-length string stops in the middle of a number")
    number = np.concatenate([[0], np.cumsum(ends)[:-1]]) if len(groups) else groups
    firsts = np.concatenate([[0], np.flatnonzero(ends)[:-1] + 1]) if len(groups) else groups
    place = np.arange(len(groups)) - firsts[number] if len(groups) else groups
    if (place >= _MOST_GROUPS).any():
        raise ValueError("the run-length string holds a number that is too long")
    values = np.zeros(int(ends.sum()), dtype=np.int64)
    np.add.at(values, number, (groups & 0x1F) << (5 * place))
    negative = ends & ((groups & 0x10) != 0)
    np.add.at(values, number[negative], -1 << (5 * (place[negative] + 1)))
    for start in (1, 2):  # undo the differences; even and odd runs are two separate sums, the first one left out
        values[start::2] = np.cumsum(values[start::2])
    return values


def decompress_all(texts: Sequence[str]) -> list[Counts]:
    """`decompress` of several strings, in a small part of the time that they take one by one.

    Raises:
        ValueError: see `decompress`; of which string is not said.
    """
    encoded = [text.encode("utf-8", errors="surrogatepass") for text in texts]
    groups = np.frombuffer(b"".join(encoded), dtype=np.uint8).astype(np.int64) - 48
    if ((groups < 0) | (groups > 63)).any():
        raise ValueError("the run-length string holds characters outside '0'..'o'")
    text_lengths = np.array([len(one) for one in encoded], dtype=np.int64)
    is_last = (groups & 0x20) == 0
    lasts = np.flatnonzero(is_last)
    if not is_last[_firsts(text_lengths)[1:][text_lengths > 0] - 1].all():
        raise ValueError("the run-length string stops in the middle of a number")
    firsts = np.concatenate([[0], lasts + 1])[: len(lasts)]
    n_groups = lasts - firsts + 1
    if (n_groups > _MOST_GROUPS).any():
        raise ValueError("the run-length string holds a number that is too long")
    values = np.add.reduceat((groups & 0x1F) << (5 * _places(n_groups)), firsts) if len(firsts) else groups
    values -= np.where(groups[lasts] & 0x10, 1 << (5 * n_groups), 0)
    bounds = np.concatenate([[0], np.cumsum(is_last)])[_firsts(text_lengths)]
    lengths = np.diff(bounds)
    places = _places(lengths)
    for start in (1, 2):  # undo the differences; even and odd runs are two separate sums, the first one left out
        chosen = np.flatnonzero((places >= start) & ((places - start) % 2 == 0))
        n_chosen = np.maximum((lengths - start + 1) // 2, 0)
        sums = np.cumsum(values[chosen])
        before = np.concatenate([[0], sums])[_firsts(n_chosen)[:-1]]
        values[chosen] = sums - np.repeat(before, n_chosen)
    return _split(values, bounds[:-1], bounds[1:])


def decode_to_crop(counts: Counts, size_hw: tuple[int, int], at_most_px: int | None = None) -> PlacedCrop:
    """The tight crop of a run-length mask and its first pixel `(x, y)`; an empty mask gives a 0 x 0 crop at (0, 0).

    Args:
        counts: the run lengths.
        size_hw: the canvas.
        at_most_px: refuse a mask whose columns hold more pixels of the canvas. Default: no limit.

    Raises:
        ValueError: the runs are negative or do not add up to the canvas, or the mask is too large.
    """
    height, width = size_hw
    counts = np.asarray(counts, dtype=np.int64)
    # a run longer than the canvas could make the sum wrap around
    if (counts < 0).any() or (counts > height * width).any() or counts.sum() != height * width:
        raise ValueError(f"run lengths add up to {counts.sum()}, not to {height} x {width} = {height * width} pixels")
    bounds = np.concatenate([[0], np.cumsum(counts)])
    starts, ends = bounds[1:-1:2], bounds[2::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if len(starts) == 0:
        return np.zeros((0, 0), dtype=np.bool_), (0, 0)
    left, right = int(starts[0] // height), int((ends[-1] - 1) // height) + 1
    if at_most_px is not None and (right - left) * height > at_most_px:
        raise ValueError(
            f"a mask over {right - left} columns of {height} pixels; at most {at_most_px} pixels can be held"
        )
    edges = np.concatenate([[left * height], np.stack([starts, ends], axis=1).ravel(), [right * height]])
    is_object = np.arange(len(edges) - 1) % 2 == 1
    strip = np.repeat(is_object, np.diff(edges)).reshape(right - left, height).T
    rows = np.flatnonzero(strip.any(axis=1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(strip[top:bottom]), (left, top)


def decode_to_crops(
    counts: Sequence[Counts], size_hw: tuple[int, int], at_most_px: int | None = None
) -> list[PlacedCrop]:
    """`decode_to_crop` of several masks on one canvas, in a small part of the time that they take one by one.

    Raises:
        ValueError: see `decode_to_crop`; of which mask is not said.
    """
    height = size_hw[0]
    starts, ends, owner = _runs(counts, size_hw)
    n_runs = np.bincount(owner, minlength=len(counts))
    shown = np.flatnonzero(n_runs)
    first_runs = _firsts(n_runs)[shown]
    column, last_column = starts // max(height, 1), (ends - 1) // max(height, 1)
    left, right = (np.zeros(len(counts), dtype=np.int64) for _ in range(2))
    left[shown], right[shown] = column[first_runs], last_column[_firsts(n_runs)[shown + 1] - 1] + 1
    if at_most_px is not None and ((right - left) * height > at_most_px).any():
        k = int((right - left).argmax())
        raise ValueError(
            f"a mask over {right[k] - left[k]} columns of {height} pixels; at most {at_most_px} pixels can be held"
        )
    # one run for each column that a run goes through
    n_columns = last_column - column + 1
    owner, nth = np.repeat(owner, n_columns), _places(n_columns)
    column = np.repeat(column, n_columns) + nth
    row = np.where(nth == 0, np.repeat(starts, n_columns) - column * height, 0)
    last_row = np.minimum(np.repeat(ends, n_columns) - column * height, height)
    first_runs = _firsts(np.bincount(owner, minlength=len(counts)))[shown]
    top, bottom = (np.zeros(len(counts), dtype=np.int64) for _ in range(2))
    if len(shown):
        top[shown], bottom[shown] = np.minimum.reduceat(row, first_runs), np.maximum.reduceat(last_row, first_runs)
    heights, widths = bottom - top, right - left
    firsts = _firsts(heights * widths)
    head = firsts[owner] + (column - left[owner]) * heights[owner] - top[owner]
    bounds = np.stack([head + row, head + last_row], axis=1).ravel()
    is_object = np.arange(len(bounds) + 1) % 2 == 1
    line = np.repeat(is_object, np.diff(np.concatenate([[0], bounds, firsts[-1:]])))
    found = []
    for first, h, w, x, y in np.stack([firsts[:-1], heights, widths, left, top], axis=1).tolist():
        found.append((line[first : first + h * w].reshape(w, h).T.copy(), (x, y)))  # not to hold on to all
    return found


def _runs(counts: Sequence[Counts], size_hw: tuple[int, int]) -> tuple[Counts, Counts, Counts]:
    """Where each run of objects starts and ends on the canvas, and the index of its mask.

    Raises:
        ValueError: the runs are negative or do not add up to the canvas.
    """
    canvas_px = size_hw[0] * size_hw[1]
    lengths = np.array([len(one) for one in counts], dtype=np.int64)
    firsts = _firsts(lengths)
    runs = np.concatenate([np.zeros(0, dtype=np.int64), *(np.asarray(one, dtype=np.int64) for one in counts)])
    passed = np.concatenate([[0], np.cumsum(runs)])
    wrong = np.diff(passed[firsts]) != canvas_px
    # a run longer than the canvas could make the sum wrap around
    wrong[np.repeat(np.arange(len(counts)), lengths)[(runs < 0) | (runs > canvas_px)]] = True
    if wrong.any():
        total = np.sum(counts[int(wrong.argmax())], dtype=np.int64)
        raise ValueError(f"run lengths add up to {total}, not to {size_hw[0]} x {size_hw[1]} = {canvas_px} pixels")
    odd = np.flatnonzero(_places(lengths) % 2)
    odd = odd[runs[odd] > 0]
    owner = np.repeat(np.arange(len(counts)), lengths)[odd]
    starts = passed[odd] - passed[firsts[owner]]
    return starts, starts + runs[odd], owner


def _firsts(lengths: Counts) -> Counts:
    """Where each of several parts of such lengths begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths)])


def _places(lengths: Counts) -> Counts:
    """0, 1, 2, ... in each of several parts of such lengths."""
    return np.arange(lengths.sum()) - np.repeat(_firsts(lengths)[:-1], lengths)


def _split(values: Counts, firsts: Counts, lasts: Counts) -> list[Counts]:
    return [values[first:last] for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)]
