"""What a call of the command line gives back, and files to call it with."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo, build, save_model, settings_of


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Halfpixel = Callable[..., Ran]


FEW = {"proposals_per_level": 100, "proposals": 120}
"""Of random weights everything is an object: a test need not wait for all of them."""


def write_model(path: Path, class_names: tuple[str, ...]) -> Path:
    """Random weights: all classes score about the same, and the masks fill their boxes."""
    with torch.random.fork_rng():
        usual = settings_of(build("mask_rcnn_lite", class_names))
        torch.manual_seed(0)
        network = build("mask_rcnn_lite", class_names, {**usual, **FEW})
    torch.nn.init.ones_(network.mask_head.logits.bias)  # or every mask might be empty
    rules = InputRules(scale=1.0, longest_side=256)
    facts = {"source": "random", "licence": "CC0-1.0"}
    info = ModelInfo("mask_rcnn_lite", class_names, rules, settings_of(network), 0.3, **facts)
    save_model(path, network, info)
    return path


def write_noise(path: Path, size_hw: tuple[int, int] = (40, 48), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
