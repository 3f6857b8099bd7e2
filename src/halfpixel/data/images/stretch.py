"""The contrast of values deeper than 8 bits, by what belongs to the picture.

What lies far beyond the rest does not decide it: hot and dead pixels, a burnt-in scale bar, padding, a plane that was
exposed otherwise. It is told from what is really bright by how it looks: light has slopes, so the values between are
there as well; and the rest has to show something, or else the far values are the objects of an empty field.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from halfpixel.data.images.contrast import Contrast, Values
from halfpixel.data.images.no_data import Mask, holds_data
from halfpixel.errors import ImageError

PERCENTILES = (0.1, 99.9)

MAX_SAMPLE = 2**22
"""Pixels that the percentiles are taken from, at most: all of an image of 2,048 x 2,048."""

MAX_WINDOWS = 2**20
"""Windows of 3 x 3 pixels that are looked at for solid objects, at most."""

MAX_SAMPLED_PLANES = 32

FAR = 4.0
"""What is this many times as far from the other end as all the rest is left out: the rest would have a quarter of the
grey levels."""

FAR_PLANES = 6.0
"""The same for whole planes: those in focus may well be a few times as bright as their neighbours."""

ODD_PLANES = 1 / 3
"""At most so many of the planes are odd."""

MAX_SPECKS = 0.02
"""At most so many of the pixels are specks, which no solid object of 3 x 3 pixels comes near to."""

SPECK_HEADROOM = 1.5
"""Noise lifts single pixels of an object above its solid part, about so much."""

MORE_THAN_NOISE = 2.5
"""The solid parts of pure noise differ by about 1.2 of its standard deviations."""

UNIT_RANGE_IN_USE = 1 / 16
"""Floats in 0..1 keep that range unless they use less of it: 12 bits that were divided by 65,535."""

FEW_LEVELS, NEARLY_ALL = 8, 0.99

LEFT_OUT = "values far from all others did not decide the contrast"
FEW_GREY_LEVELS = "nearly all pixels are within a few of the 256 grey levels, and faint objects cannot be seen"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Stretch:
    """How deep values become 8 bits.

    Attributes:
        contrasts: one a channel.
        remarks: what may surprise, and the details.
    """

    contrasts: tuple[Contrast, ...]
    remarks: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Windows:
    """Windows of 3 x 3 pixels of which all hold data.

    Attributes:
        centre: `[m]`.
        step: `[m]`, how much the pixel to the right of the centre differs.
        low: `[m]`, the smallest value.
        high: `[m]`, the largest.
    """

    centre: Floats
    step: Floats
    low: Floats
    high: Floats

    @classmethod
    def joined(cls, several: Sequence[_Windows]) -> _Windows:
        fields = zip(*((one.centre, one.step, one.low, one.high) for one in several), strict=True)
        return cls(*map(np.concatenate, fields))

    def negated(self) -> _Windows:
        return _Windows(-self.centre, self.step, -self.high, -self.low)

    def up_to(self, top: float) -> _Windows:
        kept = self.centre <= top
        return _Windows(self.centre[kept], self.step[kept], self.low[kept], np.minimum(self.high[kept], top))

    @property
    def show_more_than_noise(self) -> bool:
        if not len(self.centre):
            return False
        within = self.step[self.step <= self.centre.max() - self.low.min()]  # not those to what was left out
        noise = float(np.median(within)) / (math.sqrt(2) * 0.6745)
        return bool(self.low.max() - self.high.min() > MORE_THAN_NOISE * noise)


@dataclass(frozen=True, eq=False)
class _Sample:
    """A part of the pixels of one or more channels, of one or more planes.

    Attributes:
        values: `[n]`, those that hold data.
        windows: a part of them and their neighbours.
        least: of all pixels, sampled or not.
        most: likewise.
    """

    values: Values
    windows: _Windows
    least: float
    most: float

    @classmethod
    def joined(cls, several: Sequence[_Sample]) -> _Sample:
        return cls(
            np.concatenate([one.values for one in several]),
            _Windows.joined([one.windows for one in several]),
            min(one.least for one in several),
            max(one.most for one in several),
        )


def measure_stretch(planes: Sequence[Callable[[], Values]], jointly: bool, no_data: float | None = None) -> Stretch:
    """One contrast for each channel of all planes of an image.

    From the 0.1st to the 99.9th percentile of what belongs to the picture, or from the smallest to the largest value
    where those two are equal; floats that all lie in 0..1 keep that range, unless they use less than a sixteenth of
    it. All is estimated from a regular grid of pixels of at most 32 planes, spread evenly.

    Args:
        planes: each reads one plane `[h, w, channels]`.
        jointly: the same contrast for all channels, as colours need it.
        no_data: the value of pixels that are outside of the picture, as are NaN and infinite ones.

    Raises:
        ImageError: no pixel holds data in any of the planes that were looked at.
    """
    spread = planes[:: math.ceil(len(planes) / MAX_SAMPLED_PLANES)]
    samples, is_float = [], False
    for read in spread:
        plane = read()
        is_float = plane.dtype.kind == "f"
        share = len(spread) * (plane.shape[2] if jointly else 1)
        samples.append([_sample(plane[..., k], share, no_data) for k in range(plane.shape[2])])
    by_channel: list[list[_Sample]] = [list(several) for several in zip(*samples, strict=True)]
    groups = [[_Sample.joined(plane) for plane in samples]] if jointly else by_channel
    contrasts: list[Contrast] = []
    remarks: dict[str, str] = {}
    for k, group in enumerate(groups):
        contrast, remark = _stretch_of(group, is_float)
        if contrast.low == contrast.high and len(spread) < len(planes):
            contrast = _full_range(planes, None if jointly else k, no_data)
        contrasts.append(contrast)
        remarks |= remark
    return Stretch(tuple(contrasts * len(by_channel) if jointly else contrasts), remarks)


def _sample(channel: Values, share: int, no_data: float | None) -> _Sample:
    """A regular part of a channel `[h, w]`, for one of so many that are sampled."""
    valid = holds_data(channel, no_data)
    inside = channel if valid is None else channel[valid]
    step = math.ceil(math.sqrt(channel.size * share / MAX_SAMPLE))
    values = channel[::step, ::step] if valid is None else channel[::step, ::step][valid[::step, ::step]]
    windows = _windows(channel, valid, math.ceil(math.sqrt(channel.size * share / MAX_WINDOWS)))
    limits = (float(inside.min()), float(inside.max())) if inside.size else (math.inf, -math.inf)
    return _Sample(values.flatten(), windows, *limits)


def _windows(channel: Values, valid: Mask | None, apart: int) -> _Windows:
    height, width = channel.shape

    def neighbours(pixels: Values) -> list[Values]:
        return [pixels[y : height - 2 + y : apart, x : width - 2 + x : apart] for y in range(3) for x in range(3)]

    if min(height, width) < 3:
        return _Windows(*np.empty((4, 0)))
    nine = neighbours(channel)
    whole = slice(None) if valid is None else reduce(np.logical_and, neighbours(valid))
    centre, right, low, high = (
        one[whole].astype(np.float64).ravel()
        for one in (nine[4], nine[5], reduce(np.minimum, nine), reduce(np.maximum, nine))
    )
    return _Windows(centre, np.abs(centre - right), low, high)


def _stretch_of(planes: Sequence[_Sample], is_float: bool) -> tuple[Contrast, dict[str, str]]:
    """The contrast of what shares one, and remarks on it."""
    everything = _Sample.joined(planes)
    least, most = everything.least, everything.most
    if least > most:
        raise ImageError("no pixel holds a number: all are NaN, infinite, or the value that stands for no data")
    sample = _Sample.joined(_without_odd_planes(planes))
    values, (bottom, top) = sample.values, _limits_of_picture(sample.windows)
    if bottom > sample.least or top < sample.most:
        values = values[(values >= bottom) & (values <= top)]
    low, high = map(float, np.percentile(values, PERCENTILES)) if len(values) else (least, least)
    if is_float and least >= 0 and most <= 1 and (high > UNIT_RANGE_IN_USE or low == high):
        contrast = Contrast(0, 1)
    else:
        contrast = Contrast(low, high) if low < high else Contrast(least, most)
    remarks = {}
    if n_left_out := len(everything.values) - len(values):
        remarks[LEFT_OUT] = f"{_percent(n_left_out / len(everything.values))} of the pixels"
    if contrast.low < contrast.high and (few := _few_levels(contrast, everything.values)):
        remarks[FEW_GREY_LEVELS] = few
    return contrast, remarks


def _without_odd_planes(planes: Sequence[_Sample]) -> Sequence[_Sample]:
    """The planes but for a few that are far brighter, or far darker, than all others."""
    shown = [one for one in planes if len(one.values)]
    for sign in (1, -1):
        limits = np.array([np.sort(sign * np.percentile(one.values, PERCENTILES)) for one in shown])
        low = float(np.median(limits[:, 0]))
        order = np.argsort(limits[:, 1], kind="stable")
        for n_odd in range(1, int(ODD_PLANES * len(shown)) + 1):
            rest, odd = order[:-n_odd], order[-n_odd]
            reach = limits[rest, 1].max() - low
            usual = [shown[k] for k in sorted(rest)]
            if (
                limits[odd, 1] - low > FAR_PLANES * reach
                and _Windows.joined([one.windows for one in usual]).show_more_than_noise
            ):
                shown = usual
                break
    return shown


def _limits_of_picture(windows: _Windows) -> tuple[float, float]:
    """The smallest and the largest value that belong to the picture."""
    bottom, top = -math.inf, math.inf
    for _ in range(2 if len(windows.centre) else 0):  # what is too dark can hide what is too bright
        top = min(top, _top_of_picture(windows))
        windows = windows.up_to(top).negated()
        bottom = max(bottom, -_top_of_picture(windows))
        windows = windows.up_to(-bottom).negated()
    return bottom, top


def _top_of_picture(windows: _Windows) -> float:
    """The largest value that belongs to the picture: above are only one far value, or specks. Infinite for all."""
    centre, most = windows.centre, float(windows.centre.max())
    low, high = map(float, np.percentile(centre, PERCENTILES))
    # light has slopes: around a saturated nucleus are windows that are nearly as bright, around a scale bar are none
    solid = float(windows.low[windows.low < most].max(initial=-math.inf))
    edge = low + SPECK_HEADROOM * (solid - low)
    are_far = high - low > FAR * (solid - low) and np.mean((centre > edge) & (centre < most)) <= MAX_SPECKS
    return edge if are_far and windows.up_to(edge).show_more_than_noise else math.inf


def _few_levels(contrast: Contrast, values: Values) -> str:
    """How few grey levels nearly all pixels are left with, where they had more; else an empty text."""
    up_to = np.bincount(contrast(values[:, None]).ravel(), minlength=256).cumsum() / len(values)
    before = np.concatenate([[0], up_to[:-1]])
    for n in range(1, FEW_LEVELS + 1):
        held = up_to[n - 1 :] - before[: 257 - n]
        if held.max() >= NEARLY_ALL:
            first, last = (np.array([-0.5, n - 0.5]) + held.argmax()) / 255 * (contrast.high - contrast.low)
            within = values[(values >= contrast.low + first) & (values <= contrast.low + last)]
            return f"{_percent(held.max())} of them within {n}" if len(np.unique(within)) > 2 * n else ""
    return ""


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _full_range(planes: Iterable[Callable[[], Values]], channel: int | None, no_data: float | None) -> Contrast:
    """From the smallest to the largest value of all planes, for images that are black almost everywhere."""
    least, most = math.inf, -math.inf
    for read in planes:
        plane = read() if channel is None else read()[..., channel]
        valid = holds_data(plane, no_data)
        inside = plane if valid is None else plane[valid]
        if inside.size:
            least, most = min(least, float(inside.min())), max(most, float(inside.max()))
    return Contrast(least, most)
