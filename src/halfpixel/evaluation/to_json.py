"""Results as what JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from halfpixel.evaluation.bootstrap import Interval
from halfpixel.evaluation.detection.error_types import MistakeCount, Mistakes
from halfpixel.evaluation.detection.mask_matching import DetectionQuality
from halfpixel.evaluation.slices import MistakeRate, QualityWithInterval

_RATIOS = ("quality", "precision", "recall", "f1", "mean_matched_iou")


def plain(value: Any) -> Any:
    """Dictionaries, lists, numbers, strings and None: of an interval its two ends, of a file its name.

    Mistakes of single images are left to who knows the images.
    """
    match value:
        case Interval():
            return [value.low, value.high]
        case Mistakes():
            return None
        case DetectionQuality():
            return {**_fields(value), **{name: getattr(value, name) for name in _RATIOS}}
        case MistakeCount():
            return {**_fields(value), "effect": value.effect}
        case QualityWithInterval(counts=part) | MistakeRate(count=part):  # on one level
            rest = _fields(value)
            return {**plain(part), **{name: one for name, one in rest.items() if name not in ("count", "counts")}}
        case Path():
            return value.name
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
        case tuple() | list():
            return [plain(one) for one in value]
    return _fields(value) if is_dataclass(value) else value


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
