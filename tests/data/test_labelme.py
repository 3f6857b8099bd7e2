import base64
import io
import json
import math

import numpy as np
import pytest
from drawing import HEIGHT, WIDTH, dense, squares, write_picture
from PIL import Image

from halfpixel.data.formats.labelme import read_labelme
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import AnnotationError, ImageError
from halfpixel.outputs.dataset_writer import copy_image


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
        ("c.json", ""): ("unusable_file", "broken JSON"),
        ("d.json", ""): ("unusable_file", "no list 'shapes'"),
    }
    assert told.keys() == expected.keys()
    for place, (kind, what) in expected.items():
        assert told[place].kind == kind
        assert what in told[place].what
    with pytest.raises(AnnotationError, match=r"c\.json: broken JSON"):
        read_labelme(tmp_path / "c.json")


def mask_png(mask):
    file = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_masks_of_the_ai_tool(tmp_path):
    write_picture(tmp_path / "a.png")
    drawn = np.ones((6, 8), dtype=bool)
    drawn[1:3, 2:5] = False
    beside, cut = [[20.2, 10], [26, 14]], [[WIDTH - 3, HEIGHT - 2], [WIDTH + 4, HEIGHT + 3]]
    shapes = [
        shape("cell", [[3, 5], [10, 10]], "mask", mask=mask_png(drawn), group_id=1),
        shape("cell", [[3, 5], [10, 10]], "mask", mask=mask_png(drawn)),
        shape("cell", square(20, 15), group_id=1),
        shape("cell", cut, "mask", mask=mask_png(drawn)),
        shape("cell", beside, "mask", mask=mask_png(drawn * 0)),
        shape("cell", beside, "mask", mask="no picture"),
        shape("cell", beside, "mask"),
        shape("cell", beside[:1], "mask", mask=mask_png(drawn)),
        shape("cell", [[1e5, 1e5], [2e5, 2e5]], "mask", mask=mask_png(drawn)),
    ]
    data = read_labelme(write_labelme(tmp_path / "a.json", shapes))
    expected = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    expected[:2, 5:11, 3:11] = drawn
    expected[0] |= squares((20, 15))[0]
    expected[2, HEIGHT - 2 :, WIDTH - 3 :] = drawn[:2, :3]
    np.testing.assert_array_equal(dense(data.samples[0]), expected)
    assert [(one.kind, one.where) for one in data.warnings] == [
        ("unusable_shape", "shape 5"),
        ("unusable_shape", "shape 6"),
        ("unusable_polygon", "shape 7"),
        ("empty_mask", "shape 4"),
        ("empty_mask", "shape 8"),
    ]


def test_a_picture_inside_its_json_file(tmp_path):
    picture = write_picture(tmp_path / "a.png")
    pixels, data = read_image(picture), base64.b64encode(picture.read_bytes()).decode()
    file = write_labelme(tmp_path / "a.json", [shape("cell", square(1, 1))], imageData=data)
    assert read_labelme(file).samples[0].path == picture  # the file itself, where it is there
    picture.unlink()
    for path in (file, tmp_path):
        (sample,) = read_labelme(path).samples
        assert sample.path == file
        np.testing.assert_array_equal(read_image(sample.path), pixels)
    assert copy_image(sample.path, tmp_path / "out", "b") == "b.png"
    np.testing.assert_array_equal(read_image(tmp_path / "out/images/b.png"), pixels)
    for content in ({}, {"imageData": 5}, {"imageData": "a"}, {"imageData": "AAAA"}):
        file.write_text(json.dumps(content))
        with pytest.raises(ImageError, match=r"a\.json: "):
            read_image(file)


def test_shapes_far_away_are_left_out(tmp_path):
    write_picture(tmp_path / "a.png")
    shapes = [
        shape("cell", [[0, 0], [1e6, 1e6]], "circle"),
        shape("cell", [[-1e6 if k % 2 else 1e6, k] for k in range(100)]),
        shape("9" * 5000, square(1, 1)),
    ]
    data = read_labelme(write_labelme(tmp_path / "a.json", shapes))
    assert [one.kind for one in data.warnings] == ["unusable_polygon"] * 2
    assert [len(name) for name in data.class_names] == [5000]
    assert "an outline of" in data.warnings[1].what
