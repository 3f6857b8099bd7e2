"""MMDetection 3.3.0, where it can be imported: a partner to compare with, never needed.

A way to have it without compiling anything: `mmengine` 0.10.7 and `mmdet` 3.3.0 without their dependencies, the source
of `mmcv` 2.1.0 unpacked beside them, all in the folder that HALFPIXEL_MMDET names or on PYTHONPATH. The compiled
operators are replaced by ones that refuse.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

if os.environ.get("HALFPIXEL_MMDET"):
    sys.path.append(os.environ["HALFPIXEL_MMDET"])

needs_mmdetection = pytest.mark.skipif(find_spec("mmdet") is None, reason="MMDetection is not installed")


class Refusing(ModuleType):
    """In place of the compiled operators, which are not there."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*_: object, **__: object) -> None:
            raise NotImplementedError(f"mmcv was not compiled: {name}")

        return refuse


def build(config: str, device: str = "cpu", **changes: object) -> nn.Module:
    """One of its networks with fresh weights, in evaluation mode.

    Args:
        config: its file's path inside of the configurations, such as "solov2/solov2_r50_fpn_1x_coco.py".
        device: "meta" for shapes alone.
        changes: of the head.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if find_spec("mmcv._ext") is None:
            sys.modules["mmcv._ext"] = Refusing("mmcv._ext")
        mmdet = importlib.import_module("mmdet")
        importlib.import_module("mmdet.utils").register_all_modules()
        folder = Path(str(mmdet.__file__)).parent / ".mim" / "configs"
        given = importlib.import_module("mmengine.config").Config.fromfile(str(folder / config)).model
        _replace(given)
        if changes:
            given.bbox_head.update(changes)
        with torch.device(device):
            network: nn.Module = importlib.import_module("mmdet.registry").MODELS.build(given)
    return network.eval()


def mmdet_model(config: str) -> nn.Module:
    """One of its networks in float64, every weight and statistic of it random; skips where it is not installed."""
    if find_spec("mmdet") is None:
        pytest.skip("MMDetection is not installed")
    torch.manual_seed(0)
    model = build(config).double()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim > 1:
            tensor.normal_(std=1.5 / tensor[0].numel() ** 0.5)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3).add_(1.0 if name.endswith("weight") else 0.0)
    return model


def _replace(config: object) -> None:
    """No weights to fetch, no statistics over several processes."""
    if isinstance(config, dict):
        if config.get("type") == "SyncBN":
            config["type"] = "BN"
        if str(config.get("init_cfg", {})).find("checkpoint") >= 0:
            config["init_cfg"] = None
    for inner in config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ():
        _replace(inner)


def enliven(network: nn.Module, image: Tensor, spreads: dict[str, tuple[float, float]]) -> nn.Module:
    """Statistics, scales and last layers that a network might have learnt: fresh ones hide what is wrong.

    Args:
        network: with batch normalisations; changed in place, computes in float64 from now on.
        image: `[1, 3, h, w]`, gives the statistics.
        spreads: mean and standard deviation of what layers say of the image, by the ends of their names.
    """
    network.double()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.uniform_(module.bias, -0.3, 0.3, generator=generator)
            module.momentum = 1.0
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        network.train()(image.double())
        network.eval()
        for name, layer in network.named_modules():
            wanted = next((spreads[end] for end in spreads if name.endswith(end)), None)
            if wanted is not None:
                _rescale(network, layer, image.double(), *wanted)
    return network


def _rescale(network: nn.Module, layer: nn.Module, image: Tensor, mean: float, spread: float) -> None:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    assert layer.bias is not None
    heard: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, out: heard.append(out.transpose(0, 1).flatten(1)))
    network(image)
    hook.remove()
    said = torch.cat(heard, 1)
    factors = spread / said.std(dim=1).clamp(min=1e-12)
    layer.weight.mul_(factors.reshape(-1, *[1] * (layer.weight.ndim - 1)))
    layer.bias.sub_(said.mean(dim=1)).mul_(factors).add_(mean)
