"""Frozen normalisations folded into their convolutions."""

import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import FrozenBatchNorm2d

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def folded(model: AnyModule) -> AnyModule:
    """A copy to predict with, in float32, with each frozen normalisation folded into its convolution."""
    faster = copy.deepcopy(model).eval().float().requires_grad_(False)
    for parent in list(faster.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                weight, bias = fold(conv.weight, conv.bias, norm)
                conv.weight.copy_(weight)
                conv.bias = nn.Parameter(bias, requires_grad=False)
                setattr(parent, name, nn.Identity())
    return faster


def fold(weight: Tensor, bias: Tensor | None, norm: FrozenBatchNorm2d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The weight and bias of a convolution that does what the normalisation after it did, its statistics fixed."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    before = torch.zeros_like(scale) if bias is None else bias.double()
    shift = norm.bias + (before - norm.running_mean) * scale
    return weight * scale[:, None, None, None], shift.float()
