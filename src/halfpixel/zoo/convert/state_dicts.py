"""What converting a foreign state dict takes, whoever named its weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from halfpixel.errors import ArgumentError, ModelFileError

WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Under which trainers keep the weights of a model."""

NESTING = 3
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What parallel training, compilation and trainers put before the names of weights."""

COUNTER = "num_batches_tracked"
"""Ends the names of batch counters, which frozen statistics do not need."""

SHOWN = 3
"""So many names of weights that do not fit are listed."""

COCO_CLASSES = 80


def weights_in(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in what was saved: inside of what a trainer wrote, and without what wrappers put before names.

    Raises:
        ModelFileError: there is none.
    """
    for _ in range(NESTING):
        inner = next((checkpoint[name] for name in WRAPPERS if isinstance(checkpoint.get(name), Mapping)), None)
        checkpoint = checkpoint if inner is None else inner
    state = dict(checkpoint)
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ModelFileError(
            f"no state dict (names of weights and their tensors), neither as it is nor as {' or '.join(WRAPPERS)}"
        )
    while prefix := next((one for one in PREFIXES if all(key.startswith(one) for key in state)), None):
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def renamed(state: Mapping[str, Tensor], renames: Sequence[tuple[str, str]], whose: str) -> dict[str, Tensor]:
    """The same weights under our names, without batch counters.

    Args:
        state: weights under foreign names.
        renames: patterns of whole names and what they become; the first that fits counts.
        whose: what the weights should be, for messages.

    Raises:
        ModelFileError: a name that fits no pattern, or two names of one weight of ours with different values.
    """
    found: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    unexpected = []
    for key, tensor in state.items():
        if key.endswith(COUNTER):
            continue
        ours = next((re.sub(pattern, to, key) for pattern, to in renames if re.fullmatch(pattern, key)), None)
        if ours is None:
            unexpected.append(key)
        elif ours not in found:
            found[ours], origin[ours] = tensor, key
        elif found[ours].shape != tensor.shape or not torch.equal(found[ours], tensor):
            raise ModelFileError(f"not {whose}: {key} and {origin[ours]} are the same weights there, and differ here")
    if unexpected:
        raise ModelFileError(f"not {whose}: {_listed(unexpected)} unexpected")
    return found


def check_fit(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], whose: str) -> None:
    """Refuse weights that a network does not have, lacks, or has in other shapes.

    Raises:
        ModelFileError: the weights are named.
    """
    if missing := [name for name in expected if name not in state]:
        raise ModelFileError(f"not {whose}: {_listed(missing)} missing")
    if unexpected := [name for name in state if name not in expected]:
        raise ModelFileError(f"not {whose}: {_listed(unexpected)} unexpected")
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{list(tensor.shape)}, expected {list(expected[name].shape)}"
            raise ModelFileError(f"not {whose}: {name} is {shapes}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more} {'is' if len(names) == 1 else 'are'}"


def names_for(given: Sequence[str] | None, known: object, outputs: int) -> tuple[str, ...]:
    """Names of the classes of a head.

    Args:
        given: by the user.
        known: to the checkpoint; ignored where they are no names of so many classes.
        outputs: of the head.

    Raises:
        ArgumentError: another number of names was given.
    """
    if given is not None:
        if len(given) != outputs:
            raise ArgumentError(f"{len(given)} class names for {outputs} classes")
        return tuple(given)
    if isinstance(known, list | tuple) and len(set(known)) == outputs and all(isinstance(one, str) for one in known):
        return tuple(known)
    if outputs == COCO_CLASSES:
        from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights  # slow to import

        categories = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"][1:]
        return tuple(name for name in categories if name != "N/A")
    return tuple(f"class {k}" for k in range(1, outputs + 1))
