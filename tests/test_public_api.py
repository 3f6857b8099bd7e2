"""The public API is written down in public_api.txt, so that it changes only on purpose.

To write the file anew: HALFPIXEL_UPDATE_API=1 python -m pytest tests/test_public_api.py
"""

import ast
import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import get_origin

import pytest

import halfpixel

WRITTEN = Path(__file__).with_name("public_api.txt")
HOW_TO_UPDATE = "if this is meant: HALFPIXEL_UPDATE_API=1 python -m pytest tests/test_public_api.py"
PRIVATE_DUNDERS = {"__post_init__", "__repr__", "__str__", "__hash__", "__eq__"}


def describe(name: str, value: object) -> list[str]:
    """A public name as lines of text, signatures as the source has them (so no Python version changes them)."""
    if inspect.ismodule(value):
        return [f"module {name}"]
    if get_origin(value) is not None:  # a type alias
        return [f"type {name} = {value}"]
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return [f"{type(value).__name__} {name}"]
    node: ast.AST = ast.parse(inspect.getsource(sys.modules[value.__module__]))
    for part in value.__qualname__.split("."):
        # the last one: after its overloads comes the function itself
        node = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part][-1]
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in [*node.bases, *node.keywords])
        return [f"class {name}({bases})" if bases else f"class {name}", *describe_body(node)]
    assert isinstance(node, ast.FunctionDef)
    return [f"def {name}{signature(node)}"]


def describe_body(node: ast.ClassDef) -> list[str]:
    lines = []
    for child in node.body:
        if isinstance(child, ast.AnnAssign) and not ast.unparse(child.target).startswith("_"):
            lines.append(f"    {ast.unparse(child)}")
        elif isinstance(child, ast.FunctionDef) and is_public(child.name):
            kinds = "".join(f"@{ast.unparse(decorator)} " for decorator in child.decorator_list)
            lines.append(f"    {kinds}def {child.name}{signature(child)}")
    return lines


def is_public(name: str) -> bool:
    is_dunder = name.startswith("__") and name.endswith("__")
    return name not in PRIVATE_DUNDERS if is_dunder else not name.startswith("_")


def signature(node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(node.args)}){returns}"


def test_the_api_is_as_written_down() -> None:
    lines = [line for name in sorted(halfpixel.__all__) for line in describe(name, getattr(halfpixel, name))]
    found = "\n".join(lines) + "\n"
    if os.environ.get("HALFPIXEL_UPDATE_API") == "1":
        WRITTEN.write_text(found, encoding="utf-8")
    written = WRITTEN.read_text(encoding="utf-8") if WRITTEN.is_file() else ""
    assert found == written, HOW_TO_UPDATE


def test_names_are_listed_and_unlisted_ones_are_errors() -> None:
    assert len(set(halfpixel.__all__)) == len(halfpixel.__all__)
    assert set(halfpixel.__all__) <= set(dir(halfpixel))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = halfpixel.no_such_name


def test_every_public_function_and_class_says_what_it_does() -> None:
    values = {name: getattr(halfpixel, name) for name in halfpixel.__all__}
    callables = {name: value for name, value in values.items() if inspect.isclass(value) or inspect.isfunction(value)}
    assert [name for name, value in callables.items() if not (value.__doc__ or "").strip()] == []


TOY = '''
import functools
from dataclasses import dataclass
from typing import Literal

def wrapped(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)
    return inner

LIMIT = 1000
Alignment = Literal["half_pixel", "torchvision"]

@wrapped
def load(name: str, *, limit: "int | None" = None) -> "Thing":
    """Load."""

@dataclass(frozen=True)
class Thing(Exception):
    """A thing."""

    size_hw: tuple[int, int]
    saturated: bool = False
    _hidden: int = 0

    def __post_init__(self): ...
    def __len__(self) -> int: ...
    @classmethod
    def empty(cls, size_hw: tuple[int, int]) -> "Thing": ...
    def _private(self): ...
'''


def test_a_description_holds_names_defaults_and_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_api.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    toy = importlib.import_module("toy_api")
    assert describe("LIMIT", toy.LIMIT) == ["int LIMIT"]
    assert describe("Alignment", toy.Alignment) == ["type Alignment = typing.Literal['half_pixel', 'torchvision']"]
    assert describe("toy", toy) == ["module toy"]
    assert describe("load", toy.load) == ["def load(name: str, *, limit: 'int | None'=None) -> 'Thing'"]
    assert describe("Thing", toy.Thing) == [
        "class Thing(Exception)",
        "    size_hw: tuple[int, int]",
        "    saturated: bool = False",
        "    def __len__(self) -> int",
        "    @classmethod def empty(cls, size_hw: tuple[int, int]) -> 'Thing'",
    ]
