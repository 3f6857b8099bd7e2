"""Which folders a run may begin in, and which runs may be gone on with."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.structures.instances import Instances
from halfpixel.train.recipe import Recipe
from halfpixel.train.state import CHECKPOINT, Checkpoint, load_checkpoint
from halfpixel.zoo.modelfile import ModelInfo

DATA = "data"
"""The name of what a run remembers of its images and annotations."""


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
        "input": info.input.to_plain(),
        DATA: [[_name(sample), _digest(sample)] for sample in dataset.samples],
    }
    plain: dict[str, Any] = json.loads(json.dumps(about))
    return plain


def check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on with a run in another way than it was begun.

    Raises:
        ArgumentError: names the first difference.
    """
    for name in now:
        if name == DATA and before.get(name) != now[name]:
            what = _difference(before.get(name) or [], now[name])
            raise ArgumentError(f"{out}: this run was begun with other data ({what}); a run goes on as it was begun")
        if before.get(name) != now[name]:
            what = f"{name} = {before.get(name)!r:.60}, not {now[name]!r:.60}"
            raise ArgumentError(f"{out}: this run was begun with {what}; a run goes on as it was begun")


def _difference(before: Iterable[tuple[str, str]], now: Iterable[tuple[str, str]]) -> str:
    """In which images two sets of data differ."""
    then, today = dict(before), dict(now)
    changed = [name for name in today if name in then and then[name] != today[name]]
    found = [
        f"{what}: {len(names):,}, e.g. {names[0]}"
        for what, names in (
            ("images that are new", [name for name in today if name not in then]),
            ("images that are gone", [name for name in then if name not in today]),
            ("images or annotations that changed", changed),
        )
        if names
    ]
    return "; ".join(found) or "in another order"


def _name(sample: Sample) -> str:
    """Its file, and of which data set it is, where there are several."""
    return f"{sample.path.name} of {sample.source}" if sample.source else sample.path.name


def _digest(sample: Sample) -> str:
    """Changes when the annotations do, or the size of the image file: pixels are not read for it."""
    digest = hashlib.sha256()
    with contextlib.suppress(OSError):  # reading it will say why
        digest.update(b"%d" % sample.path.stat().st_size)
    for objects in (sample.objects, sample.ignored):
        for part in _annotated(objects):
            digest.update(part)
    return digest.hexdigest()[:12]


def _annotated(objects: Instances) -> Iterator[bytes]:
    yield objects.labels.numpy().tobytes()
    yield objects.boxes_xyxy.numpy().tobytes()
    if objects.masks is not None:
        for crop, offset_xy in objects.masks.placed():
            yield b"%d %d" % offset_xy
            yield crop.contiguous().numpy().tobytes()
