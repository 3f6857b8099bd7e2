import dataclasses
from pathlib import Path

import pytest

from halfpixel.data.dataset import Dataset, annotated_sample
from halfpixel.data.split import hold_out
from halfpixel.errors import ArgumentError
from halfpixel.structures.masks import CropMasks

SAMPLES = tuple(annotated_sample(k, Path(f"{k}.png"), CropMasks.empty((4, 4)), [], ("a",)) for k in range(10))
DATASET = Dataset(Path("data"), ("a",), (1,), SAMPLES)


def numbers(dataset: Dataset) -> list[int]:
    return [sample.image_id for sample in dataset.samples]


def test_every_image_is_in_one_part_and_keeps_its_order() -> None:
    rest, taken = hold_out(DATASET, 3, seed=1)
    assert len(taken.samples) == 3
    assert sorted(numbers(rest) + numbers(taken)) == list(range(10))
    assert numbers(rest) == sorted(numbers(rest))
    assert numbers(taken) == sorted(numbers(taken))


def test_the_seed_decides() -> None:
    choices = {tuple(numbers(hold_out(DATASET, 3, seed)[1])) for seed in range(10)}
    assert len(choices) > 5
    assert numbers(hold_out(DATASET, 3, 4)[1]) == numbers(hold_out(DATASET, 3, 4)[1])


@pytest.mark.parametrize("images", [0, 10, -1])
def test_something_has_to_be_left(images: int) -> None:
    with pytest.raises(ArgumentError, match=f"data.*1 to 9 of 10.*{images}"):
        hold_out(DATASET, images)


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(ArgumentError, match=r"two images.*1"):
        hold_out(dataclasses.replace(DATASET, samples=SAMPLES[:1]), 1)
