"""What must start without torch, and what predicting and counting never import."""

import subprocess
import sys
from pathlib import Path

from PIL import Image
from test_layers import FLOOR_OF, FLOORS

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
