"""Which folders a run may begin in, and which runs may be gone on with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfpixel.data.dataset import Dataset
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.train.recipe import Recipe
from halfpixel.train.state import CHECKPOINT, Checkpoint, load_checkpoint
from halfpixel.zoo.modelfile import ModelInfo


def check_start(out: Path, dataset: Dataset, resume: bool) -> Checkpoint | None:
    """Refuse what cannot be begun.

    Returns:
        The checkpoint to go on from, if there is one and `resume` asks for it.

    Raises:
        AnnotationError: there is nothing to train on.
        ArgumentError: the folder holds something already.
        ModelFileError: the checkpoint cannot be read.
    """
    if not any(len(sample.objects) for sample in dataset.samples):
        raise AnnotationError(f"{dataset.path}: no annotated objects to train on")
    if resume and (out / CHECKPOINT).is_file():
        return load_checkpoint(out / CHECKPOINT)
    # a run killed before its first checkpoint left its recipe, and perhaps half a file under a temporary name
    begun = {"recipe.json", *(path.name for path in out.glob(".*.part"))} if resume else set()
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - begun):
        raise ArgumentError(f"{out} is not empty; runs are never overwritten")
    return None


def begun_with(info: ModelInfo, dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """What makes two runs the same, as plain values."""
    about = dataclasses.asdict(recipe) | {
        "variant": info.variant,
        "class_names": info.class_names,
        "settings": dict(info.settings),
        "input": dataclasses.asdict(info.input),
        "images": [sample.path.name for sample in dataset.samples],
        "objects": sum(len(sample.objects) for sample in dataset.samples),
    }
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run in another way than it was begun.

    Raises:
        ArgumentError: names the first difference.
    """
    for name in now:
        if before.get(name) != now[name]:
            what = f"{name} = {before.get(name)!r:.60}, not {now[name]!r:.60}"
            raise ArgumentError(f"{out}: this run was begun with {what}; a run goes on as it was begun")
