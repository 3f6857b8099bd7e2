"""How large the objects of a table are: percentiles of their diameters, as sedimentology reports grain sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from halfpixel.measure.table import Column, Table

PERCENTS = (16, 50, 84)
"""A normal distribution's middle, and one standard deviation to either side of it."""

LEVEL = 0.95

ALL_IMAGES = "(all images)"

Numbers = npt.NDArray[np.float64]


class _Sample(NamedTuple):
    """The objects of one class on an image, or on all.

    Attributes:
        image: its name.
        class_name: theirs.
        diameters: unit to their equivalent diameters; those of the others are not in it.
        left_out: how many touch the border or have no mask.
    """

    image: str
    class_name: str
    diameters: Mapping[str, Numbers]
    left_out: int


def size_distribution(tables: Iterable[Table]) -> Table:
    """Percentiles of the equivalent diameters of each image's objects, and of those of all images together.

    Objects that touch the border of their image are left out, as part of them may be missing, and so are those without
    a mask. For `D16` to `D84` every object counts once: 16% are smaller than D16, interpolated linearly between two of
    them. `_low` and `_high` are the ends of the 95% confidence interval, from the binomial distribution of how many of
    a sample lie below a percentile of what it was drawn from, which holds for sizes of any distribution (Eaton, Moore
    and MacKenzie 2019, doi:10.5194/esurf-7-789-2019); NaN where objects are too few to tell. For `_by_area` each counts
    as much as its area, as when the grains under the nodes of a grid are counted (Kellerhals and Bray 1971, Journal of
    the Hydraulics Division 97:1165).

    Args:
        tables: one for each image, as `measure_objects` gives it, with the column `image` besides.

    Returns:
        A row for each class on each image, then one for each class on all images, if there are several. Columns in
        micrometres only where the sizes of all images' pixels are known.
    """
    samples = [sample for table in tables for sample in _samples(table)]
    if len({sample.image for sample in samples}) > 1:
        samples += [
            _together([one for one in samples if one.class_name == name])
            for name in dict.fromkeys(sample.class_name for sample in samples)
        ]
    columns: dict[str, Column] = {
        "image": [sample.image for sample in samples],
        "class": [sample.class_name for sample in samples],
        "objects": np.array([len(sample.diameters["px"]) for sample in samples], dtype=np.int64),
        "left_out": np.array([sample.left_out for sample in samples], dtype=np.int64),
    }
    for unit in ("px", "um"):
        if unit == "px" or (samples and all(unit in sample.diameters for sample in samples)):
            columns |= _percentiles([sample.diameters[unit] for sample in samples], unit)
    return Table(columns)


def _samples(table: Table) -> Iterator[_Sample]:
    """Of the classes on one image."""
    names = np.array(table.columns["class"], dtype=object)
    diameters = {
        unit: np.asarray(table.columns[column], dtype=np.float64)
        for unit in ("px", "um")
        if (column := f"equivalent_diameter_{unit}") in table.columns
    }
    whole = np.isfinite(diameters["px"]) & ~np.asarray(table.columns["touches_border"], dtype=bool)
    for name in dict.fromkeys(table.columns["class"]):
        here = names == name
        chosen = {unit: values[here & whole] for unit, values in diameters.items()}
        yield _Sample(str(table.columns["image"][0]), str(name), chosen, int((here & ~whole).sum()))


def _together(samples: Sequence[_Sample]) -> _Sample:
    """Of one class on all images."""
    units = set.intersection(*(set(sample.diameters) for sample in samples))
    diameters = {unit: np.concatenate([sample.diameters[unit] for sample in samples]) for unit in units}
    return _Sample(ALL_IMAGES, samples[0].class_name, diameters, sum(sample.left_out for sample in samples))


def _percentiles(samples: Sequence[Numbers], unit: str) -> dict[str, Column]:
    """Columns with a value for each sample."""
    columns: dict[str, Column] = {}
    for percent in PERCENTS:
        values = [
            (float(np.percentile(one, percent)) if len(one) else np.nan, *percentile_interval(one, percent))
            for one in samples
        ]
        for name, column in zip(("", "_low", "_high"), np.array(values).reshape(-1, 3).T, strict=True):
            columns[f"D{percent}{name}_{unit}"] = column
    for percent in PERCENTS:
        columns[f"D{percent}_by_area_{unit}"] = np.array([_percentile_by_area(one, percent) for one in samples])
    return columns


def percentile_interval(values: Numbers, percent: float) -> tuple[float, float]:
    """Two of some values between which a percentile of what they were drawn from lies, in at least 95% of all samples.

    Args:
        values: `[n]`, drawn independently.
        percent: above 0 and below 100.

    Returns:
        The lower and the upper one; NaN where even the least or the largest value does not reach far enough.
    """
    ascending, share = np.sort(values), percent / 100
    tail = (1 - LEVEL) / 2
    # as many of the sample as this or more lie below the percentile, and at most so many, with 2.5% each to be wrong
    low, high = (int(rank) for rank in binom.ppf([tail, 1 - tail], len(ascending), share)) if len(ascending) else (0, 0)
    return (
        float(ascending[low - 1]) if low > 0 else np.nan,
        float(ascending[high]) if high < len(ascending) else np.nan,
    )


def _percentile_by_area(diameters: Numbers, percent: float) -> float:
    """The least diameter for which the objects up to it have so much of all area; NaN without objects."""
    areas = diameters**2
    if not areas.sum() > 0:
        return np.nan
    return float(np.quantile(diameters, percent / 100, weights=areas, method="inverted_cdf"))
