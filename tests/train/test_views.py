"""What a network is shown in training."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from test_loop import RECIPE, write_dataset

from halfpixel.data.coco import read_coco
from halfpixel.data.sample import Dataset
from halfpixel.structures.images import InputRules
from halfpixel.train.views import batches, random_view

RULES = InputRules(scale=2.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_dataset(tmp_path))


def test_a_run_can_be_taken_up_at_any_step(dataset: Dataset) -> None:
    whole = list(itertools.islice(batches(dataset, RULES, RECIPE), 5))
    for first in (0, 2, 4):
        images, targets, samples = next(batches(dataset, RULES, RECIPE, first_step=first))
        assert torch.equal(images.tensor, whole[first][0].tensor)
        assert torch.equal(images.sizes_hw, whole[first][0].sizes_hw)
        assert [sample.image_id for sample in samples] == [sample.image_id for sample in whole[first][2]]
        for one, other in zip(targets, whole[first][1], strict=True):
            assert torch.equal(one.objects.boxes_xyxy, other.objects.boxes_xyxy)
    assert not torch.equal(whole[0][0].tensor, whole[1][0].tensor)


def test_each_pass_shows_every_image_once_in_a_new_order(dataset: Dataset) -> None:
    recipe = dataclasses.replace(RECIPE, images_per_step=3)
    passes = [[s.image_id for s in samples] for _, _, samples in itertools.islice(batches(dataset, RULES, recipe), 6)]
    assert all(sorted(order) == [0, 1, 2] for order in passes)
    assert len({tuple(order) for order in passes}) > 2


def test_another_seed_shows_something_else(dataset: Dataset) -> None:
    tensors = [next(batches(dataset, RULES, dataclasses.replace(RECIPE, seed=seed)))[0].tensor for seed in (1, 2)]
    assert tensors[0].shape != tensors[1].shape or not torch.equal(tensors[0], tensors[1])


def test_pixels_and_annotations_agree(dataset: Dataset) -> None:
    """Objects are brighter than what is around them, whatever was cropped, turned, mirrored and scaled."""
    recipe = dataclasses.replace(RECIPE, photometric=0.0)
    seen = 0
    for seed in range(12):
        image, targets = random_view(dataset.samples[0], RULES, recipe, torch.Generator().manual_seed(seed))
        assert image.shape[1] <= recipe.crop_px
        assert image.shape[2] <= recipe.crop_px
        assert targets.objects.size_hw == tuple(image.shape[1:])
        assert targets.objects.masks is not None
        boxes = targets.objects.boxes_xyxy
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        dense = targets.objects.masks.dense()
        background = image.mean(0)[~dense.any(0)]
        for mask in dense:
            assert image.mean(0)[mask].mean() > background.mean() + 1.5
            seen += 1
    assert seen > 15


def test_the_same_generator_the_same_view(dataset: Dataset) -> None:
    views = [random_view(dataset.samples[0], RULES, RECIPE, torch.Generator().manual_seed(s))[0] for s in (3, 3)]
    assert torch.equal(*views)


def test_a_small_image_is_shown_whole(dataset: Dataset) -> None:
    recipe = dataclasses.replace(RECIPE, crop_px=512, zoom=(1.0, 1.0), photometric=0.0)
    image, targets = random_view(dataset.samples[1], RULES, recipe, torch.Generator().manual_seed(0))
    assert sorted(image.shape[1:]) == [80, 104]
    assert len(targets.objects) == 3
