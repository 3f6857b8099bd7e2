"""CSPNeXt and the pyramid made of its blocks (Lyu et al. 2022, arXiv:2212.07784). Module names are MMDetection's."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import Backbone, Features
from halfpixel.nn.conv_blocks import RECTIFIED, FrozenBatchNorm2d, Norm

QUIET = 0.3
"""What blocks add to their shortcuts is that much smaller at first, so that many of them do not add up."""


def start_before_silu(conv: nn.Conv2d) -> nn.Conv2d:
    """Random weights that keep the size of what went through SiLU; returns the same layer."""
    nn.init.normal_(conv.weight, std=(RECTIFIED * conv.weight[0].numel()) ** -0.5)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class SiluConv(nn.Module):
    """Convolution, optional normalisation, SiLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        norm: Norm | None = FrozenBatchNorm2d,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=norm is None)
        self.conv = start_before_silu(conv)
        self.bn = norm(outputs) if norm is not None else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Sides are divided by the stride."""
        return self.after(self.conv(x))

    def after(self, x: Float[Tensor, "b d i j"]) -> Float[Tensor, "b d i j"]:
        """What follows the convolution."""
        return nn.functional.silu(self.bn(x))


class SeparableConv(nn.Module):
    """Each channel on its own, then all in each cell: a large kernel that costs little."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, norm: Norm | None = FrozenBatchNorm2d) -> None:
        super().__init__()
        self.depthwise_conv = SiluConv(inputs, inputs, kernel, norm, groups=inputs)
        self.pointwise_conv = SiluConv(inputs, outputs, 1, norm)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Same height and width out as in."""
        out: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return out


class CSPNeXtBlock(nn.Module):
    """A 3 x 3 convolution and a separable 5 x 5 one, around a shortcut (figure 3 b)."""

    def __init__(self, channels: int, shortcut: bool, norm: Norm | None) -> None:
        super().__init__()
        self.conv1 = SiluConv(channels, channels, 3, norm)
        self.conv2 = SeparableConv(channels, channels, 5, norm)
        self.shortcut = shortcut
        if shortcut:
            with torch.no_grad():
                self.conv2.pointwise_conv.conv.weight.mul_(QUIET)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply the block."""
        out: Tensor = self.conv2(self.conv1(x))
        return out + x if self.shortcut else out


class ChannelAttention(nn.Module):
    """Each channel times a factor that follows from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        assert self.fc.bias is not None
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.constant_(self.fc.bias, 1.5)  # in the middle of the part that rises: a factor of 3/4

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape out as in."""
        wide = torch.promote_types(x.dtype, torch.float32)  # too many numbers to add in half precision
        means = x.mean((2, 3), keepdim=True, dtype=wide).to(x.dtype)
        return x * nn.functional.hardsigmoid(self.fc(means))


class CSPLayer(nn.Module):
    """Half of the channels go through blocks, the other half past them (Wang et al. 2020, arXiv:1911.11929).

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        blocks: how many, one after the other.
        shortcut: whether each block adds to what it is given.
        attention: whether channels are weighed in the end.
        norm: normalisation after each convolution, if any.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        shortcut: bool = False,
        attention: bool = False,
        norm: Norm | None = FrozenBatchNorm2d,
    ) -> None:
        super().__init__()
        half = outputs // 2
        self.main_conv = SiluConv(inputs, half, 1, norm)
        self.short_conv = SiluConv(inputs, half, 1, norm)
        self.final_conv = SiluConv(2 * half, outputs, 1, norm)
        self.blocks = nn.Sequential(*(CSPNeXtBlock(half, shortcut, norm) for _ in range(blocks)))
        self.attention = ChannelAttention(2 * half) if attention else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Same height and width out as in."""
        both = torch.cat([self.blocks(self.main_conv(x)), self.short_conv(x)], 1)
        out: Tensor = self.final_conv(self.attention(both))
        return out


