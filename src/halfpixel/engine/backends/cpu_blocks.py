"""What the blocks that networks are made of become on a CPU: the same numbers, with fewer passes over memory.

Each class here takes the place of one in `halfpixel.nn`, in a copy whose normalisations are folded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from halfpixel.nn.backbones.cspnext import SiluConv
from halfpixel.nn.backbones.efficientnet_lite import InvertedResidual
from halfpixel.nn.backbones.resnet import Bottleneck, ResNet
from halfpixel.nn.conv_blocks import ConvBlock, FrozenBatchNorm2d

CACHE_BYTES = 8 << 20
"""What the widest map of a block may take when it should stay in the processor's cache."""


def convolve(conv: nn.Conv2d, x: Tensor, shortcut: Tensor | None = None, relu: bool = False) -> Tensor:
    """Convolve, add a shortcut and cut off what is negative, in one pass.

    The shortcut is overwritten with the sum: fresh memory for a large map costs more time than the addition.
    """
    given = (x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
    if shortcut is None:
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(*given, "relu" if relu else "none", [], None)
        return fused
    after: tuple[Any, ...] = ("add", 1.0, "relu" if relu else None, [], None)
    summed: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(shortcut, *given, *after)
    return summed


class FusedConv2d(nn.Conv2d):
    """A convolution on its own."""

    def forward(self, input: Tensor) -> Tensor:
        """See `torch.nn.Conv2d`."""
        return convolve(self, input)


class FusedConvBlock(ConvBlock):
    """A convolution with what follows it."""

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """See `ConvBlock.forward`."""
        return convolve(self.conv, x, shortcut, self.activation)


class FusedSiluConv(SiluConv):
    """A convolution with its SiLU."""

    def forward(self, x: Tensor) -> Tensor:
        """See `SiluConv.forward`."""
        conv = self.conv
        given = (x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups)
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(*given, "swish", [], None)
        return fused


class FusedBottleneck(Bottleneck):
    """Three passes instead of nine."""

    def forward(self, x: Tensor) -> Tensor:
        """See `Bottleneck.forward`."""
        out = convolve(self.conv2, convolve(self.conv1, x, relu=True), relu=True)
        # the input is overwritten inside of a stage alone, where nobody else has it: the first block has a downsample
        return convolve(self.conv3, out, self.downsample(x), relu=True)


class FusedResNet(ResNet):
    """With a fused stem."""

    def stem(self, x: Tensor) -> Tensor:
        """See `ResNet.stem`."""
        return convolve(self.conv1, x, relu=True)


class RowBlockInvertedResidual(InvertedResidual):
    """Large maps go through in blocks of rows.

    The expanded map is six times as large as the block's input, and to write it to memory and read it back would take
    longer than to compute it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """See `InvertedResidual.forward`."""
        height, stride = x.shape[2], self.conv_dw.stride[0]
        row_bytes = self.conv_dw.in_channels * x.shape[3] * x.element_size()
        rows = max(CACHE_BYTES // (row_bytes * stride), 1) * stride
        if rows >= height:
            return super().forward(x)
        return torch.cat([self.row_block(x, top, min(top + rows, height)) for top in range(0, height, rows)], dim=2)

    def row_block(self, x: Tensor, first: int, last: int) -> Tensor:
        """What the block makes of some of its input's rows."""
        conv, (near, far) = self.conv_dw, self.conv_dw.margins
        top, bottom = max(first - near, 0), min(last + far, x.shape[2])
        wide = self.expand(x[:, :, top:bottom])
        wide = nn.functional.pad(wide, (near, far, top - (first - near), last + far - bottom))
        out = nn.functional.conv2d(wide, conv.weight, conv.bias, conv.stride, 0, 1, conv.groups)
        return self.project(out, x[:, :, first:last])


NORMS = (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm2d, FrozenBatchNorm2d)
"""What may be left between a convolution and what follows it: then it is no one pass."""

FUSED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FusedConv2d,
    ConvBlock: FusedConvBlock,
    SiluConv: FusedSiluConv,
    Bottleneck: FusedBottleneck,
    ResNet: FusedResNet,
}
"""What oneDNN does in one pass."""


def use_cpu_blocks(network: nn.Module, dtype: torch.dtype) -> None:
    """Let a folded copy of a network, in `dtype`, compute as suits a CPU. It is changed in place."""
    faster: dict[type[nn.Module], type[nn.Module]] = {InvertedResidual: RowBlockInvertedResidual}
    if _onednn_convolves(dtype):
        faster |= FUSED
    for module in network.modules():
        if type(module) in faster and not any(isinstance(one, NORMS) for one in module.modules()):
            module.__class__ = faster[type(module)]


def _onednn_convolves(dtype: torch.dtype) -> bool:
    """Whether oneDNN does so on this processor; where it does not, torch's own convolutions do, slowly."""
    if not torch.backends.mkldnn.is_available():
        return False
    supported: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 or (dtype == torch.bfloat16 and supported)
