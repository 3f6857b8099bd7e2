import json
import math

import numpy as np
import pytest
from drawing import HEIGHT, WIDTH, dense, kinds, squares, write_picture

from halfpixel.data.formats.brush_runs import decode_brush
from halfpixel.data.formats.detect import detect, read_dataset
from halfpixel.data.formats.label_studio import read_label_studio
from halfpixel.errors import AnnotationError

# label_studio_sdk 2.1.2: mask2rle of a 5 x 7 mask
PACKED = [0, 0, 0, 140, 57, 27, 254, 35, 0, 191, 255, 108, 2, 63, 248, 192, 39, 255, 182, 1, 127, 254, 48, 8, 255]
PACKED += [240, 184, 0]
PAINTED = np.zeros((5, 7), dtype=bool)
PAINTED[1:4, 2:6] = True
PAINTED[2, 3], PAINTED[4, 0] = False, True
# the same of 3 x 4 pixels of different opacity
OPAQUE = np.array([[101, 0, 0, 0], [195, 186, 216, 45], [23, 220, 6, 0]]) > 0
PACKED_OPAQUE = [0, 0, 0, 48, 57, 27, 252, 108, 182, 192, 35, 195, 142, 234, 61, 136, 203, 99, 23, 143, 114, 48, 104]
PACKED_OPAQUE += [192, 0]


def packed(stretches, n_values):
    """rle-pack of stretches: (True, value, n) for a run, (False, values) for single ones."""
    bits = f"{n_values:032b}{7:05b}" + "".join(f"{one - 1:04b}" for one in (3, 4, 8, 16))
    for is_run, *rest in stretches:
        n = rest[1] if is_run else len(rest[0])
        values = [rest[0]] if is_run else rest[0]
        bits += f"{int(is_run)}10{n - 1:08b}" + "".join(f"{one:08b}" for one in values)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]


def on_canvas(placed, size_hw):
    canvas = np.zeros(size_hw, dtype=bool)
    crop, (x, y) = placed
    canvas[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return canvas


def test_brushes_as_label_studio_packs_them():
    np.testing.assert_array_equal(on_canvas(decode_brush(PACKED, (5, 7)), (5, 7)), PAINTED)
    np.testing.assert_array_equal(on_canvas(decode_brush(PACKED_OPAQUE, (3, 4)), (3, 4)), OPAQUE)


def test_single_values_between_runs():
    data = packed([(True, 0, 4), (False, [9, 9, 9, 0, 1, 1, 1, 255]), (True, 255, 4)], 16)
    np.testing.assert_array_equal(on_canvas(decode_brush(data, (2, 2)), (2, 2)), [[False, False], [True, True]])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (packed([(True, 255, 8), (True, 0, 8)], 16)[:-3], "break off"),
        ([], "break off"),
        (packed([(True, 255, 20)], 16), "beyond the image"),
        (packed([(False, [1, 2])], 16)[:11], "break off"),
        (packed([], 12), "12 values of 8 bits, the image has 16"),
        (packed([], 2**32 - 1), "values of 8 bits"),
        ([256], "list of bytes"),
        (["a"], "list of bytes"),
        (None, "list of bytes"),
    ],
)
def test_broken_brushes(data, what):
    with pytest.raises(ValueError, match=what):
        decode_brush(data, (2, 2))
    with pytest.raises(ValueError, match="too large"):
        decode_brush(data, (20000, 20000))


def region(kind, label="cell", number="a", **value):
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    value |= {f"{kind}labels": [label]}
    return {"id": number, "type": f"{kind}labels", "from_name": "label", "to_name": "image", "value": value} | size


def task(image, *regions, **of_task):
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(regions)}]} | of_task


def write_export(path, *tasks):
    path.write_text(json.dumps(tasks))
    return path


def square(x, y, side=5):
    corners = ((x, y), (x + side, y), (x + side, y + side), (x, y + side))
    return [[100 * u / WIDTH, 100 * v / HEIGHT] for u, v in corners]


