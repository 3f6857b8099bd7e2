"""Batches that other processes make."""

import dataclasses
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_loop import RECIPE, write_dataset

from halfpixel.data.dataset import annotated_sample
from halfpixel.data.formats.coco import read_coco
from halfpixel.structures.images import InputRules
from halfpixel.structures.masks import CropMasks
from halfpixel.train.augment.crops import Batch, Batches
from halfpixel.train.loading import batches_of

RULES = InputRules(scale=2.0)
OPEN_FILES = 256


@pytest.fixture
def _few_open_files() -> Iterator[None]:
    """As few as make 300 objects too many for a file each."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def crowded(folder: Path) -> Batches:
    """Two images with 300 objects each."""
    dataset = read_coco(write_dataset(folder))
    samples = []
    for sample in dataset.samples[:2]:
        (height, width), k = sample.size_hw, torch.arange(300)
        places = torch.stack([k % (width - 4), k // 8 % (height - 4)], 1)
        masks = CropMasks(tuple(torch.ones(4, 4, dtype=torch.bool) for _ in range(300)), places, sample.size_hw)
        samples.append(annotated_sample(sample.image_id, sample.path, masks, [0] * 300, dataset.class_names))
    recipe = dataclasses.replace(RECIPE, images_per_step=2)
    return Batches(dataclasses.replace(dataset, samples=tuple(samples)), RULES, recipe)


def same(one: Batch, other: Batch) -> bool:
    images, targets, samples = zip(one, other, strict=True)
    pairs = [(images[0].tensor, images[1].tensor), (images[0].sizes_hw, images[1].sizes_hw)]
    for a, b in zip(*targets, strict=True):
        assert (a.size_hw, a.seed, len(a.masks)) == (b.size_hw, b.seed, len(b.masks))
        pairs += [(a.boxes_xyxy, b.boxes_xyxy), (a.labels, b.labels), (a.ignored_xyxy, b.ignored_xyxy)]
        pairs += [(x.crop, y.crop) for x, y in zip(a.masks, b.masks, strict=True)]
        pairs += [(x.to_source, y.to_source) for x, y in zip(a.masks, b.masks, strict=True)]
    assert [one.path for one in samples[0]] == [one.path for one in samples[1]]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.usefixtures("_few_open_files")
def test_another_process_makes_the_same_batches(tmp_path: Path) -> None:
    """Also of more objects than a process may open files."""
    batches = crowded(tmp_path)
    steps = range(3, 4)
    here, there = (list(batches_of([batches], steps, processes)) for processes in (0, 1))
    assert [len(one) for one in here] == [len(one) for one in there] == [1]
    assert sum(len(targets) for targets in here[0][0][1]) > OPEN_FILES
    assert all(same(a, b) for ones, others in zip(here, there, strict=True) for a, b in zip(ones, others, strict=True))
