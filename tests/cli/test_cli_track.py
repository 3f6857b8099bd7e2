from collections.abc import Callable
from pathlib import Path

from calling import Halfpixel

Noise = Callable[..., Path]


def test_what_is_printed(halfpixel: Halfpixel, tiny_model: Path, noise: Noise, tmp_path: Path) -> None:
    """Every frame shows the same: nothing comes or goes."""
    for k in (1, 2, 10):
        noise(tmp_path / "film" / f"{k}.png", seed=0)
    arguments = ("track", tmp_path / "film", "--model", tiny_model, "--limit", 3, "--out", tmp_path / "out")
    ran = halfpixel(*arguments, "--line", "0,20,48,20", "--line", "24,0,24,40")
    assert ran.code == 0
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["nucleus", "3", *["0"] * 6] in lines
    assert "line 1 in" in ran.out
    assert "line 2 out" in ran.out
    assert "Tracks of fewer than 2 frames do not count." in ran.out
    assert str(tmp_path / "out" / "tracks.csv") in ran.out
    assert halfpixel(*arguments).code == 2  # there are results


def test_what_is_refused(halfpixel: Halfpixel, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    ran = halfpixel("track", tmp_path, *out, "--line", "1,2,3")
    assert (ran.code, ran.out) == (2, "")
    assert "expected X1,Y1,X2,Y2" in ran.err
    assert "--max-gap" in halfpixel("track", tmp_path, *out, "--max-gap", -1).err
    assert "--save tracks is of films" in halfpixel("predict", tmp_path, *out, "--save", "tracks").err
