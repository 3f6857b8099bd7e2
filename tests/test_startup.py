"""What must start without torch, and what predicting and counting never import."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image
from test_layers import FLOOR_OF, FLOORS

from halfpixel.cli import build_app

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
verbs = "predict count track evaluate compare sweep calibrate train models export bench"
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

REFUSED = """
import contextlib, io, json, sys
from halfpixel.cli import main
for line in json.loads(sys.argv[1]):
    sys.argv = ["halfpixel", *line]
    code, said = 0, io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    assert code == 2, (line, code)
    assert "torch" not in sys.modules, line
print("loaded:")
"""

BAD = {
    "predict": (
        "x.png --out file", "x.png --out new --threshold 7", "x.png --out new --limit 0", "x.png --out new --save all",
        "x.png --out new --classes a", "x.png --out new --gzip", "x.png --out new --overwrite --resume",
        "x.png --out new --force", "x.png --out new --pixel-size-um 90", "x.png --out new --channels 1,2,3,4",
        "x.png --out new --model none", "x.png --out new --first-pass none", "x.png --out full", "none.png --out new",
    ),
    "track": (
        "x.png --out file", "x.png --out full", "x.png --out new --threshold 7", "x.png --out new --save all",
        "x.png --out new --line 1,2,3", "x.png --out new --line 1,2,1,2", "x.png --out new --min-iou 0",
        "x.png --out new --max-gap -1", "x.png --out new --min-frames 0", "x.png --out new --model none",
        "none.png --out new",
    ),
    "count": (
        "x.png --threshold 7", "x.png --limit 0", "x.png --resume", "x.png --csv file", "x.png --csv full",
        "x.png --force", "x.png --model none", "none.png",
    ),
    "evaluate": (
        "d.json --out file", "d.json --out full", "d.json --out new --threshold 2", "d.json --out new --pictures -1",
        "d.json --out new --model nuclei --predictions file", "d.json --out new --predictions file --fast",
        "d.json --out new --predictions file --first-pass nuclei-unet", "d.json --out new --predictions none",
        "d.json --out new --images none", "d.json --out new --model none", "none.json --out new",
    ),
    "compare": (
        "d.json --out new --model nuclei", "d.json --out file --model nuclei --model nuclei",
        "d.json --out full --model nuclei --model nuclei", "d.json --out new --model nuclei --model none",
        "d.json --out new --model nuclei --model nuclei --threshold 2",
        "d.json --out new --model nuclei --model nuclei --threshold .1 --threshold .2 --threshold .3",
        "d.json --out new --model nuclei --model nuclei --pictures -1",
        "none.json --out new --model nuclei --model coco",
        "d.json --out new --model nuclei --predictions none",
    ),
    "sweep": (
        "d.json --out file", "d.json --out full", "d.json --out new --from .8 --to .2", "d.json --out new --for all",
        "d.json --out new --iou 0", "d.json --out new --limit 0", "d.json d.json --out new --images full",
        "d.json --out new --model nuclei --predictions d.json", "d.json --out new --predictions none",
        "x.png --out new --predictions d.json", "d.json --out new --model none", "none.json --out new",
        "none.png --out new",
    ),
    "calibrate": (
        "d.json --out new", "d.json --out file/new.safetensors", "d.json --out new.safetensors --threshold .5 --for f1",
        "d.json --out new.safetensors --level 2", "d.json --out new.safetensors --threshold 2",
        "d.json --out new.safetensors --for all", "d.json --out new.safetensors --model none",
        "none.json --out new.safetensors",
    ),
    "export": (
        "--to onnx --out file/x.onnx", "--to onnx --out x.onnx --int8 --images x.png",
        "--to openvino --out x.xml --int8",
        "--to openvino --out x.xml --images x.png", "--to openvino --out x.xml --int8 --images x.png --most-images 0",
        "--to onnx --out file", "none --to onnx --out x.onnx",
    ),
    "bench": ("x.png --rounds 0", "x.png --at-most 0", "x.png --model none", "none.png"),
    "data check": (
        "d.json --out file", "d.json --model none", "d.json --val none.json", "d.json --images none", "none.json",
    ),
    "data convert": (
        "d.json --to yolo --out file", "d.json --to yolo --out full", "d.json --to yolo --out new --images none",
        "none.json --to yolo --out new",
    ),
    "train": (
        "d.json --out file", "d.json --out full", "d.json --out new --val d.json --hold-out 1", "none.json --out new",
        "d.json --out new --hold-out 0", "d.json --out new --score-threshold 2", "d.json --out new --steps 0",
        "d.json --out new --scale 0", "d.json --out new --val none.json", "d.json --out new --images none",
    ),
}  # fmt: skip

SLOW = (
    *("torchvision", "timm", "lightning", "lightning_fabric", "torch._dynamo", "torch._inductor", "torch.distributed"),
    *("sympy", "triton", "onnx", "onnxruntime", "openvino", "nncf", "torch.export", "torch.utils.data"),
    *("scipy", "skimage.filters", "skimage.morphology", "skimage.segmentation", "matplotlib", "hotcoco", "pandas"),
)
"""What counting does without; each takes a tenth of a second or more."""


def loaded_by(script: str, *arguments: str, folder: Path | None = None) -> str:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("loaded:")[2].strip()


def test_importing_the_package_is_light() -> None:
    assert loaded_by(IMPORT_ALONE, *HEAVY) == ""
    assert loaded_by("import torch" + IMPORT_ALONE, *HEAVY) == "torch"


def test_help_does_not_import_torch() -> None:
    assert loaded_by(HELP, *HEAVY) == ""


def test_bad_options_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    (tmp_path / "d.json").write_text('{"images": [], "annotations": [], "categories": []}')
    (tmp_path / "full").mkdir()
    for name in ("instances.json", "report.json", "sweep.csv"):
        (tmp_path / "full" / name).write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    lines = [[*verb.split(), *options.split()] for verb, some in BAD.items() for options in some]
    assert loaded_by(REFUSED, json.dumps(lines), folder=tmp_path) == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_every_verb_refuses_bad_options_early() -> None:
    app = build_app()
    verbs = {name for name in app if not name.startswith("-")} - {"data", "models"}
    assert set(BAD) == verbs | {f"data {name}" for name in app["data"] if not name.startswith("-")}


def test_predicting_imports_neither_timm_nor_lightning() -> None:
    rooms = ",".join(room for rooms in FLOORS[: FLOOR_OF["engine"] + 1] for room in rooms)
    assert loaded_by(IMPORT_ALL_FOR_PREDICTING, rooms, "timm", "lightning", "lightning_fabric", "torch") == "torch"


def test_counting_imports_only_what_it_needs(tmp_path: Path) -> None:
    """Beside what `import torch` brings, which is different in each of its versions."""
    image = tmp_path / "dark.png"
    Image.new("L", (64, 64)).save(image)
    assert loaded_by(COUNT, str(image), *SLOW, "safetensors") == "safetensors"
