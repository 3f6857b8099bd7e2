"""Networks of MMDetection 3.3 with seeded weights, where it is installed. It needs mmcv, whose operators may be absent.

Nothing else in the project needs it; set HALFPIXEL_MMDET to a folder that holds mmdet, mmengine and mmcv.
"""

import os
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn


def mmdet_model(config: str) -> nn.Module:
    """A network of one of MMDetection's configurations, in float64, every weight and statistic of it random."""
    if folder := os.environ.get("HALFPIXEL_MMDET"):
        sys.path.append(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("mmdet", reason="MMDetection is not installed")
        import mmdet
        from mmdet.registry import MODELS
        from mmdet.utils import register_all_modules
        from mmengine.config import Config

        register_all_modules()
        described = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / config).model
        described.backbone.init_cfg = None
        torch.manual_seed(0)
        model: nn.Module = MODELS.build(described).double().eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim > 1:
            tensor.normal_(std=1.5 / tensor[0].numel() ** 0.5)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3).add_(1.0 if name.endswith("weight") else 0.0)
    return model
