"""What exposure, stain and camera may do to a picture."""

import torch
from torch import Tensor


def photometric(image: Tensor, generator: torch.Generator, strength: float = 1.0) -> Tensor:
    """Another exposure, contrast, stain and focus of the same scene.

    Args:
        image: `[3, h, w]` in 0..1.
        generator: the source of randomness.
        strength: 0 leaves the image as it is, 1 is a strong but plausible change.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    gamma = torch.exp(uniform(-0.4, 0.4, 1) * strength)
    out = image.clamp(0, 1) ** gamma
    grey = bool((image[0] == image[1]).all() and (image[1] == image[2]).all())
    if grey or out.mean() <= 0.5:
        # the gain goes to the objects: to the absorbed light of bright scenes, to the light of dark ones
        gains = torch.exp(uniform(-0.25, 0.25, 1 if grey else 3) * strength)[:, None, None]
        out = 1 - (1 - out) * gains if out.mean() > 0.5 else out * gains
    else:
        out = _restain(out, uniform(-0.35, 0.35, 3) * strength, uniform(-0.15, 0.15, 3, 3) * strength)
    out = out + uniform(-0.08, 0.08, 1) * strength
    if float(uniform(0, 1, 1)) < 0.25 * strength:
        sigma = float(uniform(0.4, 1.2, 1))
        out = blur(out, sigma)
    if float(uniform(0, 1, 1)) < 0.25 * strength:
        noise = torch.randn(1 if grey else 3, *out.shape[1:], generator=generator)
        out = out + noise * float(uniform(0.005, 0.03, 1))
    return out.clamp(0, 1)


def _restain(image: Tensor, log_gains: Tensor, mixing: Tensor) -> Tensor:
    """Another amount and hue of dye: absorbances (Beer and Lambert) are scaled and mixed, as stains differ in both."""
    absorbance = -image.clamp(min=1 / 255).log()
    mix = torch.diag(log_gains.exp()) + mixing
    return torch.exp(-(mix @ absorbance.flatten(1)).clamp(min=0)).reshape(image.shape)


def blur(image: Tensor, sigma: float) -> Tensor:
    """An image `[c, h, w]` seen through a Gaussian, in pixels."""
    radius = max(int(3 * sigma), 1)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).repeat(image.shape[0], 1, 1, 1)
    padded = torch.nn.functional.pad(image[None], (radius,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, kernel, groups=image.shape[0])
    return torch.nn.functional.conv2d(rows, kernel.transpose(2, 3), groups=image.shape[0])[0]
