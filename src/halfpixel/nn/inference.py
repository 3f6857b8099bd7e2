"""A copy of a network that computes the same, faster."""

import copy
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, FusedConv2d
from halfpixel.ops.winograd import TILE, winograd_conv2d, winograd_kernels

AnyModule = TypeVar("AnyModule", bound=nn.Module)

WINOGRAD_CHANNELS = 256
"""With fewer, the way to the points and back takes as long as it saves."""

WINOGRAD_WASTE = 1.2
"""Nor does it pay where the tiles cover more than this many times the map."""


def folded(model: AnyModule) -> AnyModule:
    """A copy to predict with, in float32, with each frozen normalisation folded into its convolution."""
    faster = copy.deepcopy(model).eval().float().requires_grad_(False)
    for parent in list(faster.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())
    return faster


def for_inference(model: AnyModule, device: torch.device, dtype: torch.dtype) -> AnyModule:
    """A copy to predict with on a device: folded, channels last, in `dtype`.

    Args:
        model: stays as it is.
        device: where the copy is.
        dtype: of its weights; float32 changes results by no more than rounding.
    """
    faster = folded(model).to(device, dtype)
    nn.utils.convert_conv2d_weight_memory_format(faster, torch.channels_last)
    if device.type == "cpu" and _onednn_convolves(dtype):
        for parent in list(faster.modules()):
            for name, conv in list(parent.named_children()):
                if type(conv) is nn.Conv2d:
                    setattr(parent, name, CpuConv2d(conv))
    return faster


def _onednn_convolves(dtype: torch.dtype) -> bool:
    """Whether oneDNN does so on this processor; where it does not, torch's own convolutions do, slowly."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _fold(conv: nn.Conv2d, norm: FrozenBatchNorm2d) -> None:
    """Give a convolution the scale and shift of the normalisation that follows it."""
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double()
    conv.weight.copy_(conv.weight * scale[:, None, None, None])
    shift = norm.bias + (bias - norm.running_mean) * scale
    conv.bias = nn.Parameter(shift.float(), requires_grad=False)


class CpuConv2d(FusedConv2d):
    """Does the work of a convolution on a CPU: by `halfpixel.ops.winograd` where that is faster, else by oneDNN.

    oneDNN adds the shortcut in place: fresh memory for a large map costs more time than the addition.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.kernels: Tensor | None = None
        plain = conv.kernel_size == (3, 3) and conv.stride == conv.padding == conv.dilation == (1, 1)
        many = conv.groups == 1 and min(conv.in_channels, conv.out_channels) >= WINOGRAD_CHANNELS
        self.winograd = plain and many and conv.weight.dtype == torch.float32

    def forward(self, x: Tensor, shortcut: Tensor | None = None, relu: bool = False) -> Tensor:
        """See `FusedConv2d.forward`."""
        conv = self.conv
        if self.winograd and shortcut is None and _tiles_fit(x):
            if self.kernels is None:  # four times the weights, so only for layers that see large maps
                self.kernels = winograd_kernels(conv.weight)
            out = winograd_conv2d(x, self.kernels, conv.bias)
            return out.relu_() if relu else out
        given = (x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
        if shortcut is None:
            fused: Tensor = torch.ops.mkldnn._convolution_pointwise(*given, "relu" if relu else "none", [], None)
            return fused
        after: tuple[Any, ...] = ("add", 1.0, "relu" if relu else None, [], None)
        summed: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(shortcut, *given, *after)
        return summed


def _tiles_fit(x: Tensor) -> bool:
    height, width = x.shape[2:]
    tiles = -(-height // TILE) * -(-width // TILE)
    return tiles * TILE**2 <= WINOGRAD_WASTE * height * width
