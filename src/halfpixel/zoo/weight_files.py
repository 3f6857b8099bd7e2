"""Files of others' weights, as torch and safetensors write them: nothing in them is ever run."""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch.serialization import safe_globals

from halfpixel.errors import ModelFileError, reason
from halfpixel.zoo.convert.pickle_reader import read_pickle

ADVICE = (
    (
        ("ultralytics.", "models.yolo.", "models.common."),
        "export the network to ONNX with Ultralytics (yolo export model={name} format=onnx) and give that file",
    ),
    (
        ("mmengine.", "mmcv.", "mmdet."),
        "tools/model_converters/publish_model.py of MMDetection writes a file without what its trainer adds",
    ),
    (
        ("torchvision.",),
        "of a module in memory, halfpixel.from_torchvision(module).save(FILE) makes a model file",
    ),
    (("",), "save what the state_dict() of the network gives instead"),
)
"""What to do about a file that holds objects of a program, by how their names begin."""

OF_ARCHIVES = {
    "PytorchStreamReader": "it is damaged, or only a part of it is there",
    "enforce fail": "it is an archive of something else",
    "TorchScript": "it is a TorchScript archive, and no code is run here; save what state_dict() gives instead",
    "Unsupported operand": "it was saved with a pickle protocol that cannot be read safely; leave that to torch.save",
}
"""What is wrong, by what torch says of an archive."""

ZIP, PICKLE = b"PK\x03\x04", b"\x80"
"""How files of `torch.save` begin, today and before 2020."""


def read_weights(path: Path) -> Mapping[str, Any]:
    """What a `.safetensors` file holds, or one that `torch.save` wrote: a state dict, or what it was saved in.

    Raises:
        ModelFileError: another file, or there is more in it than weights. It says what, and does not name the file.
    """
    try:
        # argparse's is in what torchvision's trainer writes; it holds values, and runs none
        with warnings.catch_warnings(), safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # torch's are for whoever wrote the file
            if path.suffix.lower() == ".safetensors":
                return load_file(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"it cannot be read ({error.strerror or reason(error)})") from error
    except Exception as error:  # torch raises many kinds
        raise ModelFileError(f"not a file of weights only: {_cause(path, error)}") from error
    if not isinstance(checkpoint, Mapping):
        raise ModelFileError(f"expected a state dict (names of weights and their tensors), got {_kind(checkpoint)}")
    return checkpoint


def _cause(path: Path, error: Exception) -> str:
    """Why a file could not be read."""
    with path.open("rb") as file:
        begins = file.read(len(ZIP))
    if not begins:
        return "it is empty"
    if path.suffix.lower() == ".safetensors":
        return reason(error)
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        advice = next(text for prefixes, text in ADVICE if named[1].startswith(prefixes))
        return f"it holds {named[1]:.200}, and no code is run here; {advice.format(name=path.name)}"
    if begins == ZIP:
        return next((text for part, text in OF_ARCHIVES.items() if part in str(error)), _of_torch(error))
    if not begins.startswith(PICKLE):
        return "it does not begin like what torch.save writes"
    try:
        arrays = isinstance(read_pickle(path), Mapping)
    except ModelFileError as refused:
        return str(refused).removeprefix(f"{path}: ")
    return "a pickle of arrays, whose name has to end in .pkl" if arrays else _of_torch(error)


def _of_torch(error: Exception) -> str:
    """What torch found, without its advice to run the file."""
    found = error.__context__ if isinstance(error, UnpicklingError) else None
    return reason(found or error)


def _kind(checkpoint: object) -> str:
    return "one tensor" if isinstance(checkpoint, torch.Tensor) else f"a {type(checkpoint).__name__}"
