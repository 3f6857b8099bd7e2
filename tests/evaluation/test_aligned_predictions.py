import pytest
import torch
from scenes import blocks, dataset, sample

from halfpixel.errors import ArgumentError
from halfpixel.evaluation.aligned_predictions import paired


def test_the_same_classes_pass_unchanged():
    predicted = blocks([(0, 0, 5, 5)])
    assert paired(dataset(sample(blocks([]))), [predicted]) == [predicted]


def test_classes_are_matched_by_name_and_unannotated_ones_left_out():
    data = dataset(sample(blocks([], names=("fig", "date"))), names=("fig", "date"))
    predicted = blocks([(0, 0, 5, 5), (5, 5, 9, 9), (1, 1, 3, 3)], [0.9, 0.8, 0.7], [0, 1, 2], ("date", "car", "fig"))
    (renamed,) = paired(data, [predicted])
    assert renamed.class_names == ("fig", "date")
    assert renamed.labels.tolist() == [1, 0]
    assert torch.equal(renamed.scores, torch.tensor([0.9, 0.7]))


def test_no_class_in_common():
    with pytest.raises(ArgumentError, match=r"hand-made.json: the predictions' classes \(nut\).*\(cell\)"):
        paired(dataset(sample(blocks([]))), [blocks([], names=("nut",))])


def test_another_number_of_predictions():
    with pytest.raises(ArgumentError, match="expected 1 predictions, one per image, and got 0"):
        paired(dataset(sample(blocks([]))), [])


def test_another_image_size():
    with pytest.raises(ArgumentError, match=r"image-1\.png: annotated as 40 x 50 .* the prediction has 50 x 40"):
        paired(dataset(sample(blocks([]))), [blocks([], size_hw=(50, 40))])
