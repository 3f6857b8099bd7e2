import errno
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import Halfpixel

import halfpixel as package
from halfpixel.errors import DownloadError, ImageWarning


def test_version_and_unknown_words(halfpixel: Halfpixel) -> None:
    assert halfpixel("--version").out.strip() == package.__version__
    for arguments in (["predicct", "x.png"], ["--what"], ["count", "x.png", "--what"]):
        ran = halfpixel(*arguments)
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
        assert "--help" in ran.err


@pytest.mark.parametrize("verb", ["predict", "evaluate", "sweep", "train"])
def test_help_shows_no_default_that_says_nothing(halfpixel: Halfpixel, verb: str) -> None:
    text = halfpixel(verb, "--help").out
    assert "[default: 0.3]" in text or verb != "sweep"
    assert not any(f"[default: {nothing}]" in text for nothing in ("()", "False", "None"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["predict", "x.png", "--out", ""], "the argument after --out is empty"),
        (["predict", "x.png", "--out="], "--out= is empty"),
        (["count", ""], "the argument after count is empty"),
        ([""], "the argument after halfpixel is empty"),
    ],
)
def test_empty_arguments_are_refused(halfpixel: Halfpixel, arguments: list[str], line: str) -> None:
    ran = halfpixel(*arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", f"halfpixel: error: {line}\n")


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (DownloadError("could not download it:\n  no network"), 2, "error: could not download it: no network"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/some/file"),
            2,
            "error: /some/file: No space left on device",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(
    halfpixel: Halfpixel,
    noise: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    code: int,
    line: str,
) -> None:
    def fail(model: str, *, progress: object) -> None:
        raise raised

    monkeypatch.setattr("halfpixel.engine.load.load", fail)
    ran = halfpixel("count", noise(tmp_path / "cells.png"))
    assert (ran.code, ran.out, ran.err) == (code, "", f"halfpixel: {line}\n")


@pytest.mark.filterwarnings("default::halfpixel.errors.ImageWarning")
def test_warnings_are_one_line(
    halfpixel: Halfpixel, noise: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(model: str, *, progress: object) -> None:
        warnings.warn("odd\n  pixels", ImageWarning, stacklevel=2)
        raise DownloadError("no network")

    monkeypatch.setattr("halfpixel.engine.load.load", warn)
    ran = halfpixel("count", noise(tmp_path / "cells.png"))
    assert ran.err == "halfpixel: warning: odd pixels\nhalfpixel: error: no network\n"


def test_our_own_mistakes_are_not_hidden(
    halfpixel: Halfpixel, noise: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("halfpixel.engine.load.load", lambda model, progress: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        halfpixel("count", noise(tmp_path / "cells.png"))


def test_the_installed_command(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("halfpixel")
    done = subprocess.run([script, "count", tmp_path / "no\udcffwhere.png"], capture_output=True, timeout=60)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(b"halfpixel: error: ")
    assert done.stderr.endswith(rb"no\udcffwhere.png: there is no such file or folder" + b"\n")
