"""RT-DETR's hybrid encoder (Zhao et al. 2023, arXiv:2304.08069, section 4.2): attention where it is cheap, then fusion.

Convolutions have biases and no normalisation: what was trained with one has it folded into the convolution, and the
two branches of a RepVGG block (Ding et al. 2021, arXiv:2101.03697), which are both linear, are one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import RECTIFIED, Activation
from halfpixel.nn.transformer import FeedForward, MultiHeadAttention, sine_positions

HALF = 0.5
"""Of what two branches say that are added, at first."""


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """A fresh layer that keeps the size of what it is given, times a factor."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    assert conv.bias is not None
    nn.init.normal_(conv.weight, std=gain * (inputs * kernel**2) ** -0.5)
    nn.init.zeros_(conv.bias)
    return conv


class Convolution(nn.Module):
    """A convolution with a bias, and what follows it: fresh, what goes out is as large as what comes in."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, activation: Activation, stride: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, kernel, stride, gain * RECTIFIED**-0.5)
        self.activation = activation

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Sides are divided by the stride."""
        out: Tensor = self.activation(self.conv(x))
        return out


class SelfAttention(nn.Module):
    """Every cell looks at every other one, and is then looked at alone (the paper's AIFI)."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.feed = FeedForward(width, inner, nn.functional.gelu)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply both."""
        exact = torch.promote_types(x.dtype, torch.float32)
        rows, columns = (torch.arange(side, dtype=exact, device=x.device) for side in x.shape[2:])
        cells = x.flatten(2).transpose(1, 2)
        placed = cells + sine_positions(rows, columns, x.shape[1], interleaved=False)
        cells = self.norm_attention(cells + self.attention(placed, placed, cells))
        cells = self.norm_feed(cells + self.feed(cells))
        out: Tensor = cells.transpose(1, 2).unflatten(2, (x.shape[2], x.shape[3]))
        return out


class Fusion(nn.Module):
    """Two maps become one: a stack of 3 x 3 convolutions beside a shortcut (the paper's fusion block).

    Args:
        width: of each map.
        inner: of the stack.
        activation: after each convolution.
        depth: of the stack.
    """

    def __init__(self, width: int, inner: int, activation: Activation, depth: int = 3) -> None:
        super().__init__()
        self.entry = Convolution(2 * width, inner, 1, activation)
        self.shortcut = Convolution(2 * width, inner, 1, activation, gain=HALF)
        gains = [1.0] * (depth - 1) + [HALF]
        self.stack = nn.Sequential(*(Convolution(inner, inner, 3, activation, gain=one) for one in gains))
        self.exit = nn.Identity() if inner == width else Convolution(inner, width, 1, activation)

    def forward(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Fuse."""
        both = torch.cat([a, b], 1)
        out: Tensor = self.exit(self.stack(self.entry(both)) + self.shortcut(both))
        return out


class HybridEncoder(nn.Module):
    """Attention among the cells of the coarsest map only; then fusion down to the finest map and up again.

    Args:
        channels: of the maps that come in, fine to coarse, each half as fine as the one before.
        width: of the maps that go out.
        heads: of the attention.
        attention_inner: width inside of its second half.
        fusion_inner: width inside of the fusion blocks.
        activation: after each convolution.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        heads: int,
        attention_inner: int,
        fusion_inner: int,
        activation: Activation = nn.functional.silu,
    ) -> None:
        super().__init__()
        steps = len(channels) - 1
        self.inputs = nn.ModuleList(convolution(inputs, width, 1) for inputs in channels)
        self.attention = SelfAttention(width, heads, attention_inner)
        self.lateral = nn.ModuleList(Convolution(width, width, 1, activation) for _ in range(steps))
        self.finer = nn.ModuleList(Fusion(width, fusion_inner, activation) for _ in range(steps))
        self.down = nn.ModuleList(Convolution(width, width, 3, activation, stride=2) for _ in range(steps))
        self.coarser = nn.ModuleList(Fusion(width, fusion_inner, activation) for _ in range(steps))

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]]) -> list[Float[Tensor, "b c _ _"]]:
        """As many maps as came in, of the same sides."""
        *fine, coarsest = (layer(x) for layer, x in zip(self.inputs, maps, strict=True))
        above = [self.attention(coarsest)]  # coarse to fine
        for lateral, fuse, x in zip(self.lateral, self.finer, reversed(fine), strict=True):
            above[-1] = lateral(above[-1])
            above.append(fuse(nn.functional.interpolate(above[-1], scale_factor=2.0), x))
        out = [above.pop()]
        for down, fuse in zip(self.down, self.coarser, strict=True):
            out.append(fuse(down(out[-1]), above.pop()))
        return out
