import os
import sys
from pathlib import Path

import pytest

from halfpixel.data.formats.image_finder import ImageFinder, plain_name
from halfpixel.errors import AnnotationError


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize(
    ("there", "file", "name"),
    [
        ("a.png", "x.json", "a.png"),
        ("images/a.png", "x.json", "a.png"),
        ("images/a.png", "x.json", "images/a.png"),  # Label Studio
        ("images/train/a.png", "x.json", "train\\a.png"),
        ("images/a b.png", "x.json", "a%20b.png"),
        ("images/a.png", "x.json", "C:\\data\\shots\\a.png"),
        ("images/shots/a.png", "x.json", "/home/someone/shots/a.png"),
        ("images/a.png", "x.json", "http://localhost:8080/data/upload/1/a.png"),
        ("sub/a.png", "x.json", "/data/local-files/?d=sub%2Fa.png"),
        ("train2017/a.png", "annotations/instances_train2017.json", "a.png"),
        ("images/a.png", "annotations/x.json", "a.png"),
        ("images/default/a.png", "annotations/instances_default.json", "a.png"),
        ("img/a.png", "ann/a.json", "..\\img\\a.png"),
        ("a%20b.png", "x.json", "a%20b.png"),
    ],
)
def test_names_as_exporters_write_them(tmp_path, there, file, name):
    touch(tmp_path / there, tmp_path / file, tmp_path / "val2017" / "a.png")
    assert ImageFinder(tmp_path / file, None).find(name).resolve() == tmp_path / there


@pytest.mark.parametrize("name", ["a.png", "images/a.png", "/home/someone/a.png", "b\\a.png", "../else/a.png"])
def test_a_folder_that_is_given_is_the_only_place(tmp_path, name):
    touch(tmp_path / "a.png", tmp_path / "images/a.png", tmp_path / "given/a.png", tmp_path / "else/a.png")
    assert ImageFinder(tmp_path / "x.json", tmp_path / "given").find(name) == tmp_path / "given/a.png"


def test_the_folder_of_all_splits_can_be_given(tmp_path):
    touch(tmp_path / "train2017/a.png", tmp_path / "val2017/a.png")
    for split in ("train2017", "val2017"):
        finder = ImageFinder(tmp_path / f"annotations/instances_{split}.json", tmp_path)
        assert finder.find("a.png") == tmp_path / split / "a.png"


def test_an_absolute_path_that_is_there_is_taken(tmp_path):
    touch(tmp_path / "far/a.png", tmp_path / "near/images/a.png")
    finder = ImageFinder(tmp_path / "near/x.json", None)
    assert finder.find(str(tmp_path / "far/a.png")) == tmp_path / "far/a.png"


def test_what_is_ambiguous_is_an_error_that_names_both(tmp_path):
    touch(tmp_path / "a.png", tmp_path / "images/a.png")
    with pytest.raises(AnnotationError, match=r"x\.json: 'a\.png' could be .*images.a\.png and .*a\.png"):
        ImageFinder(tmp_path / "x.json", None).find("a.png")


@pytest.mark.parametrize("names", [("train/b.png", "val/b.png"), ("b.png", "val/b.png"), ("val/b.png", "b.png")])
def test_two_names_never_become_one_file(tmp_path, names):
    touch(tmp_path / "images/b.png")
    finder = ImageFinder(tmp_path / "x.json", None)
    first, second = names
    assert finder.find(first) == finder.find(first) == tmp_path / "images/b.png"
    with pytest.raises(AnnotationError, match=f"'{first}' and '{second}' would both be "):
        finder.find(second)


def test_another_folders_file_of_the_same_name_is_not_taken(tmp_path):
    touch(tmp_path / "images/val/a.png", tmp_path / "other/a.png")
    assert ImageFinder(tmp_path / "x.json", None).find("train/a.png") == tmp_path / "images/train/a.png"
    assert ImageFinder(tmp_path / "x.json", None).find("a.png") == tmp_path / "images/a.png"


@pytest.mark.parametrize("name", ["a\0.png", "x" * 5000, "\ud800.png", ".", "/dev/zero", "pipe.png", "http://[1/a"])
def test_names_of_nothing_usable_do_no_harm(tmp_path, name):
    if hasattr(os, "mkfifo") and sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.png")
    assert isinstance(ImageFinder(tmp_path / "x.json", None).find(name), Path)


def test_plain_names():
    assert [plain_name(one) for one in ("a.png", "b/a.png", "b\\a.png", "C:\\b\\a.png")] == ["a.png"] * 4
