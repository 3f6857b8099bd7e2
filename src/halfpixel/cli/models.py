"""`halfpixel models`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halfpixel.cli.console import plain_table, say, say_json, show
from halfpixel.zoo.download import cache_dir
from halfpixel.zoo.names import DEFAULT_MODEL, NAMED_MODELS, NamedModel, find, locate

if TYPE_CHECKING:
    from halfpixel.zoo.modelfile import ModelInfo


def models(model: str | None = None, /, *, as_json: Annotated[bool, Parameter("--json")] = False) -> None:
    """List the named models, or show what a model says about itself.

    Args:
        model: One of the named models, or a model file. Default: list all that have names.
        as_json: Print JSON instead of the table.
    """
    if model is None:
        _list(as_json)
        return
    named = find(model)
    path = locate(model) if named is None else _file(named)
    facts = {} if named is None else _facts(named)
    if named is None or path.suffix == ".safetensors":
        from halfpixel.engine.load import read_description

        facts |= {"file": str(path)} | _description(read_description(path))
    if as_json:
        say_json(facts)
        return
    table = plain_table("", "")
    table.show_header = False
    _add_rows(table.add_row, facts)
    show(table)


def _list(as_json: bool) -> None:
    if as_json:
        say_json([_facts(named) for named in NAMED_MODELS])
        return
    table = plain_table("name", "what it finds")
    for named in NAMED_MODELS:
        facts = _facts(named)
        size = f", {facts['megabytes']} MB" if facts["megabytes"] else ""
        table.add_row(named.name, f"{named.summary}\n{named.accuracy}\n{named.licence}{size}, {facts['state']}\n")
    show(table)
    say(f"The default is {DEFAULT_MODEL}. `halfpixel models NAME` or `halfpixel models FILE` tells more.")


def _file(named: NamedModel) -> Path:
    """Where a named model's file is, or will be once it is downloaded."""
    if named.file:
        return Path(str(resources.files("halfpixel.zoo").joinpath(named.file)))
    return cache_dir() / named.url.rpartition("/")[2]


def _facts(named: NamedModel) -> dict[str, Any]:
    path = _file(named)
    here = path.is_file()
    states = ("embedded", "missing") if named.file else ("downloaded", "downloaded on first use")
    return {
        "name": named.name,
        "summary": named.summary,
        "licence": named.licence,
        "megabytes": round(path.stat().st_size / 1e6) if here else named.megabytes,
        "state": states[0 if here else 1],
        "file": str(path),
        "url": named.url,
        "accuracy": named.accuracy,
        "quality": named.accuracy,  # the old name, for one version
    }


def _description(info: ModelInfo) -> dict[str, Any]:
    facts = dataclasses.asdict(info)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}


def _add_rows(add_row: Any, facts: Mapping[str, Any], indent: str = "") -> None:
    for name, value in facts.items():
        label = indent + name.replace("_", " ")
        if isinstance(value, Mapping) and value:
            add_row(label, "")
            _add_rows(add_row, value, indent + "  ")
        elif value not in ("", None, {}):
            add_row(label, ", ".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value))


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
