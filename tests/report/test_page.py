import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pages import Page

from halfpixel.data.dataset import Dataset, Sample
from halfpixel.evaluation.evaluation import Evaluation, evaluate
from halfpixel.report.page import write_report
from halfpixel.report.worst_images import WorstImage
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

NASTY = "<script>alert('$x_1$')</script>&"


def squares(n: int, names: tuple[str, ...]) -> Instances:
    crops = tuple(torch.ones(8, 8, dtype=torch.bool) for _ in range(n))
    masks = CropMasks(crops, torch.tensor([[10 * k, 5] for k in range(n)], dtype=torch.int64).reshape(-1, 2), (20, 90))
    labels = torch.arange(n) % len(names)
    return Instances((20, 90), masks.boxes_xyxy(), torch.linspace(0.95, 0.6, n), labels, names, masks)


def measured(names: tuple[str, ...] = ("cell",), counts=((3, 3), (8, 6), (0, 1)), slices=("a", "b", "a")) -> Evaluation:
    samples = [
        Sample(k, Path(f"{NASTY}{k}.png"), (20, 90), objects, torch.full((len(objects),), 64.0),
               tuple(range(len(objects))), squares(0, names), {"modality": value})
        for k, (objects, value) in enumerate(zip([squares(true, names) for true, _ in counts], slices, strict=False))
    ]  # fmt: skip
    data = Dataset(Path(f"folder/{NASTY}"), names, tuple(range(len(names))), tuple(samples))
    predictions = [squares(predicted, names) for _, predicted in counts]
    return evaluate(data, predictions, threshold=0.5, max_detections=1000)


def test_page_and_file(tmp_path):
    evaluation = measured()
    page = write_report(evaluation, tmp_path / "new" / "report", title="Nuclei", about={"model": "small"})
    assert sorted(path.name for path in page.parent.iterdir()) == ["index.html", "report.json"]
    document = json.loads((page.parent / "report.json").read_text(encoding="utf-8"))
    assert (document["title"], document["about"]) == ("Nuclei", {"model": "small"})
    assert document["overall"]["detection"][0]["tp"] == 9
    parsed = Page(page.read_text(encoding="utf-8"))
    assert "model: small" in parsed.text
    assert "score threshold: 0.5" in parsed.text
    # 9 pairs, 1 false, 2 missed
    assert "0.750" in parsed.text
    assert "at most 1,000 detections" in parsed.text
    assert "detection limit was reached" not in parsed.text


def test_page_stands_alone(tmp_path):
    parsed = Page(write_report(measured(), tmp_path).read_text(encoding="utf-8"))
    assert "script" not in parsed.tags
    assert len(parsed.links) == 4
    assert all(link.startswith("data:image/svg+xml;base64,") for link in parsed.links)


def test_user_text_is_escaped(tmp_path):
    evaluation = measured((NASTY, "b"), slices=(NASTY, "_hidden", NASTY))
    page = write_report(evaluation, tmp_path, title=NASTY, about={NASTY: NASTY})
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    parsed = Page(text)
    # heading, title, both of `about`, data, class, slice in two tables
    assert parsed.text.count(NASTY) >= 8


def test_the_same_evaluation_gives_the_same_page(tmp_path):
    first, second = (write_report(measured(), tmp_path / name).read_bytes() for name in ("1", "2"))
    assert first == second


def test_nothing_measured(tmp_path):
    for name, counts in {"none": (), "empty": ((0, 0),)}.items():
        text = write_report(measured(counts=counts), tmp_path / name).read_text(encoding="utf-8")
        assert not re.search(r"\bnan\b", Page(text).text, re.IGNORECASE)


def test_every_definition_is_on_the_page(tmp_path):
    evaluation = measured(("cell", "nut"))
    text = Page(write_report(evaluation, tmp_path).read_text(encoding="utf-8")).text
    for name, definition in evaluation.definitions.items():
        if name not in {"mask_ap_100", "box_ap_100", "box_ap"}:  # the same words as those of masks at our limit
            assert definition in text, name
    for row in ("merge", "class confusion", "AR, 10 detections", "By size", "By class", "By modality"):
        assert row in text
    assert "1 of 3 images have none and are left out" in text


def test_pictures_are_inside_the_page(tmp_path):
    one = WorstImage(f"{NASTY}.png: annotated 3", b"not really a picture")
    parsed = Page(write_report(measured(), tmp_path, worst=[one]).read_text(encoding="utf-8"))
    assert parsed.links[-1] == "data:image/jpeg;base64," + base64.b64encode(one.jpeg).decode()
    assert f"{NASTY}.png: annotated 3" in parsed.text


def test_a_reached_limit_is_told(tmp_path):
    page = write_report(replace(measured(), n_saturated=2), tmp_path)
    assert "In 2 of 3 images the detection limit was reached" in Page(page.read_text(encoding="utf-8")).text


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    write_report(measured(), tmp_path)
    before = (tmp_path / "report.json").read_bytes()

    def refuse(*_args):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        write_report(measured(counts=((1, 1),), slices=("a",)), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report.json"]
    assert (tmp_path / "report.json").read_bytes() == before
