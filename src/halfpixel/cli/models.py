"""`halfpixel models`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from halfpixel.cli.console import plain_table, say, say_json, show
from halfpixel.errors import ArgumentError
from halfpixel.zoo.download import Record
from halfpixel.zoo.names import DEFAULT_MODEL, NAMED_MODELS, find, locate
from halfpixel.zoo.published import NamedModel

if TYPE_CHECKING:
    from halfpixel.zoo.modelfile import ModelInfo


SAID_AS = {"megabytes": "size", "page": "stated at"}
"""What some facts are called where people read them."""


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
        say_json(facts | ({} if named is None else {"quality": named.accuracy}))  # the old name, for one version
        return
    table = plain_table("", "")
    table.show_header = False
    _add_rows(table.add_row, _for_people(facts))
    show(table)


def _list(as_json: bool) -> None:
    if as_json:
        say_json([_facts(named) | {"quality": named.accuracy} for named in NAMED_MODELS])
        return
    table = plain_table("name", "what it is", "COCO AP", "licence", right=("COCO AP",))
    for named in NAMED_MODELS:
        table.add_row(named.name, named.summary, named.coco_ap, named.licence)
    show(table)
    say("COCO AP: in percent, of masks unless it says box, as its publisher states it.")
    say(f"Here already: {_names(one for one in NAMED_MODELS if one.is_here)}. The others are downloaded on first use.")
    say("All but those of nuclei know COCO's 80 classes of everyday objects.")
    for extra in dict.fromkeys(named.needs for named in NAMED_MODELS if named.needs):
        needing = _names(named for named in NAMED_MODELS if named.needs == extra)
        say(f'With pip install "halfpixel[{extra}]" only: {needing}.')
    say(f"The default is {DEFAULT_MODEL}. halfpixel models NAME or halfpixel models FILE tells more.")


def _names(models: Iterable[NamedModel]) -> str:
    return ", ".join(one.name for one in models)


def _list_networks(as_json: bool) -> None:
    from halfpixel.zoo.modelfile import Variant, variants

    found: tuple[Variant, ...] = variants()
    if as_json:
        say_json([one._asdict() for one in found])
        return
    table = plain_table("name", "parameters", "finds", "arXiv", "what it is", right=("parameters",))
    for one in found:
        table.add_row(one.name, f"{one.parameters / 1e6:.1f} M", one.finds, one.paper, one.summary.rstrip("."))
    show(table)
    say("To train one from scratch: halfpixel train DATA --model NAME --out RUN")


def _facts(named: NamedModel) -> dict[str, Any]:
    here = named.is_here
    states = (
        ("embedded", "missing")
        if named.file
        else ("downloaded; checked whenever it is loaded", "downloaded on first use")
    )
    return {
        "name": named.name,
        "summary": named.summary,
        "details": named.details,
        "licence": named.licence,
        "megabytes": round(named.path.stat().st_size / 1e6) if here else named.megabytes or None,
        "state": states[0 if here else 1],
        "needs": named.needs,
        "file": str(named.path),
        "url": named.url,
        "sha256": named.sha256,
        "md5": named.md5,
        "recorded": {name: value for name, value in _recorded(named).items() if value},
        "accuracy": named.accuracy,
        "page": named.page,
        "variant": named.variant,
    }


def _recorded(named: NamedModel) -> dict[str, str]:
    """What the first download left."""
    return {} if named.file else dataclasses.asdict(Record.of(named.path))


def _for_people(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same in words, and without what the model makes no use of."""
    shown, here = dict(facts), Path(facts.get("file", "")).is_file()
    if facts.get("megabytes"):
        shown["megabytes"] = f"{'' if here else 'about '}{facts['megabytes']} MB"
    if facts.get("needs"):
        shown["needs"] = f'pip install "halfpixel[{facts["needs"]}]"'
    if not here:
        shown["file"] = f"will be {facts['file']}"
    for name, digits in (("sha256", 64), ("md5", 32)):
        if 0 < len(facts.get(name, "")) < digits:
            shown[name] = f"begins with {facts[name]}, as its publisher states"
    if rules := facts.get("input"):
        unused = {"shortest_side", "stretch"} if rules["scale"] else {"stretch"}
        unused = {"shortest_side", "longest_side"} if rules["exact_hw"] and not rules["scale"] else unused
        shown["input"] = {name: value for name, value in rules.items() if name not in unused}
    return {SAID_AS.get(name, name): value for name, value in shown.items()}


def _description(info: ModelInfo) -> dict[str, Any]:
    facts = dataclasses.asdict(info)
    if info.novelty is not None:
        facts["novelty"]["references"] = len(info.novelty.references)  # numbers that tell nobody anything
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
