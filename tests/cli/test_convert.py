import json
import subprocess
import sys
from pathlib import Path

import pytest
from calling import Halfpixel

from halfpixel.data.formats.detect import read_dataset

HELP_WITHOUT_TORCH = """
import sys
from halfpixel.cli import main
sys.argv = ["halfpixel", "data", "convert", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "torch" not in sys.modules
"""


def test_there_and_back_with_what_was_lost(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    ran = halfpixel("data", "convert", annotated, "--to", "yolo", "--out", tmp_path / "yolo")
    assert ran.code == 0
    assert ran.err == f"halfpixel: warning: {annotated}: annotation 99: left out, there is no image 4242\n"
    assert "3 images, 6 objects" in ran.out
    (line,) = (line for line in ran.out.splitlines() if line.startswith("attributes"))
    assert line.split()[1] == "3"
    assert "modality" in line
    assert sorted(path.name for path in (tmp_path / "yolo").iterdir()) == ["data.yaml", "images", "labels"]

    ran = halfpixel("data", "convert", tmp_path / "yolo", "--to", "coco", "--out", tmp_path / "coco")
    assert (ran.code, ran.err) == (0, "")
    assert "as yolo: 3 images, 6 objects" in ran.out
    assert "Nothing was lost." in ran.out
    before, after = read_dataset(annotated), read_dataset(tmp_path / "coco")
    assert after.class_names == before.class_names
    for one, other in zip(before.samples, after.samples, strict=True):
        assert one.objects.masks is not None
        assert other.objects.masks is not None
        assert one.objects.masks.rles() == other.objects.masks.rles()


def test_scores_and_classes_are_not_lost_silently(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    content = json.loads(annotated.read_text())
    for entry in content["annotations"]:
        entry["score"] = 0.7
    annotated.write_text(json.dumps(content))
    ran = halfpixel("data", "convert", annotated.parent, "--to", "mask_folders", "--out", tmp_path / "out")
    assert ran.code == 0
    assert "'score' of 7 annotations" in ran.out
    assert "1 names left out" in ran.out
    assert len(list((tmp_path / "out" / "1" / "masks").iterdir())) == 2


def test_missing_images_are_left_out(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    (annotated.parent / "images" / "2.png").unlink()
    ran = halfpixel("data", "convert", annotated, "--to", "label_images", "--out", tmp_path / "out")
    assert ran.code == 1
    assert "2.png: there is no such image" in ran.err
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["1.png", "3.png"]


def test_bad_input_is_one_line_and_writes_nothing(halfpixel: Halfpixel, annotated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for arguments, what in (
        ((tmp_path / "nowhere", "--to", "coco", "--out", out), "nowhere: No such file or folder"),
        ((annotated, "--to", "labelme", "--out", out), "labelme"),
        ((annotated, "--to", "coco", "--out", annotated.parent), "not empty"),
        ((annotated, "--to", "coco", "--out", annotated), "is a file"),
        ((annotated, "--to", "coco", "--out", out, "--format", "yolo"), "yolo takes a folder"),
        ((annotated, "--to", "coco", "--out", out, "--images", tmp_path / "gone"), "there is no such folder"),
    ):
        ran = halfpixel("data", "convert", *arguments)
        assert (ran.code, ran.out) == (2, ""), arguments
        assert ran.err.count("\n") == 1
        assert what in ran.err
        assert not out.exists()


def test_a_failure_on_the_way_leaves_nothing(
    halfpixel: Halfpixel, annotated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "3.png")

    monkeypatch.setattr("halfpixel.outputs.coco.open_whole", full)
    for exists in (False, True):
        if exists:
            (tmp_path / "out").mkdir()
        ran = halfpixel("data", "convert", annotated, "--to", "coco", "--out", tmp_path / "out")
        assert ran.code == 2
        assert ran.err.endswith("halfpixel: error: 3.png: No space left on device\n")
        assert (tmp_path / "out").exists() == exists
        assert not exists or not any((tmp_path / "out").iterdir())


def test_the_help_text_needs_no_torch() -> None:
    done = subprocess.run([sys.executable, "-c", HELP_WITHOUT_TORCH], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for word in ("label_images", "mask_folders", "--format"):
        assert word in done.stdout
