from pathlib import Path

import pytest
from calling import Halfpixel, write_noise

from halfpixel.engine.export import exporter
from halfpixel.engine.export.exporter import Exported
from halfpixel.engine.predictor import Predictor


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What the verb asks for; the exporting itself has its own tests."""
    calls: list[tuple[object, ...]] = []

    def instead(predictor: Predictor, path: Path, *rest: object) -> Exported:
        calls.append((predictor.info.variant, path, *rest))
        path.write_bytes(b"written")
        return Exported(path, 2_340_000, 0.986, 138, 0 if rest[1] is None else 2)

    monkeypatch.setattr(exporter, "export", instead)
    return calls


def test_it_says_what_it_wrote(
    halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, asked: list[tuple[object, ...]]
) -> None:
    out = tmp_path / "new" / "cells.onnx"
    ran = halfpixel("export", tiny_model, "--to", "onnx", "--out", out)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"Written {out}, 2.3 MB.",
        "On one image it agrees with torch on 98.6% of 138 objects (boxes that overlap by more than half, "
        "counted from both sides).",
    ]
    assert asked == [("mask_rcnn_lite", out, "onnx", None, 300, 0)]


def test_int8_takes_the_images(
    halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, asked: list[tuple[object, ...]]
) -> None:
    images = [write_noise(tmp_path / "images" / f"{k}.png", seed=k) for k in range(3)]
    out = tmp_path / "cells.xml"
    options = ("--int8", "--images", images[0], "--images", tmp_path / "images", "--most-images", 2, "--seed", 5)
    ran = halfpixel("export", tiny_model, "--to", "openvino", "--out", out, *options)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(f"Written {out}, 2.3 MB, int8, calibrated on 2 images.\n")
    assert asked == [("mask_rcnn_lite", out, "openvino", images, 2, 5)]


def test_earlier_files_are_kept(
    halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, asked: list[tuple[object, ...]]
) -> None:
    (tmp_path / "cells.bin").write_text("of yesterday")
    command = ("export", tiny_model, "--to", "openvino", "--out", tmp_path / "cells.xml")
    ran = halfpixel(*command)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "cells.bin exists already" in ran.err
    assert asked == []
    assert halfpixel(*command, "--overwrite").code == 0
    assert len(asked) == 1


def test_wishes_that_do_not_fit_are_one_line(
    halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path, asked: list[tuple[object, ...]]
) -> None:
    onnx, xml = ("--to", "onnx", "--out", tmp_path / "a.onnx"), ("--to", "openvino", "--out", tmp_path / "a.xml")
    for options, message in (
        ((*onnx, "--int8", "--images", tmp_path), "--to openvino only"),
        ((*xml, "--int8"), "--int8 needs --images"),
        ((*xml, "--images", tmp_path), "--images is for --int8"),
        ((*xml, "--int8", "--images", tmp_path, "--most-images", 0), "--most-images must be at least 1"),
        ((*xml, "--int8", "--images", tmp_path / "gone"), "gone"),
        (("--to", "onnx", "--out", tiny_model / "a.onnx"), "is a file, not a folder"),
        (("--to", "tensorrt", "--out", tmp_path / "a"), "tensorrt"),
    ):
        ran = halfpixel("export", tiny_model, *options)
        assert (ran.code, ran.out) == (2, ""), options
        assert ran.err.count("\n") == 1, ran.err
        assert message in ran.err
    assert asked == []
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_does_not_fit_the_format(halfpixel: Halfpixel, tiny_model: Path, tmp_path: Path) -> None:
    ran = halfpixel("export", tiny_model, "--to", "onnx", "--out", tmp_path / "cells.xml")
    assert ran.code == 2
    assert ran.err.endswith("the name of a file for onnx ends with .onnx\n")
