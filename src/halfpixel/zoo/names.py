"""The models that have names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from halfpixel.errors import ArgumentError, DownloadError, MissingDependencyError, ModelFileError
from halfpixel.zoo.download import Progress, fetch, fetch_recorded, fetch_revision
from halfpixel.zoo.published import EMBEDDED, PUBLISHED, NamedModel

NAMED_MODELS = (*EMBEDDED, *PUBLISHED)

DEFAULT_MODEL = "nuclei"

WEIGHTS = "model.safetensors"
"""The file in a folder that stands for a model."""

INSTEAD = {
    "adapter_config.json": "an adapter, which has to be merged into the weights of its network first",
    "model.safetensors.index.json": "weights in several files; max_shard_size of save_pretrained puts them into one",
    "pytorch_model.bin": "weights in a pickle; save_pretrained of a newer transformers writes the file",
    "pytorch_model.bin.index.json": "weights in pickles; save_pretrained of a newer transformers writes the file",
}
"""What a folder of transformers may hold instead of it."""

MODEL_FILES = (".safetensors", ".onnx", ".xml", ".pth", ".pt", ".pkl")
"""How the names of files end that can be models."""


def find(name: str) -> NamedModel | None:
    """The named model, or None."""
    return next((model for model in NAMED_MODELS if model.name == name), None)


def with_weights(variant: str) -> tuple[str, ...]:
    """The named models that are a network of halfpixel's, by the name of its variant."""
    return tuple(model.name for model in NAMED_MODELS if model.variant == variant)


def _own_file(name_or_path: str | Path) -> Path:
    """A file, or the one in a folder that holds the weights."""
    path = Path(name_or_path)
    return path / WEIGHTS if (path / WEIGHTS).is_file() else path


def check_model(name_or_path: str | Path) -> None:
    """Refuse what stands for no model, and one that cannot be run here; nothing is downloaded or opened.

    Raises:
        ModelFileError: neither a name nor a file.
        MissingDependencyError: what runs it is not installed.
    """
    named = find(str(name_or_path))
    if named is not None and named.needs and find_spec(named.needs) is None:
        raise MissingDependencyError(
            f'{named.name}: {named.needs}, which runs it, is not installed: pip install "halfpixel[{named.needs}]"'
        )
    if named is not None or _own_file(name_or_path).is_file():
        return
    if str(name_or_path) and Path(name_or_path).is_dir():
        raise _no_model(Path(name_or_path))
    if name_or_path in _networks(name_or_path):
        trained = " or ".join(with_weights(str(name_or_path)))
        raise ModelFileError(
            f"{name_or_path}: a network that has to be trained first (halfpixel train)"
            f"{f'; with weights there is {trained}' if trained else ''}"
        )
    raise _unknown(name_or_path, "neither a model file nor a named model", [model.name for model in NAMED_MODELS])


def check_start(name_or_path: str | Path) -> None:
    """Refuse what no training can start from; nothing is downloaded or opened.

    Raises:
        ModelFileError: neither a name nor a file nor a network to train from scratch.
        ArgumentError: it only predicts.
    """
    named = find(str(name_or_path))
    if named is not None and named.needs:
        raise ArgumentError(f"{named.name}: it cannot be trained: halfpixel only runs it, with {named.needs}")
    if named is not None or _own_file(name_or_path).is_file() or name_or_path in (networks := _networks(name_or_path)):
        return
    if str(name_or_path) and Path(name_or_path).is_dir():
        raise _no_model(Path(name_or_path))
    known = [*(model.name for model in NAMED_MODELS), *networks]
    raise _unknown(name_or_path, "neither a model file nor a named model nor a network to train", known)


def _no_model(folder: Path) -> ModelFileError:
    """What a folder holds instead of a model."""
    names = sorted(one.name for one in folder.iterdir())
    models = [name for name in names if Path(name).suffix.lower() in MODEL_FILES]
    there = next((f"; it has {name}: {what}" for name, what in INSTEAD.items() if name in names), "")
    if not there and not models and "config.json" in names:
        there = "; it has config.json, but no weights"
    if models and not there:
        more = f" and {len(models) - 3} more" if len(models) > 3 else ""
        there = f"; it has {', '.join(models[:3])}{more}: give one of its files"
    return ModelFileError(f"{folder}: the folder has no {WEIGHTS}, so it is no model{there}")


def _networks(name: str | Path) -> tuple[str, ...]:
    """The names of all networks, if this one is like theirs."""
    if not re.fullmatch(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)+", str(name)):
        return ()
    from halfpixel.zoo.modelfile import variant_names  # torch takes seconds to import

    return variant_names()


def _unknown(name: str | Path, what: str, known: Sequence[str]) -> ModelFileError:
    near = " or ".join(get_close_matches(str(name), known, n=3))
    meant = f"; did you mean {near}" if near else ""
    return ModelFileError(f"{name}: {what}{meant} (halfpixel models lists the names)")


def locate(name_or_path: str | Path, progress: Progress | None = None) -> Path:
    """The file of a model, downloaded if need be.

    Args:
        name_or_path: a name from `NAMED_MODELS`, a file, or a folder with `model.safetensors`.
        progress: told of a download's pieces.

    Raises:
        ModelFileError: neither a name nor a file.
        DownloadError: the model could not be fetched.
        MissingDependencyError: what runs it is not installed.
    """
    check_model(name_or_path)
    named = find(str(name_or_path))
    if named is None:
        return _own_file(name_or_path)
    if named.file:
        return named.path
    try:
        if named.sha256:
            return fetch(named.url, named.sha256, named.path, progress=progress)
        if named.beside:
            return fetch_revision(named.url, named.beside, named.path, progress=progress)
        fetch_recorded(named.url, named.path, md5=named.md5, progress=progress)
        return named.path
    except DownloadError as error:
        embedded = ", ".join(model.name for model in NAMED_MODELS if model.file)
        raise DownloadError(
            f"{error}. These come with halfpixel and need no connection: {embedded} (`halfpixel models` says what they "
            "find); so does any model file of yours"
        ) from error
