"""The plan of the house: who may import whom, and how big files and functions may be.

What violates it today is listed, in `ALLOWED` and in the sets `STILL_...`; an entry that no longer violates has to go.
"""

from pathlib import Path

import pytest
from layout import (
    imported_modules,
    importing_functions,
    in_circles,
    long_files,
    long_functions,
    naming_a_model,
    shared_names,
)

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "halfpixel"

FLOORS = (
    ("errors",),
    ("files", "optional"),
    ("ops",),
    ("structures",),
    ("nn",),
    ("data",),
    ("measure", "viz", "plots"),
    ("evaluation",),
    ("models",),
    ("zoo",),
    ("engine",),
    ("outputs",),
    ("train",),
    ("jobs",),
    ("report",),
    ("annotate",),
    ("cli", "web", "cluster"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

ALLOWED: set[tuple[str, str]] = set()
"""A room and a module that it imports against the rule: what still has to move."""

FREE = {"__init__.py", "__main__.py"}
"""Files at the top that may import anything (the first one lazily)."""

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
IMPORTS_IN_A_VERB = 1

STILL_SHARED_NAMES: set[str] = set()
STILL_LONG_FILES: set[str] = set()
STILL_LONG_FUNCTIONS: set[str] = set()
STILL_IN_A_CIRCLE: set[str] = set()
STILL_NAMING_A_MODEL: set[str] = set()
STILL_IMPORTING_LATE: set[str] = set()


def objection(path: Path, target: str, package: Path) -> str | None:
    """Why a file may not import a module, or None."""
    relative = path.relative_to(package)
    room = relative.parts[0].removesuffix(".py")
    other = target.split(".")[1] if "." in target else ""
    if room not in FLOOR_OF:
        return f"{room} has no place in the plan"
    if target == "halfpixel.__version__" or (room, target) in ALLOWED:
        return None
    if other not in FLOOR_OF:  # the public face of the package stands above everything but the command line
        return None if room in FLOORS[-1] else f"{room} must not import the package's public face"
    if other == room:
        is_rival = room == "models" and relative.name != "__init__.py"
        return "files of models must not import each other" if is_rival else None
    if FLOOR_OF[other] < FLOOR_OF[room]:
        return None
    return f"{room} must not import {other}"


def violations(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        if path.parent == package and path.name in FREE:
            continue
        relative = path.relative_to(package)
        if relative.parts[0].removesuffix(".py") not in FLOOR_OF:
            found.append(f"{relative}: has no place in the plan")
        for line, target in imported_modules(path, package):
            if why := objection(path, target, package):
                found.append(f"{relative}:{line}: {why} ({target})")
    return found


def python_files() -> list[Path]:
    folders = [ROOT / name for name in ("src", "tests", "benchmarks", "examples")]
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.rglob("*.py"))]


def test_rooms_import_only_from_above() -> None:
    assert violations(PACKAGE) == []


def test_what_is_allowed_is_still_needed() -> None:
    imports = {
        (path.relative_to(PACKAGE).parts[0].removesuffix(".py"), target)
        for path in PACKAGE.rglob("*.py")
        for _, target in imported_modules(path, PACKAGE)
    }
    assert ALLOWED - imports == set()


@pytest.mark.parametrize(
    ("file", "line", "why"),
    [
        ("ops/paste.py", "from halfpixel.structures.masks import CropMasks", "ops must not import structures"),
        ("ops/paste.py", "from halfpixel import structures", "ops must not import structures"),
        ("ops/paste.py", "from ..structures import masks", "ops must not import structures"),
        ("ops/paste.py", "def f():\n    import halfpixel.cli", "ops must not import cli"),
        ("errors.py", "import halfpixel.ops", "errors must not import ops"),
        ("viz/overlay.py", "from halfpixel.plots.style import styled", "viz must not import plots"),
        ("evaluation/ap.py", "from halfpixel.models import two", "evaluation must not import models"),
        ("models/one.py", "from halfpixel.models.two import Two", "files of models must not import each other"),
        ("models/one.py", "from halfpixel.models import two", "files of models must not import each other"),
        ("models/one.py", "from .two import Two", "files of models must not import each other"),
        ("engine/predictor.py", "from halfpixel import load", "engine must not import the package's public face"),
        ("engine/predictor.py", "import halfpixel", "engine must not import the package's public face"),
        ("web/page.py", "from halfpixel.cli import main", "web must not import cli"),
        ("attic/box.py", "", "has no place in the plan"),
        ("attic.py", "", "has no place in the plan"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, file: str, line: str, why: str) -> None:
    plant(tmp_path, file, line)
    assert len(found := violations(tmp_path)) == 1
    assert found[0].startswith(file)
    assert why in found[0]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("structures/masks.py", "from halfpixel.ops import rle"),
        ("ops/paste.py", "from halfpixel.ops.interpolate import linear_weights"),
        ("ops/paste.py", "from . import interpolate\nimport torch.nn, numpy"),
        ("evaluation/ap.py", "from halfpixel.data.dataset import Sample"),
        ("evaluation/ap.py", "from halfpixel.data import sample"),
        ("models/__init__.py", "from halfpixel.models import two"),
        ("report/page.py", "from halfpixel.evaluation import ap\nfrom halfpixel.engine import predictor"),
        ("zoo/modelfile.py", "from halfpixel import __version__"),
        ("cli/count.py", "from halfpixel import load"),
        ("__init__.py", "from halfpixel.cli import main"),
    ],
)
def test_a_proper_import_passes(tmp_path: Path, file: str, line: str) -> None:
    plant(tmp_path, file, line)
    assert violations(tmp_path) == []


def plant(package: Path, file: str, line: str) -> None:
    for name in ("data/dataset.py", "data/formats/coco.py", "models/two.py", "structures/masks.py"):
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text("")
    (package / file).parent.mkdir(exist_ok=True)
    (package / file).write_text(line)


def test_no_room_for_odds_and_ends() -> None:
    names = [path for path in python_files() if VAGUE & {part.removesuffix(".py") for part in path.parts}]
    assert names == []


def test_test_files_have_unique_names() -> None:
    """The test folders are not packages, so pytest would mix up two files of one name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


# Limits --------------------------------------------------------------------------------------------------------------


def test_file_names_are_unique() -> None:
    assert shared_names(PACKAGE) == STILL_SHARED_NAMES


def test_files_are_short() -> None:
    assert long_files(python_files(), ROOT, LONGEST_FILE) == STILL_LONG_FILES


def test_functions_are_short() -> None:
    assert long_functions(python_files(), ROOT, LONGEST_FUNCTION) == STILL_LONG_FUNCTIONS


def test_imports_make_no_circle() -> None:
    assert in_circles(PACKAGE) == STILL_IN_A_CIRCLE


def test_models_are_known_to_models_and_zoo_alone() -> None:
    assert naming_a_model(PACKAGE) == STILL_NAMING_A_MODEL


def test_verbs_import_once() -> None:
    """The command line imports what is heavy when a verb runs: one call into the library, hence one import."""
    verbs = sorted((PACKAGE / "cli").rglob("*.py"))
    assert importing_functions(verbs, PACKAGE, IMPORTS_IN_A_VERB) == STILL_IMPORTING_LATE


def write(folder: Path, files: dict[str, str]) -> list[Path]:
    """A tiny tree."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return [folder / name for name in files]


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["ops/boxes.py", "measure/boxes.py"], {"boxes.py"}),
        (["ops/__init__.py", "measure/__init__.py", "__init__.py"], set()),
        (["data/formats/coco.py", "outputs/coco.py"], set()),
        (["jobs/count.py", "cli/count.py"], set()),
        (["data/formats/coco.py", "data/coco.py"], {"coco.py"}),
        (["data/formats/coco.py", "outputs/coco.py", "viz/coco.py"], {"coco.py"}),
        (["jobs/count.py", "outputs/count.py"], {"count.py"}),
    ],
)
def test_a_shared_name_is_caught(tmp_path: Path, names: list[str], shared: set[str]) -> None:
    write(tmp_path, dict.fromkeys(names, ""))
    assert shared_names(tmp_path) == shared


