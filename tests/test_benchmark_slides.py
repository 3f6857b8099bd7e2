"""The benchmark of reading slides, on a small one."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tifffile

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def slides(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("slides")


def test_a_drawn_slide(
    slides: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slides, "PATCH_PX", 128)
    monkeypatch.setattr(slides, "TILE_PX", 64)
    out = tmp_path / "slides.json"
    command = ["slides.py", "--size", "256", "--window", "100", "--rounds", "1", "--json", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    slides.main()
    report = json.loads(out.read_text())
    rows = {row["reader"]: row for row in report["readers"]}
    assert {"tifffile.imread", "Raster", "Raster, 2 threads"} <= set(rows)
    assert all(rows[name]["same_pixels"] for name in ("Raster", "Raster, 2 threads"))
    assert rows["tifffile.imread"]["times_as_fast"]["median"] == 1
    assert 0 < report["open_seconds"] < 10
    text = capsys.readouterr().out
    assert "256 x 256, 64 x 64, 16 x 16" in text
    assert "| Raster, 2 threads |" in text


def test_windows_cover_a_level_once(slides: ModuleType) -> None:
    covered = np.zeros((230, 310), int)
    windows = slides.cut((230, 310), 100, 99)
    for x0, y0, x1, y1 in windows:
        covered[y0:y1, x0:x1] += 1
    assert (covered == 1).all()
    assert windows == slides.cut((230, 310), 100, 99)
    assert slides.cut((230, 310), 100, 5) == windows[:5]


def test_other_pixels_are_told(slides: ModuleType, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((64, 64, 3), 7, np.uint8), photometric="rgb", tile=(32, 32))
    found = slides.readers(tmp_path / "a.tif", 0, 1)
    found["wrong"] = lambda windows: (pixels + 1 for pixels in found["Raster"](windows))
    rows = {row["reader"]: row["same_pixels"] for row in slides.measure(found, slides.cut((64, 64), 40, 9), 1)}
    assert (rows["Raster"], rows["wrong"]) == (True, False)
