"""The convolution block that backbones, pyramids and heads are made of."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with statistics that never change, in training neither.

    Detectors train on a few images at a time: too few for statistics, so those of the pretraining are kept.
    The state-dict names are those of `torch.nn.BatchNorm2d`.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scale and shift each channel."""
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


Norm = Callable[[int], nn.Module]
Activation = Callable[[Tensor], Tensor]


RECTIFIED = 0.5
"""Share of the mean square that ReLU leaves of normal numbers, and SiLU of large ones (of small ones less): fresh
weights that make up for it keep a deep network's numbers in size (He et al. 2015, arXiv:1502.01852)."""


def start_small(layer: nn.Conv2d) -> None:
    """Fresh weights for a layer that says something in the end: at first it says almost nothing."""
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


def conv_norm(
    conv: nn.Module, norm: nn.Module, x: Tensor, shortcut: Tensor | None = None, *, relu: bool = True
) -> Tensor:
    """Convolve, normalise, add a shortcut if there is one, and cut off what is negative."""
    out: Tensor = norm(conv(x))
    out = out if shortcut is None else out + shortcut
    return out.relu_() if relu else out


class ConvBlock(nn.Module):
    """Convolution, optional normalisation, optional ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, norm: Norm | None = None, activation: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=norm is None)
        self.norm = norm(outputs) if norm is not None else nn.Identity()
        self.activation = activation
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu" if activation else "linear")
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(
        self, x: Float[Tensor, "b c h w"], shortcut: Float[Tensor, "b d h w"] | None = None
    ) -> Float[Tensor, "b d h w"]:
        """Same height and width out as in; a shortcut is added before the ReLU, and a faster copy may overwrite it."""
        return conv_norm(self.conv, self.norm, x, shortcut, relu=self.activation)

    def after(self, x: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d h w"]:
        """What follows the convolution, whose result may be overwritten."""
        return conv_norm(nn.Identity(), self.norm, x, relu=self.activation)


def conv_stack(inputs: int, widths: tuple[int, ...], norm: Norm | None = None) -> nn.Sequential:
    """3 x 3 convolution blocks, one after the other."""
    return nn.Sequential(*(ConvBlock(a, b, 3, norm) for a, b in zip((inputs, *widths), widths, strict=False)))
