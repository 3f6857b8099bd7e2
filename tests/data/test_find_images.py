"""Which files a path stands for."""

from pathlib import Path

import pytest

from halfpixel.data.images.rgb8 import find_images
from halfpixel.errors import ImageError


def test_find_images(tmp_path):
    for name in ("10.png", "2.PNG", "1.tiff", "notes.txt", ".hidden.png", "sub/3.jpg", "sub/deep/4.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(pattern):
        return [one.relative_to(tmp_path).as_posix() for one in find_images(pattern)]

    assert names(tmp_path) == ["1.tiff", "2.PNG", "10.png"]
    assert names(str(tmp_path / "10.png")) == ["10.png"]
    assert names(tmp_path / "1*") == ["1.tiff", "10.png"]
    assert names(tmp_path / "**" / "*.jpg") == ["sub/3.jpg", "sub/deep/4.jpg"]
    assert names(tmp_path / "s?b" / "*.jpg") == ["sub/3.jpg"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    (tmp_path / "a[1].png").touch()
    assert find_images(tmp_path / "a[1].png") == [tmp_path / "a[1].png"]


def test_a_glob_below_a_folder_whose_name_looks_like_one(tmp_path, monkeypatch):
    for name in ("run [2024]/a.png", "run [2024]/deep/b.png", "run 2/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folder = tmp_path / "run [2024]"
    assert find_images(folder / "*.png") == [folder / "a.png"]
    assert find_images(folder / "**" / "*.png") == [folder / "a.png", folder / "deep" / "b.png"]
    monkeypatch.chdir(tmp_path)
    assert find_images("run [2024]/*.png") == [Path("run [2024]/a.png")]
    assert find_images("run [0-9]/*.png") == [Path("run 2/c.png")]


def test_a_folder_that_is_called_like_an_image(tmp_path):
    (tmp_path / "scan.tif").mkdir()
    (tmp_path / "scan.tif" / "a.png").touch()
    (tmp_path / "b.png").touch()
    assert find_images(tmp_path) == [tmp_path / "b.png"]
    assert find_images(tmp_path / "scan.tif") == [tmp_path / "scan.tif" / "a.png"]


def test_relative_globs(tmp_path, monkeypatch):
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    assert find_images("*.png") == [Path("a.png")]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("empty", "no images in this folder"), ("missing.png", "no such file or folder"), ("*.png", "no file matches")],
)
def test_nothing_found(tmp_path, pattern, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    with pytest.raises(ImageError, match=message) as error:
        find_images(tmp_path / pattern)
    assert str(tmp_path / pattern) in str(error.value)
