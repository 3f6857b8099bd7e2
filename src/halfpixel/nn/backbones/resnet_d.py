"""ResNet-D (He et al. 2018, arXiv:1812.01187) as a backbone. Module names are timm's."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import STRIDES, Backbone, Features
from halfpixel.nn.backbones.resnet import Bottleneck
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, conv_norm


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Average before the 1 x 1 convolution, which would otherwise skip three quarters of the cells."""
    pool = nn.AvgPool2d(2, 2, ceil_mode=True) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, nn.Conv2d(inputs, outputs, 1, bias=False), FrozenBatchNorm2d(outputs))


class BottleneckD(Bottleneck):
    """A bottleneck with an averaging shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride)
        if not isinstance(self.downsample, nn.Identity):
            self.downsample = _shortcut(inputs, 4 * width, stride)


class BasicBlockD(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, which is a layer in the first block of every stage."""

    def __init__(self, inputs: int, outputs: int, stride: int, first: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = FrozenBatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = FrozenBatchNorm2d(outputs)
        self.downsample: nn.Module = _shortcut(inputs, outputs, stride) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return conv_norm(self.conv2, self.bn2, conv_norm(self.conv1, self.bn1, x), self.downsample(x))


class ResNetD(Backbone):
    """Three 3 x 3 convolutions for a stem, averaging shortcuts, frozen normalisation.

    Args:
        depths: blocks in each of the four stages.
        block: `bottleneck`, as in ResNet-50, or `basic`, as in ResNet-18. The first basic block has a layer for a
            shortcut too, as RT-DETR's have (Zhao et al. 2023, arXiv:2304.08069) and timm's have not.
    """

    def __init__(self, depths: tuple[int, int, int, int], block: Literal["basic", "bottleneck"]) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False),
            FrozenBatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, 1, 1, bias=False),
            FrozenBatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, 1, 1, bias=False),
        )
        self.bn1 = FrozenBatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, stages = 64, []
        for k, depth in enumerate(depths):
            width, stage = 64 << k, nn.Sequential()
            for n in range(depth):
                stride = 2 if k > 0 and n == 0 else 1
                if block == "basic":
                    stage.append(BasicBlockD(channels, width, stride, first=n == 0))
                    channels = width
                else:
                    stage.append(BottleneckD(channels, width, stride))
                    channels = 4 * width
            stages.append(stage)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple((64 if block == "basic" else 256) << k for k in range(4))
        self.strides = STRIDES
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the parts that give each stride."""
        return [[self.conv1, self.bn1], [self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """See `Backbone.forward`."""
        x = self.maxpool(conv_norm(self.conv1, self.bn1, x))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """See `Backbone.load_imagenet`; a shortcut that timm's network does not have begins as one that does nothing.

        Raises:
            ModelFileError: the weights belong to another network.
        """
        shortcut = "layer1.0.downsample"
        outputs, inputs = self.state_dict()[f"{shortcut}.1.weight"].shape[:2]
        if f"{shortcut}.1.weight" not in state and inputs == outputs:
            channels = torch.ones(outputs)
            nothing = {
                "1.weight": torch.diag(channels)[:, :, None, None],
                "2.weight": channels,
                "2.bias": 0 * channels,
                "2.running_mean": 0 * channels,
                "2.running_var": channels - self.bn1.eps,
            }
            state = {**state, **{f"{shortcut}.{name}": tensor for name, tensor in nothing.items()}}
        super().load_imagenet(state)
