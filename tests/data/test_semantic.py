import numpy as np
from drawing import dense, kinds, squares, write_array, write_picture

from halfpixel.data.formats.semantic import read_semantic


def test_connected_regions_are_objects_and_touching_ones_one(tmp_path):
    masks = squares((1, 1), (6, 6), (20, 10))  # the first two touch at a corner
    write_picture(tmp_path / "images/a.png")
    write_array(tmp_path / "masks/a.png", masks.any(0).astype(np.uint8) * 255)
    data = read_semantic(tmp_path)
    assert data.class_names == ("object",)
    assert kinds(data) == ["touching_objects"]
    assert "counted as one" in str(data.warnings[0])
    np.testing.assert_array_equal(dense(data.samples[0]), [masks[0] | masks[1], masks[2]])


def test_every_number_is_a_class(tmp_path):
    masks = squares((1, 1), (6, 1), (20, 10))  # the first two touch, and are of different classes
    for name in "ab":
        write_picture(tmp_path / f"{name}.png")
    values = masks[0] * 10 + masks[1] * 9 + masks[2] * 10
    write_array(tmp_path / "a_mask.png", values.astype(np.uint8))
    write_array(tmp_path / "b_mask.png", np.zeros_like(values, dtype=np.uint8))
    data = read_semantic(tmp_path)
    assert data.class_names == ("9", "10")
    first, empty = data.samples
    assert len(empty.objects) == 0
    names = [data.class_names[k] for k in first.objects.labels.tolist()]
    found = sorted(zip(names, dense(first), strict=True), key=lambda one: (one[0], one[1].argmax()))
    assert [name for name, _ in found] == ["10", "10", "9"]
    np.testing.assert_array_equal([mask for _, mask in found], masks[[0, 2, 1]])
