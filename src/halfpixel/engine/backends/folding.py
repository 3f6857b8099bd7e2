"""Frozen normalisations folded into their convolutions."""

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn

from halfpixel.nn.conv_blocks import FrozenBatchNorm2d

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def folded(model: AnyModule) -> AnyModule:
    """A copy to predict with, in float32, with each frozen normalisation folded into its convolution."""
    faster = copy.deepcopy(model).eval().float().requires_grad_(False)
    for parent in list(faster.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())
    return faster


def _fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> None:
    """Give a convolution the scale and shift of the normalisation that follows it."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    conv.weight.copy_(conv.weight * scale[:, None, None, None])
    shift = norm.bias + (bias - norm.running_mean) * scale
    conv.bias = nn.Parameter(shift.float(), requires_grad=False)
