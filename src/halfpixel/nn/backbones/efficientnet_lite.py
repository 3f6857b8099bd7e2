"""EfficientNet-Lite as a backbone. Module names are timm's."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.errors import ModelFileError
from halfpixel.nn.backbones.backbone import Backbone, Features


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
        """Apply the block."""
        return self.project(self.conv_dw(self.expand(x)), x)

    def expand(self, x: Tensor) -> Tensor:
        """The first convolution; the map is then wider by the factor of the expansion."""
        return nn.functional.relu6(self.conv_pw(x), inplace=True) if self.expands else x

    def project(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """What follows the depthwise convolution."""
        x = nn.functional.relu6(x, inplace=True)
        out: Tensor = self.conv_pwl(x) if self.expands else self.conv_pw(x)
        return out.add_(shortcut) if self.shortcut else out


class EfficientNetLite(Backbone):
    """EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946, without squeeze-excite, ReLU6), normalisation folded.

    Every convolution has a bias that holds what its batch normalisation did: one pass less over every map, in
    training too. The head and the last stage, which only served classification, are left out.

    Args:
        width: factor on all channels.
        outputs: the stages whose maps are given; stages after the last of them are not built. Stage 0 has stride 2,
            1 stride 4, 2 stride 8, 3 and 4 stride 16, 5 stride 32.
        even: bring maps to unit size, which fresh layers behind expect: those of ImageNet's weights have root mean
            squares of 5 to 10, those of fresh weights would all but vanish. The factors are kept with the weights.
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

    gain: Tensor | None

    def __init__(self, width: float = 1.0, outputs: tuple[int, ...] = (1, 2, 4, 5), even: bool = False) -> None:
        super().__init__()
        self.outputs = outputs
        self.register_buffer("gain", torch.ones(len(outputs)) if even else None)
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
        self.strides = tuple(2 * math.prod(stage[2] for stage in self.STAGES[: k + 1]) for k in outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if even and module.groups > 1:
                    nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def stages(self) -> list[list[nn.Module]]:
        """The stem, then the parts that give each map."""
        starts = (0, *(k + 1 for k in self.outputs))
        return [[self.conv_stem], *(list(self.blocks[a:b]) for a, b in pairwise(starts))]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Features:
        """See `Backbone.forward`."""
        x = nn.functional.relu6(self.conv_stem(x), inplace=True)
        maps: Features = []
        for k, stage in enumerate(self.blocks):
            x = stage(x)
            if k in self.outputs:
                maps.append(x if self.gain is None else x * self.gain[len(maps)])
        return maps

    def load_imagenet(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of timm's `tf_efficientnet_lite0`, folding each normalisation into its convolution.

        Raises:
            ModelFileError: the weights belong to another network.
        """
        folded, powers = OrderedDict[str, Tensor](), [0.0] * len(self.blocks)
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d):
                continue
            expands = hasattr(self.get_submodule(name.rpartition(".")[0]), "conv_pwl")
            norm = _timm_norm_of(name, expands)
            keys = [f"{name}.weight", *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]
            missing = [key for key in keys if key not in state]
            if missing or state[keys[0]].shape != module.weight.shape:
                raise ModelFileError(f"not the weights of tf_efficientnet_lite0: {missing or keys[0]} does not fit")
            weight, gamma, beta, mean, variance = (state[key].float() for key in keys)
            scale = gamma / torch.sqrt(variance + self.NORM_EPS)
            folded[f"{name}.weight"] = weight * scale[:, None, None, None]
            folded[f"{name}.bias"] = beta - mean * scale
            if name.endswith("conv_pwl" if expands else "conv_pw"):  # a stage's map is the sum of what its blocks say
                powers[int(name.split(".")[1])] += float(gamma.square().mean() + beta.square().mean())
        if self.gain is not None:
            folded["gain"] = torch.tensor([powers[k] for k in self.outputs]) ** -0.5
        self.load_state_dict(folded)


def _timm_norm_of(conv: str, expands: bool) -> str:
    """The name of the normalisation that follows a convolution in timm's network."""
    parent, _, leaf = conv.rpartition(".")
    order = ("conv_pw", "conv_dw", "conv_pwl") if expands else ("conv_dw", "conv_pw")
    return f"{parent}.bn{order.index(leaf) + 1}" if parent else "bn1"
