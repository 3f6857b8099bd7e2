"""What lies beside weights of transformers: what `config.json` says of them, and what would change them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from halfpixel.errors import ArgumentError, ModelFileError, reason
from halfpixel.structures.field_check import Name, from_plain
from halfpixel.zoo.modelfile import is_described

CONFIG, PREPROCESSOR, ADAPTER = "config.json", "preprocessor_config.json", "adapter_config.json"
"""Files beside the weights: what the network is like, how images are prepared, what is to be added to the weights."""


@dataclass(frozen=True)
class Config:
    """What a description of transformers says, as far as it matters here.

    Attributes:
        model_type: which network.
        id2label: names of the classes.
        quantization_config: how weights were rounded.
        everything: that it says, for transformers.
    """

    model_type: Annotated[str, Meta(max_length=100)] | None = None
    id2label: dict[str, Name] | None = None
    quantization_config: Any = None
    everything: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wrong = [key for key in self.id2label or {} if not re.fullmatch("[0-9]{1,6}", key)]
        if wrong:
            raise ArgumentError(f"id2label: expected numbers of classes and their names, got {wrong[0]!r:.60}")

    def class_names(self) -> tuple[str, ...] | None:
        """The classes that it names, None where it names none."""
        if self.id2label is None:
            return None
        names = numbered({int(key): name for key, name in self.id2label.items()})
        return None if are_numbers(names) else names


def is_of_transformers(path: Path) -> bool:
    """Whether weights are not ours, and have a description of transformers beside them."""
    return path.suffix.lower() == ".safetensors" and path.with_name(CONFIG).is_file() and not is_described(path)


def read_config(weights: Path) -> Config:
    """What lies beside weights of transformers says of them.

    Raises:
        ModelFileError: it cannot be read, a field is not what it should be, or the weights are not all there is to the
            network: they are quantised, in several files, or an adapter changes them.
    """
    path = weights.with_name(CONFIG)
    said = read_json(path)
    known = {one.name: said[one.name] for one in fields(Config) if one.name in said}
    try:
        config = from_plain(Config, known | {"everything": said})
    except ArgumentError as error:
        raise ModelFileError(f"{path}: {error}") from error
    if config.quantization_config:
        raise ModelFileError(f"{path}: quantization_config: quantised weights are not read; save them in float32")
    if (adapter := weights.with_name(ADAPTER)).is_file():
        raise ModelFileError(f"{adapter}: an adapter is not read; merge it into the weights, and save them without it")
    if re.search(r"-\d+-of-\d+$", weights.stem):
        raise ModelFileError(f"{weights}: one of several files of weights; save them in one (max_shard_size)")
    return config


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        ModelFileError: it cannot be read, or holds something else.
    """
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelFileError(f"{path}: cannot be read ({reason(error)})") from error
    if not isinstance(said, dict):
        raise ModelFileError(f"{path}: expected a JSON object, got {type(said).__name__}")
    return said


def numbered(id2label: Mapping[int, str]) -> tuple[str, ...]:
    """Names in the order of their numbers; one that is there twice, as for what COCO left out, gets its number."""
    names = [str(id2label[k]) for k in sorted(id2label)]
    times = Counter(names)
    return tuple(name if times[name] == 1 else f"{name} {k}" for k, name in enumerate(names))


def are_numbers(names: Sequence[str]) -> bool:
    """Whether transformers made the names up."""
    return all(re.fullmatch(r"LABEL_\d+", name) for name in names)
