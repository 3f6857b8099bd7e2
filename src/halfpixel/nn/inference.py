"""A copy of a network that computes the same, faster."""

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from halfpixel.nn.layers import FrozenBatchNorm2d

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def for_inference(model: AnyModule, device: torch.device, dtype: torch.dtype) -> AnyModule:
    """A copy to predict with: normalisations folded into their convolutions, channels last, in `dtype`.

    Args:
        model: stays as it is.
        device: where the copy is.
        dtype: of its weights; float32 changes results by no more than rounding.
    """
    faster = copy.deepcopy(model).eval().requires_grad_(False)
    _fold_norms(faster)
    faster.to(device, dtype)
    nn.utils.convert_conv2d_weight_memory_format(faster, torch.channels_last)
    return faster


def _fold_norms(model: nn.Module) -> None:
    """Give each convolution the scale and shift of the frozen normalisation that is registered right after it."""
    for parent in list(model.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
                shift = norm.bias - norm.running_mean * scale
                if conv.bias is not None:
                    shift = shift + conv.bias * scale
                conv.weight.copy_(conv.weight * scale[:, None, None, None])
                conv.bias = nn.Parameter(shift.float(), requires_grad=False)
                setattr(parent, name, nn.Identity())
