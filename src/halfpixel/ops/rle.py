"""COCO run-length encoding of crops, without ever making the full canvas.

Runs go down the columns, alternating background and object, and start with background. The compressed string packs
the runs in groups of five bits (https://github.com/cocodataset/cocoapi, `common/maskApi.c`, documents the format).
"""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Crop = npt.NDArray[np.bool_]


def encode_crop(crop: Crop, offset_xy: tuple[int, int], size_hw: tuple[int, int]) -> Counts:
    """Run lengths on a canvas `size_hw` of a crop whose first pixel is at `offset_xy`; the crop must fit."""
    height, width = size_hw
    h, w = crop.shape
    x, y = offset_xy
    if x < 0 or y < 0 or x + w > width or y + h > height:
        raise ValueError(f"crop of {h} x {w} pixels at {offset_xy} does not fit a canvas of {height} x {width}")
    if not crop.any():
        return np.array([height * width], dtype=np.int64)
    # In each column of the crop, a run starts where the value turns on and ends where it turns off.
    fenced = np.zeros((w, h + 2), dtype=np.int8)
    fenced[:, 1:-1] = crop.T
    edges = np.diff(fenced, axis=1)
    column, row = np.nonzero(edges == 1)
    starts = (column + x) * height + row + y
    column, row = np.nonzero(edges == -1)
    ends = (column + x) * height + row + y
    joined = starts[1:] == ends[:-1]  # a run that reaches the canvas's foot goes on at the next column's head
    starts = np.concatenate([starts[:1], starts[1:][~joined]])
    ends = np.concatenate([ends[:-1][~joined], ends[-1:]])
    bounds = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [height * width]])
    counts = np.diff(bounds)
    return counts[:-1] if counts[-1] == 0 else counts


def decode_to_crop(
    counts: Counts, size_hw: tuple[int, int], at_most_px: int | None = None
) -> tuple[Crop, tuple[int, int]]:
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


def compress(counts: Counts) -> str:
    """The COCO string of run lengths."""
    values = np.asarray(counts, dtype=np.int64).copy()
    values[3:] -= np.asarray(counts, dtype=np.int64)[1:-2]  # from the fourth on, the difference to two runs before
    groups: list[npt.NDArray[np.int64]] = []
    more = np.ones(len(values), dtype=np.bool_)
    while more.any():
        group = values & 0x1F
        values >>= 5
        goes_on = np.where(group & 0x10, values != -1, values != 0) & more
        groups.append(np.where(more, (group | np.where(goes_on, 0x20, 0)) + 48, 0))
        more = goes_on
    if not groups:
        return ""
    characters = np.stack(groups, axis=1).ravel()
    return characters[characters > 0].astype(np.uint8).tobytes().decode("ascii")


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
    if (place > 6).any():
        raise ValueError("the run-length string holds a number that is too long")
    values = np.zeros(int(ends.sum()), dtype=np.int64)
    np.add.at(values, number, (groups & 0x1F) << (5 * place))
    negative = ends & ((groups & 0x10) != 0)
    np.add.at(values, number[negative], -1 << (5 * (place[negative] + 1)))
    for start in (1, 2):  # undo the differences; even and odd runs are two separate sums, the first one left out
        values[start::2] = np.cumsum(values[start::2])
    return values
