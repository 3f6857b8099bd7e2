"""A way to call the command line."""

import sys

import pytest
from calling import Halfpixel, Ran

from halfpixel.cli import main


@pytest.fixture
def halfpixel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Halfpixel:
    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["halfpixel", *(str(one) for one in arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        assert isinstance(stop.value.code, int)
        return Ran(stop.value.code, *capsys.readouterr())

    return run
