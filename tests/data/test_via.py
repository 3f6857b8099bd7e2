import json
import math

import numpy as np
import pytest
from drawing import HEIGHT, WIDTH, dense, kinds, squares, write_picture

from halfpixel.data.formats.detect import detect, read_dataset
from halfpixel.data.formats.via import read_via
from halfpixel.errors import AnnotationError


def region(name, classes=None, **shape):
    return {"shape_attributes": {"name": name} | shape, "region_attributes": classes or {}}


def square(x, y, side=5, classes=None):
    corners_x, corners_y = [x, x + side, x + side, x], [y, y, y + side, y + side]
    return region("polygon", classes, all_points_x=corners_x, all_points_y=corners_y)


def entry(name, regions):
    return {"filename": name, "size": 123, "regions": regions, "file_attributes": {}}


def write_via(path, *entries):
    path.write_text(json.dumps({one["filename"] + "123": one for one in entries}))
    return path


def test_shapes_and_classes(tmp_path):
    for name in "abc":
        write_picture(tmp_path / f"images/{name}.png")
    regions = [
        square(1, 2, classes={"type": "cell"}),
        region("rect", {"x": "y", "class": "tree"}, x=10, y=9, width=5, height=5),
        region("polygon", {"kind": {"bird": True, "dog": False}}, all_points_x=[20, 25, 25], all_points_y=[3, 3, 9]),
        square(20, 15),
    ]
    file = write_via(tmp_path / "via.json", entry("a.png", regions), entry("b.png", {"0": square(1, 1)}))
    assert detect(file) == detect(tmp_path) == "via"
    data = read_dataset(file)
    assert (data.class_names, data.warnings) == (("bird", "cell", "object", "tree"), ())
    first, second = data.samples
    assert [data.class_names[k] for k in first.objects.labels] == ["cell", "tree", "bird", "object"]
    np.testing.assert_array_equal(dense(first)[[0, 1, 3]], squares((1, 2), (10, 9), (20, 15)))
    np.testing.assert_array_equal(dense(second), squares((1, 1)))
    project = {"_via_settings": {}, "_via_img_metadata": json.loads(file.read_text())}
    file.write_text(json.dumps(project))
    assert len(read_via(tmp_path).samples) == 2


@pytest.mark.parametrize("theta", [None, 0.0, math.pi / 3])
def test_circles_and_ellipses(tmp_path, theta):
    write_picture(tmp_path / "a.png")
    more = {} if theta is None else {"theta": theta}
    shapes = [region("circle", cx=16, cy=12, r=6), region("ellipse", cx=16, cy=12, rx=9, ry=4, **more)]
    circle, ellipse = dense(read_via(write_via(tmp_path / "v.json", entry("a.png", shapes))).samples[0])
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    x, y = x - 16, y - 12
    turned = theta or 0.0
    u, v = x * math.cos(turned) + y * math.sin(turned), y * math.cos(turned) - x * math.sin(turned)
    for mask, inside in ((circle, np.hypot(x, y) / 6), (ellipse, np.hypot(u / 9, v / 4))):
        assert mask[inside < 0.85].all()
        assert not mask[inside > 1.15].any()


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    write_picture(tmp_path / "a.png")
    regions = [
        square(1, 1),
        region("point", cx=1, cy=1),
        region("polygon", all_points_x=[1, 2], all_points_y=[1, 2]),
        region("polygon", all_points_x=[1, 2, 3], all_points_y=[1, 2]),
        region("circle", cx=1, cy="x", r=2),
        region("circle", cx=1, cy=1, r=1e9),
        square(50, 50),
        None,
    ]
    data = read_via(write_via(tmp_path / "v.json", entry("a.png", regions), entry("gone.png", [])))
    assert len(data.samples[0].objects) == 1
    assert kinds(data) == [
        "unusable_shape",
        *["unusable_polygon"] * 4,
        "empty_mask",
        "unusable_polygon",
        "unusable_file",
    ]


@pytest.mark.parametrize(
    "content", ["[]", '{"a": 5}', '{"a": {"filename": "a.png"}}', '{"a": {"filename": "a.png", "regions": 5}}']
)
def test_what_is_no_via_file(tmp_path, content):
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(AnnotationError, match=r"v\.json: "):
        read_via(tmp_path / "v.json")
