from pathlib import Path

import pytest
from drawing import dense, squares, write_coco_file

from halfpixel.data.formats.detect import read_dataset
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.jobs.convert import convert, new_stems


def test_what_was_read_written_missing_and_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_coco_file(tmp_path / "data", [squares((1, 1), (12, 3)), squares((5, 5)), squares()], image_id=4242)
    (path.parent / "images" / "2.png").unlink()
    done = convert(str(path), "label_images", tmp_path / "out")
    assert done.read_as == "coco"
    assert done.missing == (path.parent / "images" / "2.png",)
    assert [issue.kind for issue in done.lost] == ["classes"]
    assert [issue.kind for issue in done.dataset.warnings] == ["unknown_image"]
    first, second = read_dataset(tmp_path / "out").samples
    assert (dense(first) == squares((12, 3))).all()
    assert len(second.objects) == 0
    assert capsys.readouterr() == ("", "")


def test_a_folder_that_is_not_empty_and_a_format_that_is_not_known(tmp_path: Path) -> None:
    path = write_coco_file(tmp_path / "data", [squares((1, 1))])
    with pytest.raises(ArgumentError, match="not empty"):
        convert(path, "coco", tmp_path / "data")
    with pytest.raises(ArgumentError, match="no format 'tiff'"):
        convert(path, "tiff", tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_names_in_the_new_folder() -> None:
    root = Path("/data")
    assert new_stems([root / "id1/images/a.png", root / "id2/images/b.png"]) == ["a", "b"]
    assert new_stems([root / "train/images/a.png", root / "val/images/a.png"]) == ["train/a", "val/a"]
    assert new_stems([root / "a.png", root / "a.tif"]) == ["a.png", "a.tif"]
    with pytest.raises(AnnotationError, match="twice"):
        new_stems([root / "a.png", root / "a.png"])
