"""Backbones: an image in, feature maps at strides 4, 8, 16 and 32 out. Module names are timm's."""

from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.errors import ArgumentError, MissingDependencyError, ModelFileError
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, conv_norm

Features = list[Float[Tensor, "b _ _ _"]]

STRIDES = (4, 8, 16, 32)

CACHE_BYTES = 8 << 20
"""What the widest map of a block may take when it should stay in the processor's cache."""


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut; the stride is in the 3 x 3 one (ResNet v1.5)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = FrozenBatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = FrozenBatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), FrozenBatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out = conv_norm(self.conv1, self.bn1, x)
        out = conv_norm(self.conv2, self.bn2, out)
        return conv_norm(self.conv3, self.bn3, out, self.downsample(x))


class ResNet(nn.Module):
    """He et al. 2016 (arXiv:1512.03385), bottleneck blocks, frozen normalisation.

    Args:
        depths: blocks in each of the four stages.
        width: channels of the first stage's inner convolutions (64 in the paper).
    """

    def __init__(self, depths: tuple[int, int, int, int] = (3, 4, 6, 3), width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        stages = []
        for k, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(channels, width << k, 2 if k > 0 and block == 0 else 1))
                channels = 4 * (width << k)
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(4 * (width << k) for k in range(4))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the parts that give each stride."""
        return [[self.conv1, self.bn1], [self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """Four feature maps, `[b, channels[k], h / STRIDES[k], w / STRIDES[k]]`."""
        x = self.maxpool(conv_norm(self.conv1, self.bn1, x))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does it: at stride 2 an even side gets its odd pixel at the far end."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve; sides must be even where the stride is 2."""
        if self.groups > 1 and self.training and input.device.type == "cpu":
            # torch's backward of depthwise convolutions is several times slower in bfloat16 than in float32
            with torch.autocast("cpu", enabled=False):
                return self._convolve(input.float())
        return self._convolve(input)

    def _convolve(self, x: Tensor) -> Tensor:
        near, far = self.margins
        if near != far:
            x = nn.functional.pad(x, (near, far, near, far))
            near = 0
        return nn.functional.conv2d(x, self.weight, self.bias, self.stride, near, 1, self.groups)

    @property
    def margins(self) -> tuple[int, int]:
        """Cells that the kernel reaches beyond the input at its near end and at its far end."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        near = (kernel - stride) // 2
        return near, kernel - stride - near


class InvertedResidual(nn.Module):
    """Expand by 1 x 1, depthwise k x k, project by 1 x 1; the first stage has no expansion."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        depthwise = SamePadConv2d(width, width, kernel, stride, groups=width)
        if expansion > 1:
            self.conv_pw = nn.Conv2d(inputs, width, 1)
            self.conv_dw = depthwise
            self.conv_pwl = nn.Conv2d(width, outputs, 1)
        else:
            self.conv_dw = depthwise
            self.conv_pw = nn.Conv2d(width, outputs, 1)
        self.expands = expansion > 1
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block.

        In prediction on a CPU a large map goes through in strips of rows: the expanded map is six times as large, and
        to write it to memory and read it back would take longer than to compute it. The result is the same.
        """
        height, stride = x.shape[2], self.conv_dw.stride[0]
        row_bytes = self.conv_dw.in_channels * x.shape[3] * x.element_size()
        rows = max(CACHE_BYTES // (row_bytes * stride), 1) * stride
        predicting = not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        if not predicting or x.device.type != "cpu" or rows >= height:
            out = self._project(self.conv_dw(self._expand(x)), x)
        else:
            strips = (self._strip(x, first, min(first + rows, height)) for first in range(0, height, rows))
            out = torch.cat(list(strips), dim=2)
        return out

    def _expand(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(self.conv_pw(x), inplace=True) if self.expands else x

    def _project(self, x: Tensor, shortcut: Tensor) -> Tensor:
        x = nn.functional.relu6(x, inplace=True)
        out: Tensor = self.conv_pwl(x) if self.expands else self.conv_pw(x)
        return out.add_(shortcut) if self.shortcut else out

    def _strip(self, x: Tensor, first: int, last: int) -> Tensor:
        """What the block makes of some of its input's rows."""
        conv, (near, far) = self.conv_dw, self.conv_dw.margins
        top, bottom = max(first - near, 0), min(last + far, x.shape[2])
        wide = self._expand(x[:, :, top:bottom])
        wide = nn.functional.pad(wide, (near, far, top - (first - near), last + far - bottom))
        out = nn.functional.conv2d(wide, conv.weight, conv.bias, conv.stride, 0, 1, conv.groups)
        return self._project(out, x[:, :, first:last])


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946, without squeeze-excite, ReLU6), normalisation folded.

    Every convolution has a bias that holds what its batch normalisation did: one pass less over every map, in
    training too. The head and the last stage, which only served classification, are left out.

    Args:
        width: factor on all channels.
        outputs: the stages whose maps are given; stages after the last of them are not built. Stage 0 has stride 2,
            1 stride 4, 2 stride 8, 3 and 4 stride 16, 5 stride 32.
    """

    # (blocks, kernel, stride, expansion, channels) of each stage
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
    )
    NORM_EPS = 1e-3

    def __init__(self, width: float = 1.0, outputs: tuple[int, ...] = (1, 2, 4, 5)) -> None:
        super().__init__()
        self.outputs = outputs
        scaled = [max(int(stage[4] * width), 4) for stage in self.STAGES]
        inputs = max(int(32 * width), 4)
        self.conv_stem = SamePadConv2d(3, inputs, 3, 2)
        stages = []
        for k, (depth, kernel, stride, expansion, _) in enumerate(self.STAGES[: outputs[-1] + 1]):
            blocks = []
            for block in range(depth):
                blocks.append(InvertedResidual(inputs, scaled[k], kernel, stride if block == 0 else 1, expansion))
                inputs = scaled[k]
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.ModuleList(stages)
        self.channels = tuple(scaled[k] for k in outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the parts that give each map."""
        starts = (0, *(k + 1 for k in self.outputs))
        return [[self.conv_stem], *(list(self.blocks[a:b]) for a, b in pairwise(starts))]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """A feature map for each output, fine to coarse; sides are multiples of 32."""
        x = nn.functional.relu6(self.conv_stem(x), inplace=True)
        maps = []
        for k, stage in enumerate(self.blocks):
            x = stage(x)
            if k in self.outputs:
                maps.append(x)
        return maps

    def load_timm(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of timm's `tf_efficientnet_lite0`, folding each normalisation into its convolution.

        Raises:
            ModelFileError: the weights belong to another network.
        """
        folded = OrderedDict[str, Tensor]()
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            norm = _timm_norm_of(name, expands=hasattr(self.get_submodule(name.rpartition(".")[0]), "conv_pwl"))
            keys = [f"{name}.weight", *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
            missing = [key for key in keys if key not in state]
            if missing or state[keys[0]].shape != module.weight.shape:
                raise ModelFileError(f"not the weights of tf_efficientnet_lite0: {missing or keys[0]} does not fit")
            weight, gamma, beta, mean, variance = (state[key].float() for key in keys)
            scale = gamma / torch.sqrt(variance + self.NORM_EPS)
            folded[f"{name}.weight"] = weight * scale[:, None, None, None]
            folded[f"{name}.bias"] = beta - mean * scale
        self.load_state_dict(folded)


def _timm_norm_of(conv: str, expands: bool) -> str:
    """The name of the normalisation that follows a convolution in timm's network."""
    parent, _, leaf = conv.rpartition(".")
    order = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
    return f"{parent}.bn{order.index(leaf) + 1}" if parent else "bn1"


class TimmBackbone(nn.Module):
    """Any convolutional network of timm as a backbone.

    Args:
        name: timm's name.
        pretrained: fetch timm's weights.

    Raises:
        ArgumentError: timm has no such network, or it does not give strides 4 to 32.
    """

    def __init__(self, name: str, pretrained: bool = False) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise MissingDependencyError("other backbones need timm: pip install timm") from error
        if name not in timm.list_models():
            raise ArgumentError(f"timm has no backbone called {name!r}")
        self.body = timm.create_model(name, features_only=True, pretrained=pretrained)
        info: Any = self.body.feature_info
        by_stride = dict(zip(info.reduction(), range(99), strict=False))
        if not set(STRIDES) <= set(by_stride):
            raise ArgumentError(f"{name} gives strides {sorted(by_stride)}; a pyramid needs {STRIDES}")
        self.picks = [by_stride[stride] for stride in STRIDES]
        self.channels = tuple(info.channels()[k] for k in self.picks)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """Four feature maps, `[b, channels[k], h / STRIDES[k], w / STRIDES[k]]`."""
        maps = self.body(x)
        return [maps[k] for k in self.picks]
