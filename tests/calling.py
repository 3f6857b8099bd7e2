"""What a call of the command line gives back, and files to call it with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from halfpixel.nn.size_network import SizeNetwork
from halfpixel.structures.diameters import SizeFinderInfo, TrainedDiameters
from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo, build, load_model, save_model, settings_of


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


def always(bin_number: int) -> SizeNetwork:
    """Says of every cell of every image that objects of one diameter cover it, `bin_diameters()[bin_number]`.

    In an image that is looked at at two sizes bin 0 comes to 2 pixels, and bin 12 to 32.
    """
    network = SizeNetwork().eval()
    torch.nn.init.zeros_(network.logits.weight)
    torch.nn.init.zeros_(network.logits.bias)
    with torch.no_grad():
        network.logits.bias[1 + bin_number] = 100
    return network


def write_with_finder(path: Path, model: Path, bin_number: int, **described: Any) -> Path:
    """A copy of a model that knows objects of 10 to 20 pixels, and finds that all are as large as `always` says."""
    network, info = load_model(model)
    sizes = {"diameters": TrainedDiameters(15.0, 10.0, 20.0), "size_finder": SizeFinderInfo(0.3)}
    save_model(path, network, replace(info, **{**sizes, **described}), size_network=always(bin_number))
    return path


def write_noise(path: Path, size_hw: tuple[int, int] = (40, 48), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
