"""Which converter turns others' weights into a network of ours.

A converter is a file of `halfpixel.zoo.convert` that has `convert(checkpoint, class_names=None)`, which gives the
network and its description, or raises a ModelFileError that says what does not fit; and `KNOWN` or else `RENAMES`,
patterns of the names that it knows. Names of weights do not tell who trained them, so the description has no licence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from halfpixel.errors import ModelFileError
from halfpixel.nn.network import Network
from halfpixel.zoo import convert as folder
from halfpixel.zoo.convert.state_dicts import weights_in
from halfpixel.zoo.modelfile import ModelInfo

CONVERTERS = {
    one.name: module
    for one in iter_modules(folder.__path__)
    if hasattr(module := import_module(f"{folder.__name__}.{one.name}"), "convert")
}
"""By their names; what converters share is no converter."""


def convert(
    checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None, reader: str = ""
) -> tuple[Network, ModelInfo]:
    """A network of ours with others' weights.

    Args:
        checkpoint: a state dict, or what it was saved in.
        class_names: default those that the file names, or numbers.
        reader: one of `CONVERTERS`; empty for the one that knows the names of the weights.

    Raises:
        ModelFileError: no converter knows them; the nearest says what does not fit.
        ArgumentError: the number of class names is wrong.
    """
    errors: dict[str, tuple[float, ModelFileError]] = {}
    for name in [reader] if reader else CONVERTERS:
        try:
            converted: tuple[Network, ModelInfo] = CONVERTERS[name].convert(checkpoint, class_names)
            return converted
        except ModelFileError as error:
            errors[name] = _known(CONVERTERS[name], checkpoint), error
    share, nearest = max(errors.values(), key=lambda one: one[0])
    if reader or len({str(error) for _, error in errors.values()}) == 1:  # nobody could use them
        raise nearest
    why = str(nearest) if share else f"no network that is read has weights of such names ({_a_name(checkpoint)!r:.100})"
    raise ModelFileError(f"{why}; docs/models.md lists the networks whose weights are read") from nearest


def _a_name(checkpoint: Mapping[str, Any]) -> str:
    return next(iter(weights_in(checkpoint)))


def _known(module: ModuleType, checkpoint: Mapping[str, Any]) -> float:
    """The share of weights whose names a converter knows, 0..1."""
    try:
        names = list(weights_in(checkpoint))
    except ModelFileError:
        return 0.0
    patterns = getattr(module, "KNOWN", None) or [pattern for pattern, *_ in getattr(module, "RENAMES", ())]
    return sum(any(re.fullmatch(one, name) for one in patterns) for name in names) / len(names)
