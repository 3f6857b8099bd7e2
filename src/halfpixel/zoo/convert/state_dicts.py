"""What all converters share: from what others saved to a network of ours, every tensor accounted for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.zoo.coco_classes import coco_classes
from halfpixel.zoo.fitting import kind_of
from halfpixel.zoo.modelfile import MOST_CLASSES

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Under which trainers keep the weights of a model."""

MMDETECTION = "weights in MMDetection's naming"
"""Where they come from, as far as their names tell."""

NESTING = 3
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What parallel training, compilation and trainers put before the names of weights."""

COCO_CLASSES = 80

Renames = Iterable[tuple[str, str]]
"""Patterns of whole names, and ours in their place; the first that fits counts."""


def weights_in(checkpoint: Mapping[str, Any], prefixes: Sequence[str] = PREFIXES) -> dict[str, Tensor]:
    """The state dict in what was saved: inside of what a trainer wrote, and without what wrappers put before names.

    Raises:
        ModelFileError: there is none, or a tensor in it is not one of plain numbers that lie in the file.
    """
    for _ in range(NESTING):
        inner = next((checkpoint[name] for name in WRAPPERS if isinstance(checkpoint.get(name), Mapping)), None)
        checkpoint = checkpoint if inner is None else inner
    state = dict(checkpoint)
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ModelFileError(
            f"no state dict (names of weights and their tensors), neither as it is nor as {' or '.join(WRAPPERS)}"
        )
    state = {key: _plain(key, tensor) for key, tensor in state.items()}
    while prefix := next((one for one in prefixes if all(key.startswith(one) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _plain(key: str, tensor: Tensor) -> Tensor:
    """A tensor of numbers, each with a place of its own, that lie in the file; those of 8 bits in 32.

    Torch can do hardly anything with floating-point numbers of 8 bits.
    """
    odd = tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized or tensor.is_meta
    if odd or kind_of(tensor) == "several in a byte":
        raise ModelFileError(f"the weights {key!r:.100} are not plain numbers, but sparse, quantized or not there")
    if tensor.numel() * tensor.element_size() > (held := tensor.untyped_storage().nbytes()):
        raise ModelFileError(f"the weights {key!r:.100} are {list(tensor.shape)}, but only {held:,} bytes are there")
    if tensor.ndim == 0 and key.endswith(("weight", "bias")):
        raise ModelFileError(f"the weights {key!r:.100} are a single number")
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


def renamed(key: str, renames: Renames, what: str) -> str:
    """Our name of a weight.

    Args:
        key: the others' name.
        renames: see there.
        what: whose weights they should be, for the message.

    Raises:
        ModelFileError: no pattern fits.
    """
    for pattern, ours in renames:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, ours, key)
    raise ModelFileError(f"not {what}: unexpected weights {key!r}")


def translated(state: Mapping[str, Tensor], renames: Renames, what: str, dropped: str = "") -> dict[str, Tensor]:
    """The weights under our names.

    Args:
        state: the others' state dict.
        renames: see there.
        what: whose weights they should be, for the message.
        dropped: a pattern of whole names that serve us nothing, besides counters of batches.

    Raises:
        ModelFileError: no pattern fits a name, or two names of one weight of ours hold different values.
    """
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for key, tensor in state.items():
        if key.endswith("num_batches_tracked") or re.fullmatch(dropped, key):
            continue
        ours = renamed(key, renames, what)
        if ours in found and not (found[ours].shape == tensor.shape and torch.equal(found[ours], tensor)):
            raise ModelFileError(f"not {what}: {origin[ours]} and {key} are one weight there, and differ here")
        found[ours], origin[ours] = tensor, key
    return found


def names_for(given: Sequence[str] | None, known: object, outputs: int) -> tuple[str, ...]:
    """Names of a network's classes: those given, else those known, else COCO's for 80, else "class 1" and so on.

    Args:
        given: by the user.
        known: to what others saved; left aside where it is no list of so many names.
        outputs: how many classes there are.

    Raises:
        ModelFileError: no model can have so many classes.
        ArgumentError: another number of names was given.
    """
    numbered = numbers_for(outputs)
    if given is not None and len(given) != outputs:
        raise ArgumentError(f"{len(given)} class names for {outputs} classes")
    if given is not None:
        return tuple(given)
    if isinstance(known, list | tuple) and len(set(map(str, known))) == len(known) == outputs:
        return tuple(map(str, known))
    coco = coco_classes() if outputs == COCO_CLASSES else ()
    return coco or numbered


def numbers_for(outputs: int) -> tuple[str, ...]:
    """Names of classes of which nothing is known: "class 1" and so on.

    Raises:
        ModelFileError: no model can have so many.
    """
    if not 1 <= outputs <= MOST_CLASSES:
        raise ModelFileError(f"its weights are for {max(outputs, 0):,} classes, expected 1 to {MOST_CLASSES:,}")
    return tuple(f"class {k}" for k in range(1, outputs + 1))


def classes_in(checkpoint: Mapping[str, Any]) -> object:
    """What a checkpoint of MMDetection says of its classes; None where it says nothing."""
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return None
    described = meta.get("dataset_meta")
    if isinstance(described, Mapping):
        return described.get("classes", described.get("CLASSES"))
    return meta.get("CLASSES")