def test_regions_and_labels(tmp_path):
    write_picture(tmp_path / "images/1f-a b.png")
    write_picture(tmp_path / "images/b.png")
    brush = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    brush[4:9, 20:27] = 255
    runs = [(True, int(value), 4) for value in brush.ravel()]
    first = [
        region("polygon", points=square(1, 2)),
        region("rectangle", "tree", x=100 * 10 / WIDTH, y=100 * 9 / HEIGHT, width=500 / WIDTH, height=500 / HEIGHT),
        region("brush", "bird", format="rle", rle=packed(runs, brush.size * 4)),
        {"type": "choices", "from_name": "c", "value": {"choices": ["good"]}},
    ]
    apart = region("polygon", points=square(3, 3), number="q") | {"type": "polygon"}
    del apart["value"]["polygonlabels"]
    label = {"id": "q", "type": "labels", "value": {"labels": ["cow"]}, "original_width": WIDTH}
    file = write_export(
        tmp_path / "export.json",
        task("/data/upload/1/1f-a%20b.png", *first),
        task("http://localhost/data/local-files/?d=set%2Fimages%2Fb.png", apart, label),
    )
    assert detect(file) == detect(tmp_path) == "label_studio"
    data = read_dataset(tmp_path)
    assert (data.class_names, data.warnings) == (("bird", "cell", "cow", "tree"), ())
    one, other = data.samples
    assert [data.class_names[k] for k in one.objects.labels] == ["cell", "tree", "bird"]
    np.testing.assert_array_equal(dense(one), [*squares((1, 2), (10, 9)), brush > 0])
    assert [data.class_names[k] for k in other.objects.labels] == ["cow"]


def test_turned_shapes(tmp_path):
    write_picture(tmp_path / "a.png")
    turned = {"x": 100 * 16 / WIDTH, "y": 100 * 4 / HEIGHT, "width": 1000 / WIDTH, "height": 500 / HEIGHT}
    oval = {"x": 50, "y": 50, "radiusX": 900 / WIDTH, "radiusY": 400 / HEIGHT}
    regions = [region("rectangle", **turned, rotation=90), region("ellipse", **oval, rotation=30)]
    box, ellipse = dense(read_label_studio(write_export(tmp_path / "e.json", task("a.png", *regions))).samples[0])
    expected = np.zeros_like(box)
    expected[4:14, 11:16] = True  # a quarter to the right, around its first corner
    assert np.count_nonzero(box != expected) <= 15
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    x, y, angle = x - 16, y - 12, math.radians(30)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    inside = np.hypot(u / 9, v / 4)
    assert ellipse[inside < 0.85].all()
    assert not ellipse[inside > 1.15].any()


def test_what_cannot_be_used_is_named_and_left_out(tmp_path):
    for name in "abc":
        write_picture(tmp_path / f"{name}.png")
    regions = [
        region("keypoint", x=1, y=1),
        region("polygon", points=square(1, 1)[:2]),
        region("polygon", points=[[0, 0], [1, "x"], [5, 5]]),
        region("rectangle", x=1, y=1, width="x", height=2),
        region("ellipse", x=1, y=1, radiusX=1e9, radiusY=1),
        region("brush", rle=[1, 2, 3]),
        region("polygon", points=square(40, 40)),
        region("polygon", points=square(1, 1)) | {"value": None},
    ]
    other_size = region("polygon", points=square(1, 1)) | {"original_width": 7}
    twice = [
        {"result": [region("polygon", points=square(1, 1))]},
        {"result": []},
        {"was_cancelled": True, "result": []},
    ]
    file = write_export(
        tmp_path / "e.json",
        task("a.png", *regions),
        task("b.png", other_size),
        task("c.png", annotations=twice),
        task("gone.png"),
    )
    data = read_label_studio(file)
    assert [len(sample.objects) for sample in data.samples] == [0, 1]
    assert sorted(kinds(data)) == [
        "empty_mask",
        "several_annotations",
        "unusable_file",
        "unusable_file",
        *["unusable_polygon"] * 5,
        "unusable_run_lengths",
        "unusable_shape",
    ]


@pytest.mark.parametrize("content", [{}, [5], [{"data": {}}], [{"data": {"image": 5}}]])
def test_what_is_no_export(tmp_path, content):
    (tmp_path / "e.json").write_text(json.dumps(content))
    with pytest.raises(AnnotationError, match=r"e\.json: "):
        read_label_studio(tmp_path / "e.json")
