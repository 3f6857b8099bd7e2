"""Colours that tell objects apart: deterministic, without a seed.

Hues are spread in OKLCH (Björn Ottosson, "A perceptual color space for image processing", 2020), where equal steps
look equally large, so no two neighbours end up as two shades of the same green.
"""

import numpy as np
import numpy.typing as npt

Colours = npt.NDArray[np.uint8]
"""`[n, 3]` sRGB, 0..255."""

GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))

_PALETTE_SIZE = 18
_CHROMA = 0.24
_LIGHTNESS_STEPS = (0.0, -0.05, 0.05)
_LMS_FROM_LAB = np.array(
    [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
)
_RGB_FROM_LMS = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def distinct_colours(n: int) -> Colours:
    """The first `n` colours `[n, 3]` of an endless series in which any run of colours is well spread.

    Hues go round by the golden angle; lightness takes three steps in turn.
    """
    return numbered_colours(np.arange(n))


def numbered_colours(numbers: npt.NDArray[np.int64]) -> Colours:
    """The colours `[n, 3]` that have these places, from 0, in the series of `distinct_colours`."""
    return _to_srgb(_series_lab(numbers))


def neighbour_colours(boxes_xyxy: npt.NDArray[np.float64]) -> Colours:
    """One colour `[n, 3]` for each object, so that objects close to each other look clearly different.

    Greedy: in the order given, each object takes the colour of a fixed palette that is furthest from those of its
    coloured neighbours, near ones counting most.

    Args:
        boxes_xyxy: `[n, 4]` pixels.
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    palette = _series_lab(np.arange(_PALETTE_SIZE))
    likeness = 1 / (0.02 + ((palette[:, None] - palette[None]) ** 2).sum(-1))
    chosen = np.zeros(len(boxes), dtype=np.int64)
    low, high = boxes[:, :2], boxes[:, 2:]
    typical_side = float(np.median(high - low)) if len(boxes) else 1.0
    for k in range(len(boxes)):
        gaps = np.maximum(np.maximum(low[:k] - high[k], low[k] - high[:k]), 0) / max(typical_side, 1)
        nearness = 1 / (0.05 + (gaps**2).sum(1)) ** 1.5
        crowding = np.bincount(chosen[:k], weights=nearness, minlength=_PALETTE_SIZE) @ likeness
        chosen[k] = int(np.argmin(crowding))
    return _to_srgb(palette[chosen])


def shade(colours: Colours, lightness: float, chroma_factor: float = 1.0) -> Colours:
    """The same hues `[n, 3]` at another OKLab lightness (0..1), for hairlines and letters around a colour."""
    lab = _to_lab(colours)
    lab[:, 0] = lightness
    lab[:, 1:] *= chroma_factor
    return _to_srgb(lab)


def _series_lab(k: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    hues = 0.5 + k * GOLDEN_ANGLE
    # each hue is shown where sRGB lets it be vivid: yellow light, blue and magenta darker
    lightness = 0.765 + 0.09 * np.cos(hues - 2.2) + np.take(_LIGHTNESS_STEPS, k % len(_LIGHTNESS_STEPS))
    return np.stack([lightness, _CHROMA * np.cos(hues), _CHROMA * np.sin(hues)], axis=1)


def _to_srgb(lab: npt.NDArray[np.float64]) -> Colours:
    """OKLab to sRGB; colours outside the gamut lose chroma, never hue or lightness."""
    kept = np.ones(len(lab))
    for _ in range(40):
        linear = _linear_rgb(lab * np.stack([np.ones(len(lab)), kept, kept], axis=1))
        outside = ((linear < -1e-4) | (linear > 1 + 1e-4)).any(1)
        if not outside.any():
            break
        kept[outside] *= 0.95
    linear = linear.clip(0, 1) if len(lab) else np.zeros((0, 3))
    curved = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(curved * 255), dtype=np.uint8)


def _linear_rgb(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    rgb: npt.NDArray[np.float64] = ((lab @ _LMS_FROM_LAB.T) ** 3) @ _RGB_FROM_LMS.T
    return rgb


def _to_lab(colours: Colours) -> npt.NDArray[np.float64]:
    srgb = colours.reshape(-1, 3) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lab: npt.NDArray[np.float64] = np.cbrt(linear @ np.linalg.inv(_RGB_FROM_LMS).T) @ np.linalg.inv(_LMS_FROM_LAB).T
    return lab
