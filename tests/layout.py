"""What the source says of itself: which modules import which, how long its functions are, whom it names."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

PAIRS = (("data", "formats"), ("outputs",)), (("jobs",), ("cli",))
"""Two folders that may share file names: a reader and a writer of one format, a job and its verb."""


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every `halfpixel` module that a file imports, also inside functions."""
    home = ["halfpixel", *path.relative_to(package).with_suffix("").parts]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "halfpixel":
                    yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = [*home[: -node.level]] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module.split(".")[0] != "halfpixel":
                continue
            for alias in node.names:
                inside = package.joinpath(*module.split(".")[1:], alias.name)
                is_module = inside.is_dir() or inside.with_suffix(".py").is_file()
                yield node.lineno, f"{module}.{alias.name}" if is_module or module == "halfpixel" else module


def name_of(path: Path, package: Path) -> str:
    """A module's dotted name."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(["halfpixel", *(part for part in parts if part != "__init__")])


def in_circles(package: Path) -> set[str]:
    """The modules from which imports lead back to themselves. The package's own face, which is lazy, leads nowhere."""
    names = {name_of(path, package): path for path in package.rglob("*.py")}
    imports = {name: {to for _, to in imported_modules(path, package)} for name, path in names.items()}
    imports["halfpixel"] = set()
    return {name for name in names if name in _reached(imports, name)}


def _reached(imports: Mapping[str, set[str]], start: str) -> set[str]:
    """All that a module imports, and what that imports, and so on."""
    found: set[str] = set()
    left = list(imports[start])
    while left:
        name = left.pop()
        if name not in found and name in imports:
            found.add(name)
            left.extend(imports[name])
    return found


def shared_names(package: Path) -> set[str]:
    """File names that occur twice, but for `__init__` and the pairs."""
    paths = [path.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py"]
    several = [name for name, times in Counter(path.name for path in paths).items() if times > 1]
    homes = {name: {path.parent.parts for path in paths if path.name == name} for name in several}
    return {name for name, folders in homes.items() if folders not in [set(pair) for pair in PAIRS]}


def long_files(files: Iterable[Path], root: Path, most: int) -> set[str]:
    """Files with more lines than that."""
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    return {path.relative_to(root).as_posix() for path, length in lengths.items() if length > most}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(files: Iterable[Path], root: Path, most: int) -> set[str]:
    """Functions with more lines than that, from `def` to the last, with the docstring."""
    return _functions_where(files, root, lambda node: (node.end_lineno or node.lineno) - node.lineno + 1 > most)


def importing_functions(files: Iterable[Path], root: Path, most: int) -> set[str]:
    """Functions that hold more import statements than that."""

    def imports(node: ast.AST) -> int:
        return sum(isinstance(inner, ast.Import | ast.ImportFrom) for inner in ast.walk(node))

    return _functions_where(files, root, lambda node: imports(node) > most)


def _functions_where(
    files: Iterable[Path], root: Path, holds: Callable[[ast.FunctionDef | ast.AsyncFunctionDef], bool]
) -> set[str]:
    return {
        f"{path.relative_to(root).as_posix()}:{node.name}" for path in files for node in functions(path) if holds(node)
    }


def naming_a_model(package: Path) -> set[str]:
    """Files outside of models/ and zoo/ that import a model, or name one in an identifier or a string.

    Docstrings, which are the command line's help, may.
    """
    models = [path.stem for path in (package / "models").glob("*.py") if path.name != "__init__.py"]
    word = re.compile("|".join(f"{stem}|{stem.replace('_', '')}" for stem in models), re.IGNORECASE)
    found = set()
    for path in package.rglob("*.py"):
        relative = path.relative_to(package)
        if relative.parts[0] in ("models", "zoo"):
            continue
        imports = [to for _, to in imported_modules(path, package) if to.startswith("halfpixel.models.")]
        if imports or any(word.search(text) for text in _words(parsed(path))):
            found.add(relative.as_posix())
    return found


def _words(tree: ast.Module) -> Iterator[str]:
    """Identifiers and strings, without docstrings."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        for field in ("id", "attr", "arg", "name", "asname"):
            text = getattr(node, field, None)
            if isinstance(text, str):
                yield text
