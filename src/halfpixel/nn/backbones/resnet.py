"""ResNet (He et al. 2016, arXiv:1512.03385) as a backbone. Module names are timm's."""

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.backbones.backbone import STRIDES, Backbone, Features
from halfpixel.nn.conv_blocks import FrozenBatchNorm2d, conv_norm


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut.

    The stride is in the 3 x 3 one (ResNet v1.5), or `early` in the first, as in the paper.
    """

    def __init__(self, inputs: int, width: int, stride: int, early: bool = False) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, stride if early else 1, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1 if early else stride, 1, bias=False)
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


class ResNet(Backbone):
    """He et al. 2016 (arXiv:1512.03385), bottleneck blocks, frozen normalisation.

    Args:
        depths: blocks in each of the four stages.
        width: channels of the first stage's inner convolutions (64 in the paper).
        early_stride: blocks take their stride in the first convolution.
    """

    def __init__(
        self, depths: tuple[int, int, int, int] = (3, 4, 6, 3), width: int = 64, early_stride: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = FrozenBatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        stages = []
        for k, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                blocks.append(Bottleneck(channels, width << k, 2 if k > 0 and block == 0 else 1, early_stride))
                channels = 4 * (width << k)
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.channels = tuple(4 * (width << k) for k in range(4))
        self.strides = STRIDES
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the parts that give each stride."""
        return [[self.conv1, self.bn1], [self.layer1], [self.layer2], [self.layer3], [self.layer4]]

    def stem(self, x: Tensor) -> Tensor:
        """The first convolution, at stride 2."""
        return conv_norm(self.conv1, self.bn1, x)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """See `Backbone.forward`."""
        x = self.maxpool(self.stem(x))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps
