"""Swin Transformer (Liu et al. 2021, arXiv:2103.14030) as a backbone. Module names are timm's."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import STRIDES, Backbone, Features


class WindowAttention(nn.Module):
    """Every cell of a window looks at all the others; how far they are apart has a learnt say (equation 4)."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        cells = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        apart = cells[:, None] - cells + window - 1  # from 0 up
        self.register_buffer(
            "relative_position_index", apart[..., 0] * (2 * window - 1) + apart[..., 1], persistent=False
        )
        self.qkv, self.proj = _linear(width, 3 * width), _linear(width, width)

    def forward(
        self, x: Float[Tensor, "n cells c"], together: Bool[Tensor, "windows cells cells"] | None
    ) -> Float[Tensor, "n cells c"]:
        """Attend inside of each window.

        Args:
            x: windows of all images, image by image.
            together: for the windows of one image, which cells may see each other; None for all.
        """
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if together is not None:
            bias = torch.where(together[:, None], bias, -torch.inf).repeat(x.shape[0] // together.shape[0], 1, 1, 1)
        heard = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        return self.proj(heard.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two layers, the hidden one four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = _linear(width, 4 * width), _linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply both."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class SwinBlock(nn.Module):
    """Attention in windows, then an MLP, each around a shortcut (equation 3).

    Args:
        width: channels.
        heads: of attention.
        window: cells along its side.
        shift: windows start so many cells off, so that neighbours meet that did not in the block before.
    """

    def __init__(self, width: int, heads: int, window: int, shift: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.mlp = MLP(width)
        self.window, self.shift = window, shift

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """Apply the block."""
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]

    def attend(self, x: Tensor) -> Tensor:
        """Attention in windows of maps of any size: zeros fill the last ones, and are seen."""
        height, width = x.shape[1:3]
        x = nn.functional.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        padded_hw = x.shape[1:3]
        together = None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), (1, 2))
            down, across = (torch.arange(side, device=x.device) >= side - self.shift for side in padded_hw)
            part = (2 * down[:, None] + across)[None, :, :, None]  # what came round from the other end is apart
            part = _windows(part, self.window)[..., 0]
            together = part[:, :, None] == part[:, None]
        x = _maps(self.attn(_windows(x, self.window), together), self.window, padded_hw[0], padded_hw[1])
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Four cells become one, of twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = _linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h2 w2 c2"]:
        """Merge; sides are even."""
        four = torch.cat([x[:, down::2, across::2] for across in (0, 1) for down in (0, 1)], dim=3)
        return self.reduction(self.norm(four))  # type: ignore[no-any-return]


class SwinStage(nn.Module):
    """Blocks at one stride, their windows in turns shifted by half."""

    def __init__(self, width: int, depth: int, heads: int, window: int, merge: bool) -> None:
        super().__init__()
        self.downsample = PatchMerging(width // 2) if merge else nn.Identity()
        self.blocks = nn.Sequential(*(SwinBlock(width, heads, window, k % 2 * (window // 2)) for k in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the stage."""
        return self.blocks(self.downsample(x))  # type: ignore[no-any-return]


class PatchEmbed(nn.Module):
    """Patches of 4 x 4 pixels become cells."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b h4 w4 c"]:
        """Apply it."""
        return self.norm(self.proj(x).permute(0, 2, 3, 1))  # type: ignore[no-any-return]


class Swin(Backbone):
    """Liu et al. 2021 (arXiv:2103.14030), with a normalisation on each output, as dense tasks want it.

    Windows are never made smaller: small maps are filled with zeros, as in the authors' code for dense tasks. No blocks
    are dropped at random in training.

    Args:
        width: channels of the first stage.
        depths: blocks in each of the four stages.
        heads: of attention in each stage.
        window: cells along the side of a window.
    """

    def __init__(
        self,
        width: int = 96,
        depths: tuple[int, int, int, int] = (2, 2, 6, 2),
        heads: tuple[int, int, int, int] = (3, 6, 12, 24),
        window: int = 7,
    ) -> None:
        super().__init__()
        self.channels = tuple(width << k for k in range(4))
        self.strides = STRIDES
        self.patch_embed = PatchEmbed(width)
        self.layers = nn.ModuleList(
            SwinStage(channels, depths[k], heads[k], window, merge=k > 0) for k, channels in enumerate(self.channels)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """See `Backbone.forward`."""
        x = self.patch_embed(x)
        maps = []
        for stage, norm in zip(self.layers, self.norms, strict=True):
            x = stage(x)
            maps.append(norm(x).permute(0, 3, 1, 2))
        return maps

    def stages(self) -> list[list[nn.Module]]:
        """See `Backbone.stages`."""
        return [[self.patch_embed], *([stage, norm] for stage, norm in zip(self.layers, self.norms, strict=True))]

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of one of timm's `swin_*`; the outputs' normalisations, which it lacks, stay as they are.

        Raises:
            ModelFileError: the weights belong to another network.
        """
        own = {name: tensor for name, tensor in self.state_dict().items() if name.startswith("norms.")}
        super().load_imagenet({**state, **own})


def swin_tiny() -> Swin:
    """Swin-T."""
    return Swin()


def swin_small() -> Swin:
    """Swin-S."""
    return Swin(depths=(2, 2, 18, 2))


def swin_base() -> Swin:
    """Swin-B with windows of 12 cells, as it is trained on images of 384 pixels."""
    return Swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 12)


def swin_large() -> Swin:
    """Swin-L, the same."""
    return Swin(192, (2, 2, 18, 2), (6, 12, 24, 48), 12)


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _windows(x: Tensor, window: int) -> Tensor:
    """Maps `[b, h, w, c]` as windows `[b * windows, cells, c]`."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def _maps(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The inverse."""
    x: Tensor = windows.unflatten(1, (window, window)).unflatten(0, (-1, height // window, width // window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)
