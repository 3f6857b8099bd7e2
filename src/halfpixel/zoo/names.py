"""The models that have names."""

from __future__ import annotations

from pathlib import Path
from pkgutil import iter_modules

from halfpixel.errors import DownloadError, ModelFileError
from halfpixel.zoo import convert
from halfpixel.zoo.download import Progress, fetch, fetch_recorded
from halfpixel.zoo.published import EMBEDDED, PUBLISHED, NamedModel

CONVERTERS = tuple(one.name for one in iter_modules(convert.__path__))
"""Files of `halfpixel.zoo.convert`, of which most turn others' weights into a network (`halfpixel.zoo.converters`)."""

NAMED_MODELS = tuple(one for one in (*EMBEDDED, *PUBLISHED) if not one.reader or one.reader in CONVERTERS)
"""A published model has a name once its converter is there."""

DEFAULT_MODEL = "nuclei"

WEIGHTS = "model.safetensors"
"""The file in a folder that stands for a model."""


def find(name: str) -> NamedModel | None:
    """The named model, or None."""
    return next((model for model in NAMED_MODELS if model.name == name), None)


def _own_file(name_or_path: str | Path) -> Path:
    """A file, or the one in a folder that holds the weights."""
    path = Path(name_or_path)
    return path / WEIGHTS if (path / WEIGHTS).is_file() else path


def check_model(name_or_path: str | Path) -> None:
    """Refuse what stands for no model; nothing is downloaded or opened.

    Raises:
        ModelFileError: neither a name nor a file.
    """
    if find(str(name_or_path)) is None and not _own_file(name_or_path).is_file():
        known = ", ".join(model.name for model in NAMED_MODELS)
        raise ModelFileError(f"{name_or_path}: neither a model file nor one of the named models ({known})")


def locate(name_or_path: str | Path, progress: Progress | None = None) -> Path:
    """The file of a model, downloaded if need be.

    Args:
        name_or_path: a name from `NAMED_MODELS`, a file, or a folder with `model.safetensors`.
        progress: told of a download's pieces.

    Raises:
        ModelFileError: neither a name nor a file.
        DownloadError: the model could not be fetched.
    """
    check_model(name_or_path)
    named = find(str(name_or_path))
    if named is None:
        return _own_file(name_or_path)
    if named.file:
        return named.path
    try:
        for name in named.beside:
            fetch_recorded(f"{named.url.rpartition('/')[0]}/{name}", named.path.with_name(name), quiet=True)
        if named.sha256:
            return fetch(named.url, named.sha256, named.path, progress=progress)
        return fetch_recorded(named.url, named.path, progress=progress)
    except DownloadError as error:
        embedded = ", ".join(model.name for model in NAMED_MODELS if model.file)
        raise DownloadError(
            f"{error}. These come with halfpixel and need no connection: {embedded} (`halfpixel models` says what they "
            "find); so does any model file of yours"
        ) from error
