"""From an image to a network's input, by the rules that the model file states."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from halfpixel.structures.images import ImageBatch, InputRules, Resized

ROW_BLOCK_PX = 1 << 17
"""Images are gone over in blocks of rows of about so many pixels: what each step makes of one stays in the processor's
cache, and no float copy of a large image is ever made."""


def network_size(size_hw: tuple[int, int], rules: InputRules) -> tuple[float, tuple[int, int]]:
    """The factor by which an image is resized, and the size it then has, in pixels."""
    if rules.exact_hw is not None and rules.scale is None:
        return _fit_inside(size_hw, rules.exact_hw, rules.stretch)
    fit = min(rules.shortest_side / min(size_hw), rules.longest_side / max(size_hw))
    factor = rules.scale if rules.scale is not None else fit
    height, width = (max(int(side * factor), 1) for side in size_hw)
    return factor, (height, width)


def _fit_inside(size_hw: tuple[int, int], most_hw: tuple[int, int], stretch: bool) -> tuple[float, tuple[int, int]]:
    factor = min(most / side for most, side in zip(most_hw, size_hw, strict=True))
    if stretch:
        return factor, most_hw
    height, width = (min(max(round(side * factor), 1), most) for most, side in zip(most_hw, size_hw, strict=True))
    return factor, (height, width)


def exposure_gain(image: npt.NDArray[np.uint8], below: float) -> float:
    """What a whole image is to be multiplied by so that its 99.9th percentile (0..1) reaches `below`.

    1 for an image that is brighter, or entirely black.
    """
    if below <= 0:
        return 1.0
    rank = max(round(0.999 * image.size), 1)
    step = max(ROW_BLOCK_PX // image.shape[1], 1)
    histogram = torch.zeros(256, dtype=torch.int64)
    for top in range(0, image.shape[0], step):
        histogram += torch.bincount(torch.tensor(image[top : top + step].ravel()), minlength=256)
    bright = int(torch.searchsorted(histogram.cumsum(0), rank)) / 255
    return below / bright if 0 < bright < below else 1.0


def to_float(image: npt.NDArray[np.uint8], gain: float = 1.0) -> Tensor:
    """`[h, w, 3]` bytes as `[3, h, w]` float32 in 0..1, multiplied by `gain` (at least 1) and clipped."""
    pixels = torch.tensor(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255
    return pixels if gain == 1 else (pixels * gain).clamp(max=1)


def normalise(image: Tensor, rules: InputRules) -> Tensor:
    """Subtract the mean, divide by the standard deviation, channel by channel."""
    mean, std = (torch.tensor(values, dtype=image.dtype).reshape(3, 1, 1) for values in (rules.mean, rules.std))
    return (image - mean) / std


def prepare(image: npt.NDArray[np.uint8], rules: InputRules, gain: float | None = None) -> tuple[Tensor, Resized]:
    """Brighten, normalise and resize one image.

    Args:
        image: `[h, w, 3]` RGB.
        rules: of the model.
        gain: the `exposure_gain` of the whole image, where this is a window of one.

    Returns:
        `[3, h', w']` float32, not yet padded, and both sizes.
    """
    batch, size = prepare_batch(image, rules, gain)
    height, width = size.network_hw
    return batch.tensor[0, :, :height, :width], size


def prepare_batch(
    image: npt.NDArray[np.uint8], rules: InputRules, gain: float | None = None
) -> tuple[ImageBatch, Resized]:
    """As `prepare`, and pad the image to a batch of its own, channels last.

    The values are those of bilinear interpolation between normalised pixels. It looks at four pixels for each one that
    it makes, so of a large image that is made smaller most are never touched.
    """
    size_hw = (image.shape[0], image.shape[1])
    gain = exposure_gain(image, rules.stretch_below) if gain is None else gain
    (height, width) = resized_hw = network_size(size_hw, rules)[1]
    padded_hw = [-(-side // rules.divisor) * rules.divisor for side in resized_hw]
    padded = torch.empty(*padded_hw, 3)
    padded[height:] = 0
    padded[:, width:] = 0
    rows, along_y = _neighbours(size_hw[0], height)
    columns, along_x = _neighbours(size_hw[1], width)
    along_x = along_x[:, None].repeat(1, 3)
    used_columns, (left, right) = _used(columns)
    step = max(ROW_BLOCK_PX // width, 1)
    for top in range(0, height, step):
        block = slice(top, min(top + step, height))
        used_rows, (above, below) = _used(rows[:, block])
        source = image[used_rows]
        if len(used_columns) < size_hw[1]:
            source = source.take(used_columns, axis=1)
        pixels = normalise(to_float(source, gain), rules).permute(1, 2, 0)
        pixels = torch.lerp(pixels.index_select(1, left), pixels.index_select(1, right), along_x)
        upper, lower = pixels.index_select(0, above), pixels.index_select(0, below)
        torch.lerp(upper, lower, along_y[block, None, None], out=padded[block, :width])
    batch = ImageBatch(padded.permute(2, 0, 1)[None], torch.tensor([resized_hw]))
    return batch, Resized(size_hw, resized_hw)


def _neighbours(length: int, resized: int) -> tuple[Tensor, Tensor]:
    """For resizing one axis: `[2, resized]` the two samples around each position, and its place between them.

    Rounded as torch does it: in float32, after one fused step.
    """
    factor = float(np.float32(length) / np.float32(resized))
    positions = ((torch.arange(resized, dtype=torch.float64) + 0.5) * factor - 0.5).clamp(min=0).float()
    low = positions.long().clamp(max=length - 1)
    return torch.stack([low, (low + 1).clamp(max=length - 1)]), (positions - low).clamp(max=1)


def _used(neighbours: Tensor) -> tuple[npt.NDArray[np.int64], Tensor]:
    """The samples that are in use, and the place of each neighbour among them."""
    used, places = torch.unique(neighbours, return_inverse=True)
    return used.numpy(), places


def halved(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Half as large: the rounded means of 2 x 2 pixels; an odd last row or column is left out.

    Args:
        image: `[h, w, 3]`, at least 2 x 2.
    """
    height, width = image.shape[0] // 2, image.shape[1] // 2
    result = np.empty((height, width, 3), dtype=np.uint8)
    step = max(ROW_BLOCK_PX // width, 1)
    for top in range(0, height, step):
        rows = image[2 * top : 2 * min(top + step, height), : 2 * width].astype(np.uint16)
        total = rows[::2, ::2] + rows[::2, 1::2] + rows[1::2, ::2] + rows[1::2, 1::2]
        result[top : top + step] = (total + 2) // 4
    return result
