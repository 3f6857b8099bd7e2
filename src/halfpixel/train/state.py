"""Everything that a run needs to go on as if nothing had happened, in one `.safetensors` file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from halfpixel.errors import HalfpixelError, ModelFileError
from halfpixel.files import write_whole

CHECKPOINT = "last.safetensors"
"""In the folder of a run."""

FORMAT = 1
KEY = "halfpixel checkpoint"


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: optimiser steps done.
        validated: the step of the last validation, 0 before the first.
        best_ap: the best mask AP of all validations, None before the first.
        stale: validations since the best one.
    """

    step: int = 0
    validated: int = 0
    best_ap: float | None = None
    stale: int = 0


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What is in the file.

    Attributes:
        progress: how far the run is.
        about: what the run was begun with, as plain values: going on with anything else would not be the same run.
        network: weights as trained.
        average: their running average.
        optimiser: for each trained parameter, in the optimiser's order, its moments.
    """

    progress: Progress
    about: Mapping[str, Any]
    network: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    optimiser: Mapping[int, Mapping[str, Tensor]]


def restore(saved: Checkpoint, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put a checkpoint's tensors back."""
    network.load_state_dict(saved.network)
    average.load_state_dict(saved.average)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": {k: dict(v) for k, v in saved.optimiser.items()}, "param_groups": groups})
    for parameter, moments in optimiser.state.items():
        for name, moment in moments.items():
            if moment.shape == parameter.shape:  # fused optimisers walk through memory, which has to be in one order
                moments[name] = torch.empty_like(parameter).copy_(moment)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all: a failure leaves the one before.

    Raises:
        HalfpixelError: it cannot be written, for example because the disk is full.
    """
    tensors = {f"network.{name}": tensor for name, tensor in checkpoint.network.items()}
    tensors |= {f"average.{name}": tensor for name, tensor in checkpoint.average.items()}
    for number, moments in checkpoint.optimiser.items():
        tensors |= {f"optimiser.{number}.{name}": tensor for name, tensor in moments.items()}
    content = {"format": FORMAT, "progress": dataclasses.asdict(checkpoint.progress), "about": checkpoint.about}
    whole = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, {KEY: json.dumps(content)})
    try:
        write_whole(path, whole)
    except OSError as error:
        left = "; the checkpoint before it is whole" if path.is_file() else ""
        reason = error.strerror or error
        raise HalfpixelError(f"{path}: step {checkpoint.progress.step} cannot be saved ({reason}){left}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ModelFileError: not a checkpoint of ours.
    """
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
    optimiser: dict[int, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})[KEY])
            if content["format"] != FORMAT:
                raise ModelFileError(f"{path}: written by a newer halfpixel; please upgrade")
            for name in file.keys():  # noqa: SIM118
                part, _, rest = name.partition(".")
                parts[part][rest] = file.get_tensor(name)
        for name, tensor in parts["optimiser"].items():
            number, _, moment = name.partition(".")
            optimiser.setdefault(int(number), {})[moment] = tensor
        progress = Progress(**content["progress"])
        return Checkpoint(progress, content["about"], parts["network"], parts["average"], optimiser)
    except ModelFileError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: not a checkpoint of a run ({error!r})") from error
