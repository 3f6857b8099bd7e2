"""The library names fields; the command line names its options."""

import ast
from collections.abc import Iterator
from pathlib import Path

from cyclopts import App

import halfpixel
from halfpixel.cli import build_app
from halfpixel.cli.console import FIELD, OPTIONS, in_options

PACKAGE = Path(halfpixel.__file__).parent


def verbs() -> Iterator[App]:
    """All commands, those of `data` too."""
    for app in (build_app(), build_app()["data"]):
        yield from (app[name] for name in app if not name.startswith("-") and name != "data")


def options() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Of every verb each parameter that has an option, and that option."""
    for verb in verbs():
        for argument in verb.assemble_argument_collection():
            names = tuple(name for name in argument.names if name.startswith("--"))
            if names and argument.parse:
                yield argument.field_info.name, names


def texts(path: Path) -> Iterator[str]:
    """What is no docstring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and isinstance(child.value, str) and not isinstance(node, ast.Expr):
                yield child.value


def test_fields_become_options() -> None:
    assert in_options("`most_images` and `goal`: see `halfpixel export`") == (
        "--most-images and --for: see `halfpixel export`"
    )
    assert in_options("a `b.png` without") == "a `b.png` without"


def test_every_option_is_named_as_it_is() -> None:
    found = dict(options())
    assert found["goal"] == ("--for",)
    assert len(found) > 60
    for name, (option, *_) in found.items():
        if name != "as_json":  # no field of a request
            assert in_options(f"`{name}`") == option


def test_every_field_in_a_text_is_an_option() -> None:
    known = {option for _, names in options() for option in names}
    named = {
        name
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for text in texts(path)
        for name in FIELD.findall(text)
    }
    assert named >= {"predictions", "most_images", "first_pass", "pixel_size_um", "backbone", *OPTIONS}
    assert {name for name in named if in_options(f"`{name}`") not in known} == set()


def test_the_library_knows_no_options() -> None:
    """Jobs are called by others, too; only docstrings that the help is made of may name some."""
    rooms = [*(PACKAGE / "jobs").glob("*.py"), *(PACKAGE / "report").glob("*_run.py")]
    assert [(path.name, text) for path in rooms for text in texts(path) if "--" in text] == []
