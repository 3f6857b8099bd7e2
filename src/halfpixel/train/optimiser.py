"""What the optimiser changes, and by how much."""

from __future__ import annotations

import math

from torch import nn

from halfpixel.nn.network import Network
from halfpixel.train.recipe import Recipe

LAST_SHARE = 0.01
"""Of the peak learning rate, at the last step."""


def freeze_stages(model: Network, stages: int) -> None:
    """Let all of the backbone learn but its first stages."""
    model.backbone.requires_grad_(True)
    for stage in model.backbone.stages()[:stages] if stages else ():
        for module in stage:
            module.requires_grad_(False)


def parameter_groups(model: Network, recipe: Recipe) -> list[dict[str, object]]:
    """For AdamW: the backbone learns more slowly, and what has one dimension does not decay.

    Returns:
        Groups with `params`, `weight_decay` and `peak`, the highest learning rate.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": recipe.learning_rate * (recipe.backbone_rate if backbone else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (backbone, decays), parameters in groups.items()
    ]


def schedule(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at a step, counted from 1: a linear warm-up, then half a cosine."""
    if step <= recipe.warmup_steps:
        return step / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / max(recipe.steps - recipe.warmup_steps, 1)
    return LAST_SHARE + (1 - LAST_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))
