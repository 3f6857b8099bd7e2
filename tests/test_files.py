"""Files are there whole or not at all, whatever they are called."""

from pathlib import Path

import pytest

from halfpixel.files import open_whole, shortened, write_whole


@pytest.mark.parametrize("length", [1, 200, 245, 255])
def test_a_name_as_long_as_it_may_be(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("m" * length)
    write_whole(path, b"whole")
    assert path.read_bytes() == b"whole"
    with pytest.raises(TypeError), open_whole(path) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_shortened_names_stay_apart() -> None:
    assert shortened("ab.png", 20) == "ab.png"
    names = {shortened("é" * 100 + ending, 51) for ending in "abc"}
    assert len(names) == 3
    assert all(len(name.encode()) <= 51 and name.startswith("é" * 20) for name in names)
