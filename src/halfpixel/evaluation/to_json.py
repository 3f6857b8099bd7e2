"""Results as what JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.detection.error_types import ErrorTypeCount, ImageErrors
from halfpixel.evaluation.detection.object_matching import DetectionCounts
from halfpixel.evaluation.slices import DetectionEstimate, ErrorTypeRate

OLD_NAMES = {
    "detection": "quality",
    "accuracy": "quality",
    "accuracy_50": "quality_50",
    "accuracy_75": "quality_75",
    "error_types": "mistakes",
    "prefilter": "search",
}
_RATIOS = ("accuracy", "precision", "recall", "f1", "mean_matched_iou")
_NAMED = {"intervals", "contrasts"}
"""Fields whose names are those of numbers, not a user's."""


def plain(value: Any) -> Any:
    """Dictionaries, lists, numbers, strings and None: of an interval its two ends, of a file its name.

    Errors of single images are left to who knows the images.
    """
    match value:
        case Interval():
            return [value.low, value.high]
        case ImageErrors():
            return None
        case DetectionCounts():
            return with_old_names({**_fields(value), **{name: getattr(value, name) for name in _RATIOS}})
        case ErrorTypeCount():
            return {**_fields(value), "effect": value.effect}
        case DetectionEstimate(counts=part) | ErrorTypeRate(count=part):  # on one level
            rest = _fields(value)
            return {**plain(part), **{name: one for name, one in rest.items() if name not in ("count", "counts")}}
        case Path():
            return value.name
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
        case tuple() | list():
            return [plain(one) for one in value]
    return _fields(value) if is_dataclass(value) else value


def with_old_names(named: Mapping[str, Any]) -> dict[str, Any]:
    """The same, and beside each name that changed the old name, for one version."""
    return {**named, **{OLD_NAMES[name]: one for name, one in named.items() if name in OLD_NAMES}}


def _fields(value: Any) -> dict[str, Any]:
    found = {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    for name in _NAMED & set(found):
        found[name] = with_old_names(found[name])
    return with_old_names(found)
