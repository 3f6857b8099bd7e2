import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from halfpixel.data.dataset import Dataset, annotated_sample
from halfpixel.evaluation.evaluation import evaluate
from halfpixel.report.worst_images import PREDICTED, TRUTH, draw_worst
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SIZE_HW = (60, 80)
FIRST, SECOND, ELSEWHERE = (10, 10), (40, 10), (20, 40)


def objects(*corners, side=14, size_hw=SIZE_HW) -> Instances:
    crops = [(np.ones((side, side), dtype=bool), corner) for corner in corners]
    masks = CropMasks.from_crops(crops, size_hw)
    n = len(corners)
    return Instances(
        size_hw, masks.boxes_xyxy(), torch.full((n,), 0.9), torch.zeros(n, dtype=torch.int64), ("cell",), masks
    )


def scene(folder: Path, found, size_hw=SIZE_HW, at=(FIRST, SECOND)):
    """Grey images with two objects each, and what was found on them."""
    samples = []
    for k in range(len(found)):
        path = folder / f"{k}.png"
        Image.fromarray(np.full((*size_hw, 3), 128, dtype=np.uint8)).save(path)
        samples.append(annotated_sample(k, path, objects(*at, size_hw=size_hw).masks, [0] * len(at), ("cell",)))
    data = Dataset(folder, ("cell",), (1,), tuple(samples))
    predictions = [objects(*corners, size_hw=size_hw) for corners in found]
    return data, predictions, evaluate(data, predictions, threshold=0.5, max_detections=100)


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def near(picture: np.ndarray, colour) -> np.ndarray:
    return (np.abs(picture - colour) < 40).all(-1)


def test_the_worst_come_first_and_right_ones_not_at_all(tmp_path):
    found = [(FIRST, SECOND), (FIRST,), (ELSEWHERE,), (FIRST, ELSEWHERE, (60, 40), (2, 42))]
    worst = draw_worst(*scene(tmp_path, found))
    assert [one.caption.split(":")[0] for one in worst] == ["3.png", "2.png", "1.png"]
    assert worst[0].caption == "3.png: annotated 2, predicted 4. miss 1, false positive 3"
    assert len(draw_worst(*scene(tmp_path, found), at_most=1)) == 1
    assert draw_worst(*scene(tmp_path, found), at_most=0) == []


def test_unpaired_objects_are_drawn_bright_where_they_are(tmp_path):
    (one,) = draw_worst(*scene(tmp_path, [(FIRST, ELSEWHERE)]))
    picture = pixels(one.jpeg)
    zoom = picture.shape[1] / 80
    assert picture.shape[0] == round(60 * zoom) <= 1100
    for colour, (x, y) in ((TRUTH, SECOND), (PREDICTED, ELSEWHERE)):
        rows, columns = np.nonzero(near(picture, colour))
        np.testing.assert_allclose([columns.min(), columns.max()], [x * zoom, (x + 14) * zoom], atol=zoom)
        np.testing.assert_allclose([rows.min(), rows.max()], [y * zoom, (y + 14) * zoom], atol=zoom)


def test_of_a_large_image_the_part_with_most_errors_is_shown(tmp_path):
    at = ((100, 100), (2100, 1300), (2200, 1400))
    (one,) = draw_worst(*scene(tmp_path, [()], (1500, 2400), at))
    picture = pixels(one.jpeg)
    assert max(picture.shape) <= 1100
    # the two that are near to each other, of which one lies 100 pixels to the right and below of the other
    rows, columns = np.nonzero(near(picture, TRUTH))
    zoom = 1100 / 800
    np.testing.assert_allclose([np.ptp(rows), np.ptp(columns)], 114 * zoom, atol=5)
    assert len(one.jpeg) < 500_000


def test_images_that_cannot_be_read_are_passed_over(tmp_path):
    data, predictions, evaluation = scene(tmp_path, [(FIRST,), (FIRST,), (FIRST,)])
    (tmp_path / "0.png").unlink()
    (tmp_path / "1.png").write_bytes(b"no image")
    assert [one.caption[:5] for one in draw_worst(data, predictions, evaluation)] == ["2.png"]
    Image.fromarray(np.zeros((5, 5, 3), dtype=np.uint8)).save(tmp_path / "2.png")
    assert draw_worst(data, predictions, evaluation) == []