def test_a_long_file_is_caught(tmp_path: Path) -> None:
    files = write(tmp_path, {"ops/short.py": "x = 1\n" * 3, "ops/long.py": "x = 1\n" * 4})
    assert long_files(files, tmp_path, 3) == {"ops/long.py"}


def test_a_long_function_is_caught(tmp_path: Path) -> None:
    text = "def short():\n    x = 1\n    return x\n\nclass A:\n    def long(self):\n" + '        """Doc."""\n' * 3
    files = write(tmp_path, {"ops/a.py": text})
    assert long_functions(files, tmp_path, 3) == {"ops/a.py:long"}


@pytest.mark.parametrize(
    ("files", "circle"),
    [
        ({"ops/a.py": "from halfpixel.ops.b import f", "ops/b.py": ""}, set()),
        ({"ops/a.py": "from halfpixel.ops.b import f", "ops/b.py": "import halfpixel.ops.a"}, {"a", "b"}),
        ({"ops/a.py": "from halfpixel.ops import b", "ops/b.py": "def f():\n    from .a import g"}, {"a", "b"}),
        (
            {
                "ops/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from halfpixel.ops.b import B",
                "ops/b.py": "from halfpixel.ops.c import C",
                "ops/c.py": "from halfpixel.ops.a import A",
                "ops/d.py": "from halfpixel.ops.a import A",
            },
            {"a", "b", "c"},
        ),
        ({"__init__.py": "from halfpixel.ops.a import A", "ops/a.py": "from halfpixel import __version__"}, set()),
    ],
)
def test_a_circle_is_caught(tmp_path: Path, files: dict[str, str], circle: set[str]) -> None:
    write(tmp_path, files)
    assert in_circles(tmp_path) == {f"halfpixel.ops.{name}" for name in circle}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("from halfpixel.models.solo_v2 import Solo", True),
        ("from halfpixel.models import solo_v2", True),
        ("if kind == 'solo_v2_lite': pass", True),
        ("def is_solo_v2(): pass", True),
        ("print(f'only a SoloV2 can {x}')", True),
        ("isinstance(model, things.SoloV2)", True),
        ('def f():\n    """Such as SoloV2."""', False),
        ("from halfpixel import models", False),
        ("solo = 'solo'", False),
    ],
)
def test_naming_a_model_is_caught(tmp_path: Path, line: str, names: bool) -> None:
    model = "class SoloV2: pass"
    write(tmp_path, {"models/solo_v2.py": model, "zoo/names.py": "'solo_v2'", "engine/a.py": line})
    assert naming_a_model(tmp_path) == ({"engine/a.py"} if names else set())


def test_a_verb_that_imports_twice_is_caught(tmp_path: Path) -> None:
    text = "def one():\n    import torch\n\ndef two():\n    if x:\n        import torch\n    from a import b, c\n"
    assert importing_functions(write(tmp_path, {"cli/a.py": text}), tmp_path, 1) == {"cli/a.py:two"}
