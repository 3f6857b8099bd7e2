import json
from pathlib import Path

import pytest
from drawing import squares, write_coco_file

from halfpixel.data.formats.coco import read_coco
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.jobs.check import check, sheet_header


def test_a_file_a_data_set_and_what_is_written(tmp_path: Path) -> None:
    path = write_coco_file(tmp_path / "data", [squares((1, 1), (1, 1), (12, 3)), squares((5, 5))])
    told: list[tuple[int, int]] = []
    found = check(str(path), val=path, out=tmp_path / "out", progress=lambda *one: told.append(one))
    assert {"in_train_and_val", "rare_category"} <= {group.kind for group in found.groups}
    assert told == [(k, 4) for k in range(1, 5)]
    assert json.loads((tmp_path / "out" / "check.json").read_text()) == json.loads(json.dumps(found.to_json()))
    assert (tmp_path / "out" / "contact-sheet.png").is_file()
    assert sheet_header(found) == "instances.json: 2 images with errors or warnings"
    assert check(read_coco(path), val=read_coco(path)).to_json() == found.to_json()
    with pytest.raises(ArgumentError, match="exists already"):
        check(path, out=tmp_path / "out")
    check(path, out=str(tmp_path / "out"), overwrite=True)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    path = write_coco_file(tmp_path / "data", [squares((1, 1))])
    with pytest.raises(AnnotationError, match="there is no such folder"):
        check(path, images=tmp_path / "gone")
    with pytest.raises(AnnotationError, match=r"nowhere\.json"):
        check(path, val=tmp_path / "nowhere.json")
    with pytest.raises(ArgumentError, match="is a file, not a folder"):
        check(path, out=path)
