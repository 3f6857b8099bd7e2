"""`halfpixel models`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halfpixel.cli.console import plain_table, say, say_json, show
from halfpixel.errors import ArgumentError
from halfpixel.zoo.names import DEFAULT_MODEL, NAMED_MODELS, find, locate
from halfpixel.zoo.published import NamedModel

if TYPE_CHECKING:
    from halfpixel.zoo.modelfile import ModelInfo


def models(
    model: str | None = None, /, *, networks: bool = False, as_json: Annotated[bool, Parameter("--json")] = False
) -> None:
    """List the named models, or show what a model says about itself.

    Args:
        model: One of the named models, or a model file. Default: list all that have names.
        networks: List the networks that can be trained from scratch instead, by the names that train takes.
        as_json: Print JSON instead of the table.
    """
    if networks:
        if model is not None:
            raise ArgumentError("--networks lists them all: give no model")
        _list_networks(as_json)
        return
    if model is None:
        _list(as_json)
        return
    named = find(model)
    path = locate(model) if named is None else named.path
    facts = {} if named is None else _facts(named)
    if named is None or named.file:
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
        needs = f', needs "halfpixel[{named.needs}]"' if named.needs else ""
        lines = (named.summary, named.accuracy, f"{named.licence}{size}, {facts['state']}{needs}")
        table.add_row(named.name, "\n".join(line for line in lines if line) + "\n")
    show(table)
    say(f"The default is {DEFAULT_MODEL}. `halfpixel models NAME` or `halfpixel models FILE` tells more.")


def _list_networks(as_json: bool) -> None:
    from halfpixel.zoo.modelfile import Variant, variants

    found: tuple[Variant, ...] = variants()
    if as_json:
        say_json([one._asdict() for one in found])
        return
    table = plain_table("name", "weights", "what it is")
    for one in found:
        table.add_row(one.name, f"{one.weights / 1e6:.1f} M", one.summary)
    show(table)
    say("Each has a file in halfpixel/models that says which paper it is from, and what is otherwise than there.")


def _facts(named: NamedModel) -> dict[str, Any]:
    here = named.is_here
    states = ("embedded", "missing") if named.file else ("downloaded", "downloaded on first use")
    return {
        "name": named.name,
        "summary": named.summary,
        "licence": named.licence,
        "megabytes": round(named.path.stat().st_size / 1e6) if here else named.megabytes or None,
        "state": states[0 if here else 1],
        "needs": named.needs,
        "file": str(named.path),
        "url": named.url,
        "sha256": named.sha256,
        "accuracy": named.accuracy,
        "page": named.page,
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