class SpatialPyramidPool(nn.Module):
    """Each cell learns of the strongest within 2, 4 and 6 cells around it (He et al. 2014, arXiv:1406.4729)."""

    def __init__(self, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv1 = SiluConv(channels, channels // 2, 1, norm)
        self.conv2 = SiluConv(channels // 2 * 4, channels, 1, norm)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape out as in."""
        x = self.conv1(x)
        pooled = [nn.functional.max_pool2d(x, side, 1, side // 2) for side in (5, 9, 13)]
        out: Tensor = self.conv2(torch.cat([x, *pooled], 1))
        return out


class CSPNeXt(Backbone):
    """The backbone.

    Args:
        depth: factor on the number of blocks.
        width: factor on all channels.
        norm: normalisation after each convolution, if any.
    """

    # (blocks, channels) of each stage
    STAGES = ((3, 128), (6, 256), (6, 512), (3, 1024))

    def __init__(self, depth: float = 1.0, width: float = 1.0, norm: Norm | None = FrozenBatchNorm2d) -> None:
        super().__init__()
        channels = int(64 * width)
        half = int(64 * width // 2)
        self.stem = nn.Sequential(
            SiluConv(3, half, 3, norm, stride=2), SiluConv(half, half, 3, norm), SiluConv(half, channels, 3, norm)
        )
        stages, widths = [], []
        for k, (blocks, full) in enumerate(self.STAGES):
            last, outputs = k == len(self.STAGES) - 1, int(full * width)
            parts: list[nn.Module] = [SiluConv(channels, outputs, 3, norm, stride=2)]
            if last:
                parts.append(SpatialPyramidPool(outputs, norm))
            count = max(round(blocks * depth), 1)
            parts.append(CSPLayer(outputs, outputs, count, shortcut=not last, attention=True, norm=norm))
            stages.append(nn.Sequential(*parts))
            channels = outputs
            widths.append(outputs)
        self.stage1, self.stage2, self.stage3, self.stage4 = stages
        self.channels = tuple(widths[1:])
        self.strides = (8, 16, 32)

    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the parts that give strides 4, 8, 16 and 32; the first of them is no map."""
        return [[self.stem], [self.stage1], [self.stage2], [self.stage3], [self.stage4]]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """See `Backbone.forward`."""
        maps = [self.stage2(self.stage1(self.stem(x)))]
        for stage in (self.stage3, self.stage4):
            maps.append(stage(maps[-1]))
        return maps


class CSPNeXtPAFPN(nn.Module):
    """A pyramid that goes down and up again (Liu et al. 2018, arXiv:1803.01534), made of CSP layers.

    Args:
        inputs: channels of the backbone's maps, fine to coarse, each stride twice the one before.
        channels: channels of every output.
        blocks: in each CSP layer.
        widths: channels that maps are brought to before they are merged; None for those that they have.
        norm: normalisation after each convolution, if any.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        channels: int,
        blocks: int,
        widths: Sequence[int] | None = None,
        norm: Norm | None = FrozenBatchNorm2d,
    ) -> None:
        super().__init__()
        self.channels = channels
        widths = widths or inputs
        self.widen = nn.ModuleList(
            nn.Identity() if before == after else SiluConv(before, after, 1, norm)
            for before, after in zip(inputs, widths, strict=True)
        )
        steps = list(pairwise(widths))  # (finer, coarser)
        self.reduce_layers = nn.ModuleList(SiluConv(coarse, fine, 1, norm) for fine, coarse in reversed(steps))
        self.top_down_blocks = nn.ModuleList(CSPLayer(2 * fine, fine, blocks, norm=norm) for fine, _ in reversed(steps))
        self.downsamples = nn.ModuleList(SiluConv(fine, fine, 3, norm, stride=2) for fine, _ in steps)
        self.bottom_up_blocks = nn.ModuleList(CSPLayer(2 * fine, coarse, blocks, norm=norm) for fine, coarse in steps)
        self.out_convs = nn.ModuleList(SiluConv(count, channels, 3, norm) for count in widths)

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b c _ _"]]:
        """One map per input, fine to coarse."""
        maps = [widen(x) for widen, x in zip(self.widen, maps, strict=True)]
        down = [maps[-1]]  # coarse to fine
        for reduce, block, fine in zip(self.reduce_layers, self.top_down_blocks, reversed(maps[:-1]), strict=True):
            down[-1] = reduce(down[-1])
            upsampled = nn.functional.interpolate(down[-1], size=fine.shape[-2:], mode="nearest")
            down.append(block(torch.cat([upsampled, fine], 1)))
        up = [down[-1]]  # fine to coarse
        for downsample, block, coarse in zip(self.downsamples, self.bottom_up_blocks, reversed(down[:-1]), strict=True):
            up.append(block(torch.cat([downsample(up[-1]), coarse], 1)))
        return [out(x) for out, x in zip(self.out_convs, up, strict=True)]
