"""Each value of a recipe that cannot be is refused by its name."""

import dataclasses
import json
import math

import pytest

from halfpixel.errors import ArgumentError
from halfpixel.train.recipe import Recipe

WRONG: dict[str, list[object]] = {
    "steps": [0, -1, math.nan, math.inf],
    "images_per_step": [0, -4],
    "accumulate": [0, 3],
    "crop_px": [0, -512],
    "zoom": [(0.0, 1.0), (1.2, 0.8), (-1.0, 1.0), (0.5, math.inf), (math.nan, 1.0), (0.5, math.nan)],
    "rotation": [-1.0, 180.5, math.nan],
    "copy_paste": [-0.1, 1.1, math.nan],
    "frozen_stages": [-1, 6],
    "learning_rate": [0.0, -1e-3, math.nan, math.inf],
    "backbone_rate": [-0.1, math.nan, math.inf],
    "weight_decay": [-0.1, math.nan, math.inf],
    "warmup_steps": [-1],
    "clip_norm": [0.0, -1.0, math.nan, math.inf],
    "ema_decay": [-0.1, 1.0, math.nan],
    "photometric": [-0.1, 1.1, math.nan],
    "stain": [-0.1, 1.1, math.nan],
    "precision": ["16-true", "bf16", ""],
    "checkpoint_every": [0],
    "validate_every": [-1],
    "patience": [-1],
}

BOUNDS: dict[str, list[object]] = {
    "steps": [1],
    "images_per_step": [1],
    "accumulate": [1, 4],
    "zoom": [(1.0, 1.0)],
    "rotation": [0.0, 180.0],
    "copy_paste": [0.0, 1.0],
    "frozen_stages": [0, 5],
    "backbone_rate": [0.0],
    "weight_decay": [0.0],
    "warmup_steps": [0],
    "ema_decay": [0.0],
    "photometric": [0.0, 1.0],
    "stain": [0.0, 1.0],
    "precision": ["32-true", "bf16-mixed"],
    "validate_every": [0],
    "patience": [0],
}


def test_every_field_that_can_be_wrong_is_tried() -> None:
    anything_goes = {"mirror", "quarter_turns", "balance", "seed"}
    assert set(WRONG) | anything_goes == {field.name for field in dataclasses.fields(Recipe)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(ArgumentError, match=rf"\b{name}\b"):
        dataclasses.replace(Recipe(), **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BOUNDS.items() for value in values])
def test_the_ends_of_a_range_belong_to_it(name: str, value: object) -> None:
    assert getattr(dataclasses.replace(Recipe(), **{name: value}), name) == value  # type: ignore[arg-type]


def test_a_recipe_survives_its_file() -> None:
    recipe = Recipe(zoom=(0.9, 1.05), balance="modality", precision="bf16-mixed", seed=7, learning_rate=0.1 + 0.2)
    read = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert Recipe(**read | {"zoom": tuple(read["zoom"])}) == recipe


@pytest.mark.parametrize(("steps", "validate_every", "interval"), [(800, 0, 80), (5, 0, 1), (800, 30, 30)])
def test_validations_are_ten_unless_told_otherwise(steps: int, validate_every: int, interval: int) -> None:
    assert Recipe(steps=steps, validate_every=validate_every).validation_interval == interval


def test_a_recipe_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().steps = 3  # type: ignore[misc]
