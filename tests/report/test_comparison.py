import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import torch
from pages import Page
from PIL import Image

from halfpixel.data.dataset import Dataset, annotated_sample
from halfpixel.evaluation.model_comparison import Comparison, compare
from halfpixel.evaluation.per_image import Candidate
from halfpixel.report.comparison import write_comparison
from halfpixel.report.differences import LEGEND, PANEL_PX, RIGHT, TITLE_PX, draw_differences
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

NASTY = "<script>alert('$x_1$')</script>&"
SIZE_HW = (48, 64)
LEFT, MIDDLE, APART = (4, 4, 20, 20), (22, 4, 38, 20), (44, 28, 60, 44)
BOTH = (4, 4, 38, 20)


def objects(*boxes, names=("cell",)) -> Instances:
    crops = [(np.ones((y1 - y0, x1 - x0), dtype=bool), (x0, y0)) for x0, y0, x1, y1 in boxes]
    masks = CropMasks.from_crops(crops, SIZE_HW)
    n = len(boxes)
    return Instances(SIZE_HW, masks.boxes_xyxy(), torch.ones(n), torch.zeros(n, dtype=torch.int64), names, masks)


def scene(folder: Path, found_a, found_b, names=("cell",)) -> tuple[Dataset, Candidate, Candidate]:
    """Black images with three objects each, and what two models found on them."""
    samples = []
    for k in range(len(found_a)):
        path = folder / f"{k}.png"
        Image.new("RGB", SIZE_HW[::-1]).save(path)
        truth = objects(LEFT, MIDDLE, APART).masks
        samples.append(annotated_sample(k, path, truth, [0, 0, 0], names))
    data = Dataset(folder / NASTY, names, tuple(range(len(names))), tuple(samples))
    sides = ([objects(*boxes, names=names) for boxes in found] for found in (found_a, found_b))
    a, b = (Candidate(NASTY + name, side, 0.5, 100) for name, side in zip("ab", sides, strict=True))
    return data, a, b


def compared(folder: Path, n: int = 3, names=("cell",)) -> Comparison:
    found = [(LEFT, MIDDLE, APART)] * n, [(BOTH, APART)] * n
    return compare(*scene(folder, *found, names=names), slice_by=None)


def test_page_and_file(tmp_path):
    page = write_comparison(compared(tmp_path), tmp_path / "new" / "report", title="Two", about={"left out": "1 image"})
    assert sorted(path.name for path in page.parent.iterdir()) == ["index.html", "report.json"]
    report = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert (report["title"], report["about"], report["n_objects"]) == ("Two", {"left out": "1 image"}, 9)
    parsed = Page(page.read_text(encoding="utf-8"))
    assert "script" not in parsed.tags
    assert len(parsed.links) == 4
    assert all(link.startswith("data:image/svg+xml;base64,") for link in parsed.links)
    assert parsed.text.count(NASTY) == 2  # both names
    assert "left out: 1 image" in parsed.text
    assert "0.00 | 1.00" in parsed.text
    assert "0.00 | 33.33" in parsed.text  # merges
    for definition in report["definitions"].values():
        assert definition in parsed.text


def test_who_is_better_is_told_from_ten_images_on(tmp_path):
    for n, verdict in ((9, "neither is clearly better"), (10, "A is better")):
        text = Page(write_comparison(compared(tmp_path, n), tmp_path / str(n)).read_text(encoding="utf-8")).text
        assert f"95% interval 0.00 to 0.00: {verdict}" in text


def test_nothing_to_compare(tmp_path):
    for name, found in {"none": [], "empty": [()]}.items():
        data, a, b = scene(tmp_path, found, found)
        comparison = compare(data, a, b, ap_resamples=10)
        text = write_comparison(comparison, tmp_path / name).read_text(encoding="utf-8")
        assert not re.search(r"\b(nan|inf)\b", Page(text).text, re.IGNORECASE)


def near(picture: np.ndarray, colour, share=0.0005) -> bool:
    """Whether more than a few pixels are about this colour."""
    return (np.abs(picture.astype(int) - colour).max(2) < 30).mean() > share


def test_pictures_mark_merges_splits_misses_and_false_objects(tmp_path):
    pieces = ((44, 28, 50, 44), (50, 28, 60, 44))
    found_a = [(LEFT, MIDDLE, APART), (LEFT, MIDDLE, *pieces)]
    found_b = [(BOTH, (2, 30, 12, 40)), (LEFT, MIDDLE, APART)]
    data, a, b = scene(tmp_path, found_a, found_b)
    drawn = draw_differences(data, a, b, compare(data, a, b))
    assert [one.caption for one in drawn] == [
        "0.png: annotated 3. A: 3 (no errors). B: 2 (miss 1, false positive 1, merge 1).",
        "1.png: annotated 3. A: 4 (split 1). B: 3 (no errors).",
    ]
    seen = []
    for one in drawn:
        sheet = np.asarray(Image.open(io.BytesIO(one.jpeg)))
        assert sheet.shape[0] == TITLE_PX + PANEL_PX * 48 // 64
        panels = [sheet[TITLE_PX:, left : left + PANEL_PX] for left in (0, 488, 976)]
        seen.append([{name for name, colour in LEGEND.items() if near(panel, colour)} for panel in panels])
    right = next(name for name, colour in LEGEND.items() if colour == RIGHT)
    assert seen == [
        [{right}, {right}, {"merge", "miss", "false positive"}],
        [{right}, {right, "split"}, {right}],
    ]


def test_pictures_are_of_those_that_differ_and_can_be_read(tmp_path):
    all_three, two = (LEFT, MIDDLE, APART), (LEFT, APART)
    data, a, b = scene(tmp_path, [all_three, two, all_three, two], [all_three, two, (), all_three])
    comparison = compare(data, a, b)
    assert [one.caption[:5] for one in draw_differences(data, a, b, comparison)] == ["2.png", "3.png"]
    assert len(draw_differences(data, a, b, comparison, at_most=1)) == 1
    data.samples[2].path.unlink()
    (only,) = draw_differences(data, a, b, comparison)
    assert only.caption.startswith("3.png")
    page = write_comparison(comparison, tmp_path / "out", pictures=[only]).read_text(encoding="utf-8")
    assert base64.b64encode(only.jpeg).decode() in page
    parsed = Page(page)
    assert "Where they differ" in parsed.text
    assert "merge" in parsed.text
    assert "class confusion" not in parsed.text.split("Where they differ")[1].split("3.png")[0]


def test_several_classes_can_be_confused(tmp_path):
    comparison = compared(tmp_path, names=("cell", "vessel"))
    rows = Page(write_comparison(comparison, tmp_path / "out").read_text(encoding="utf-8")).text.splitlines()
    assert any(row.startswith("class confusion0.00") for row in rows)
    rows = Page(write_comparison(compared(tmp_path), tmp_path / "2").read_text(encoding="utf-8")).text.splitlines()
    assert not any(row.startswith("class confusion0.00") for row in rows)
