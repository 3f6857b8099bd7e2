"""The mask branch (He et al. 2017, arXiv:1703.06870, figure 4, right)."""

from jaxtyping import Float
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import Norm, conv_stack


class MaskHead(nn.Module):
    """One mask for each class in every RoI, from its crop of 14 x 14 cells: a small fully convolutional network.

    Args:
        channels: of the crops.
        classes: without the background, which has no mask.
        convs: widths of the 3 x 3 convolutions.
        upsampled: channels after the transposed convolution.
        norm: normalisation after each convolution, if any.
    """

    def __init__(
        self, channels: int, classes: int, convs: tuple[int, ...], upsampled: int, norm: Norm | None = None
    ) -> None:
        super().__init__()
        self.convs = conv_stack(channels, convs, norm)
        self.upsample = nn.ConvTranspose2d(convs[-1], upsampled, 2, 2)
        nn.init.kaiming_normal_(self.upsample.weight, mode="fan_out", nonlinearity="relu")
        self.set_classes(classes)

    def set_classes(self, classes: int) -> None:
        """Replace the layer that depends on the classes by a new one."""
        self.logits = nn.Conv2d(self.upsample.out_channels, classes, 1)
        nn.init.normal_(self.logits.weight, std=0.001)
        assert self.logits.bias is not None
        nn.init.zeros_(self.logits.bias)

    def forward(self, crops: Float[Tensor, "n c 14 14"]) -> Float[Tensor, "n k 28 28"]:
        """Logits of every class, in float32."""
        masks: Tensor = self.logits(self.upsample(self.convs(crops)).relu_())
        return masks.float()
