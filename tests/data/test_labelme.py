import json
import math

import numpy as np
import pytest
from drawing import HEIGHT, WIDTH, dense, squares, write_picture

from halfpixel.data.formats.labelme import read_labelme
from halfpixel.errors import AnnotationError


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None} | more


def square(x, y, side=5):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def write_labelme(path, shapes, image="a.png", **more):
    content = {"version": "5.0", "shapes": shapes, "imagePath": image, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | more))
    return path


def test_shapes_and_groups(tmp_path):
    write_picture(tmp_path / "a.png")
    shapes = [
        shape("tree", square(1, 2), group_id=3),
        shape("bird", [[15, 14], [10, 9]], "rectangle"),  # any two opposite corners
        shape("tree", square(20, 15), group_id=3),
        shape("bird", square(25, 1), group_id=3),  # another label: another object
        shape("tree", square(8.0, 1.0), shape_type=None),
    ]
    data = read_labelme(write_labelme(tmp_path / "a.json", shapes))
    assert (data.class_names, data.warnings) == (("bird", "tree"), ())
    (sample,) = data.samples
    assert [data.class_names[k] for k in sample.objects.labels] == ["tree", "bird", "bird", "tree"]
    tree, other, third, fourth, fifth = squares((1, 2), (20, 15), (10, 9), (25, 1), (8, 1))
    np.testing.assert_array_equal(dense(sample), [tree | other, third, fourth, fifth])


def test_a_circle_is_its_centre_and_a_point_on_it(tmp_path):
    write_picture(tmp_path / "a.png")
    centre, on_it = (16, 12), (16 + 6 * math.sqrt(0.5), 12 + 6 * math.sqrt(0.5))
    data = read_labelme(write_labelme(tmp_path / "a.json", [shape("cell", [centre, on_it], "circle")]))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    distance = np.hypot(x - 16, y - 12)
    mask = dense(data.samples[0])[0]
    assert mask[distance < 5.7].all()
    assert not mask[distance > 6.3].any()
    assert mask.sum() == pytest.approx(math.pi * 36, rel=0.05)


def test_where_images_are(tmp_path):
    write_picture(tmp_path / "pictures/a.png")
    file = write_labelme(tmp_path / "json/a.json", [shape("x", square(1, 1))], image="..\\pictures\\a.png")
    assert read_labelme(file).samples[0].path.resolve() == tmp_path / "pictures/a.png"
    write_labelme(tmp_path / "json/b.json", [], image="gone.png")
    write_picture(tmp_path / "pictures/c.png")
    data = read_labelme(tmp_path / "json", tmp_path / "pictures")
    assert [sample.path for sample in data.samples] == [tmp_path / "pictures/a.png"]
    assert [(issue.kind, issue.path.name) for issue in data.warnings] == [
        ("unusable_file", "b.json"),
        ("image_without_annotation", "c.png"),
    ]


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    write_picture(tmp_path / "a.png")
    shapes = [
        shape("x", square(1, 1)),
        shape("x", [[1, 1], [5, 5]], "line"),
        shape("x", [[1, 1], [5, 5]]),
        shape("x", [[1, 1], [5, "5"], [2, 2]]),
        shape("x", [[1, 1]], "circle"),
        shape("x", square(500, 1)),
        {"points": square(1, 1)},
        shape("x", [[1, 1], [1, 1e12]], "circle"),
    ]
    write_labelme(tmp_path / "a.json", shapes)
    write_labelme(tmp_path / "b.json", [], imageWidth=WIDTH + 1)
    (tmp_path / "c.json").write_text("{")
    (tmp_path / "d.json").write_text("[]")
    data = read_labelme(tmp_path)
    assert len(data.samples) == 1
    assert len(data.samples[0].objects) == 1
    told = {(issue.path.name, issue.where): issue for issue in data.warnings}
    expected = {
        ("a.json", "shape 1"): ("unusable_shape", "'line' cannot be used"),
        ("a.json", "shape 2"): ("unusable_polygon", "at least three points"),
        ("a.json", "shape 3"): ("unusable_polygon", "points[1]"),
        ("a.json", "shape 4"): ("unusable_polygon", "takes two points, got 1"),
        ("a.json", "shape 5"): ("empty_mask", "no pixels"),
        ("a.json", "shape 6"): ("unusable_shape", "no 'label'"),
        ("a.json", "shape 7"): ("unusable_polygon", "pixels away"),
        ("b.json", ""): ("unusable_file", "33 x 24 pixels, but its image has 32 x 24"),
        ("c.json", ""): ("unusable_file", "not a JSON file"),
        ("d.json", ""): ("unusable_file", "no list 'shapes'"),
    }
    assert told.keys() == expected.keys()
    for place, (kind, what) in expected.items():
        assert told[place].kind == kind
        assert what in told[place].what
    with pytest.raises(AnnotationError, match=r"c\.json: not a JSON file"):
        read_labelme(tmp_path / "c.json")
