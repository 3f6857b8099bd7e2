"""The plan of the house: who may import whom, how big a file may be, and what must start without torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

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
    ("jobs",),
    ("train",),
    ("report",),
    ("annotate",),
    ("cli", "web", "cluster"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

ALLOWED = {
    ("jobs", "halfpixel.cli.console"),
    ("plots", "halfpixel.evaluation.counts.count_errors"),
    ("plots", "halfpixel.evaluation.detection.error_types"),
    ("plots", "halfpixel.evaluation.evaluation"),
    ("plots", "halfpixel.evaluation.model_comparison"),
    ("plots", "halfpixel.report.html"),
}
"""A room and a module that it imports against the rule: what still has to move."""

FREE = {"__init__.py", "__main__.py"}
"""Files at the top that may import anything (the first one lazily)."""

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST_FILE = 420


def imported_modules(path: Path, package: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every `halfpixel` module that a file imports, also inside functions."""
    home = ["halfpixel", *path.relative_to(package).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_files_are_short() -> None:
    lengths = {str(p.relative_to(ROOT)): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files()}
    assert {name: lines for name, lines in lengths.items() if lines >= LONGEST_FILE} == {}


def test_test_files_have_unique_names() -> None:
    """The test folders are not packages, so pytest would mix up two files of one name."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


# What starts without what -------------------------------------------------------------------------------------------

HEAVY = ("torch", "torchvision", "timm", "lightning", "lightning_fabric")

IMPORT_ALONE = """
import sys
import halfpixel
print("loaded:", *sorted(set(sys.argv[1:]) & set(sys.modules)))
"""

HELP = """
import contextlib, io, sys
from halfpixel.cli import main
heavy = set(sys.argv[1:])
verbs = "predict count evaluate compare sweep calibrate train models export bench"
for verb in ([], *([one] for one in verbs.split()), ["data", "check"], ["data", "convert"]):
    sys.argv = ["halfpixel", *verb, "--help"]
    code, printed = 0, io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    assert code == 0, (verb, code)
    assert "Usage" in printed.getvalue(), (verb, printed.getvalue())
    assert not heavy & set(sys.modules), (verb, heavy & set(sys.modules))
print("loaded:", *sorted(heavy & set(sys.modules)))
"""

IMPORT_ALL_FOR_PREDICTING = """
import importlib, pkgutil, sys
import halfpixel
rooms = sys.argv[1].split(",")
for module in pkgutil.walk_packages(halfpixel.__path__, "halfpixel."):
    if module.name.split(".")[1] in rooms:
        importlib.import_module(module.name)
print("loaded:", *sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


COUNT = """
import sys
import torch
with_torch = set(sys.modules)
from halfpixel.cli import main
slow, sys.argv = set(sys.argv[2:]), ["halfpixel", "count", sys.argv[1]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print("loaded:", *sorted(slow & set(sys.modules) - with_torch))
"""

SLOW = (
    *("torchvision", "timm", "lightning", "lightning_fabric", "torch._dynamo", "torch._inductor", "torch.distributed"),
    *("sympy", "triton", "onnx", "onnxruntime", "openvino", "nncf", "torch.export", "torch.utils.data"),
    *("scipy", "skimage.filters", "skimage.morphology", "skimage.segmentation", "matplotlib", "hotcoco", "pandas"),
)
"""What counting does without; each takes a tenth of a second or more."""


def loaded_by(script: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("loaded:")[2].strip()


def test_importing_the_package_is_light() -> None:
    assert loaded_by(IMPORT_ALONE, *HEAVY) == ""
    assert loaded_by("import torch" + IMPORT_ALONE, *HEAVY) == "torch"


def test_help_does_not_import_torch() -> None:
    assert loaded_by(HELP, *HEAVY) == ""


def test_predicting_imports_neither_timm_nor_lightning() -> None:
    rooms = ",".join(room for rooms in FLOORS[: FLOOR_OF["engine"] + 1] for room in rooms)
    assert loaded_by(IMPORT_ALL_FOR_PREDICTING, rooms, "timm", "lightning", "lightning_fabric", "torch") == "torch"


def test_counting_imports_only_what_it_needs(tmp_path: Path) -> None:
    """Beside what `import torch` brings, which is different in each of its versions."""
    image = tmp_path / "dark.png"
    Image.new("L", (64, 64)).save(image)
    assert loaded_by(COUNT, str(image), *SLOW, "safetensors") == "safetensors"
