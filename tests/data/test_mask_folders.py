import re

import numpy as np
import pytest
from drawing import dense, kinds, squares, write_array, write_picture

from halfpixel.data.formats.mask_folders import read_mask_folders
from halfpixel.errors import AnnotationError


def test_every_file_is_an_object(tmp_path):
    masks = squares((1, 2), (3, 4), (20, 9))  # the first two overlap
    for name in ("10", "2"):
        write_picture(tmp_path / name / "images" / f"{name}.png")
    write_array(tmp_path / "2/masks/a.png", masks[0].astype(np.uint8) * 255)
    write_array(tmp_path / "2/masks/b.png", masks[1].astype(np.uint16))  # 0 and 1 in 16 bits
    rgba = np.zeros((*masks.shape[1:], 4), dtype=np.uint8)
    rgba[masks[2], 1] = 7  # nowhere opaque, and hardly green
    write_array(tmp_path / "2/masks/c.png", rgba)
    (tmp_path / "10/masks").mkdir()
    data = read_mask_folders(tmp_path)
    assert (data.class_names, data.category_ids, data.warnings) == (("object",), (1,), ())
    first, second = data.samples
    assert (first.image_id, first.path) == (1, tmp_path / "2/images/2.png")
    assert (second.image_id, len(second.objects)) == (2, 0)
    np.testing.assert_array_equal(dense(first), masks)
    assert first.objects.boxes_xyxy.tolist()[1] == [3, 4, 8, 9]
    assert first.areas_px.tolist() == [25, 25, 25]


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    for name in ("a", "two", "test"):
        write_picture(tmp_path / name / "images" / "x.png")
    (tmp_path / "a/masks").mkdir()
    write_array(tmp_path / "a/masks/1.png", squares((1, 1))[0])
    write_array(tmp_path / "a/masks/2.png", np.ones((3, 4), np.uint8))
    write_array(tmp_path / "a/masks/3.png", np.zeros(squares((1, 1))[0].shape, np.uint8))
    (tmp_path / "a/masks/4.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    write_picture(tmp_path / "two/images/y.png")
    data = read_mask_folders(tmp_path)
    assert [len(sample.objects) for sample in data.samples] == [1]
    told = [(issue.kind, issue.path.relative_to(tmp_path).as_posix()) for issue in data.warnings]
    assert told == [
        ("unusable_mask", "a/masks/2.png"),
        ("empty_mask", "a/masks/3.png"),
        ("unusable_mask", "a/masks/4.png"),
        ("unusable_file", "test"),
        ("unusable_file", "two"),
    ]
    assert re.search("4 x 3.*32 x 24", str(data.warnings[0]))
    assert "found 2" in str(data.warnings[4])
    assert kinds(data)


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(AnnotationError, match="there are no images"):
        read_mask_folders(tmp_path)
    write_picture(tmp_path / "a/images/x.png")
    with pytest.raises(AnnotationError, match="no folder masks"):
        read_mask_folders(tmp_path)
