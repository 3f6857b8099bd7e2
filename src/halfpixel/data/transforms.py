"""Changes to an annotated image: crop, flip and turn, resize, and what light and stain may do to it.

Images are float `[3, h, w]` in 0..1; objects and ignored regions come along. Everything random is drawn from the
generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

SMALLEST_VISIBLE_PX = 4
"""Objects of which less is left in a crop are dropped."""


@dataclass(frozen=True, eq=False)
class View:
    """An image and what is annotated on it, both in the image's present frame."""

    image: Tensor
    objects: Instances
    ignored: Instances


def crop(view: View, left: int, top: int, height: int, width: int) -> View:
    """Cut out a window (inside the image); objects keep their visible part, with tight boxes."""
    image = view.image[:, top : top + height, left : left + width]
    objects, ignored = (_crop_objects(o, left, top, (height, width)) for o in (view.objects, view.ignored))
    return View(image, objects, ignored)


def _crop_objects(objects: Instances, left: int, top: int, size_hw: tuple[int, int]) -> Instances:
    # most objects of a large image lie outside: their boxes tell so without a look at the masks
    x0, y0, x1, y1 = objects.boxes_xyxy.unbind(1)
    near = (x1 > left) & (y1 > top) & (x0 < left + size_hw[1]) & (y0 < top + size_hw[0])
    moved = objects[near].translate(-left, -top, size_hw)
    assert moved.masks is not None
    placed = list(moved.masks.placed())
    offsets = torch.tensor([offset for _, offset in placed], dtype=torch.int64).reshape(-1, 2)
    masks = CropMasks(tuple(crop for crop, _ in placed), offsets, size_hw)
    moved = replace(moved, masks=masks, boxes_xyxy=masks.boxes_xyxy())
    return moved[masks.areas_px() >= SMALLEST_VISIBLE_PX]


def dihedral(view: View, quarter_turns: int, mirrored: bool) -> View:
    """Mirror left to right (if asked), then turn by quarters counter-clockwise."""
    image = torch.rot90(view.image.flip(2) if mirrored else view.image, quarter_turns, (1, 2))
    objects, ignored = (_dihedral_objects(o, quarter_turns, mirrored) for o in (view.objects, view.ignored))
    return View(image, objects, ignored)


def _dihedral_objects(objects: Instances, quarter_turns: int, mirrored: bool) -> Instances:
    assert objects.masks is not None
    crops, offsets = [], []
    for crop, (x, y) in objects.masks.placed():
        height, width = objects.size_hw
        if mirrored:
            crop, x = crop.flip(1), width - x - crop.shape[1]
        for _ in range(quarter_turns % 4):
            x, y = y, width - x - crop.shape[1]
            crop = torch.rot90(crop, 1, (0, 1))
            height, width = width, height
        crops.append(crop.contiguous())
        offsets.append((x, y))
    size_hw = objects.size_hw if quarter_turns % 2 == 0 else (objects.size_hw[1], objects.size_hw[0])
    masks = CropMasks(tuple(crops), torch.tensor(offsets, dtype=torch.int64).reshape(-1, 2), size_hw)
    return replace(objects, size_hw=size_hw, masks=masks, boxes_xyxy=masks.boxes_xyxy())


def resize(view: View, size_hw: tuple[int, int]) -> View:
    """Scale everything to another size; the image antialiased when it shrinks."""
    before = view.objects.size_hw
    image = torch.nn.functional.interpolate(view.image[None], size=size_hw, mode="bilinear", antialias=True)[0]
    factors = torch.tensor([size_hw[1] / before[1], size_hw[0] / before[0]]).repeat(2)

    def scaled(objects: Instances) -> Instances:
        assert objects.masks is not None
        masks = objects.masks.resize(size_hw)
        return replace(objects, size_hw=size_hw, masks=masks, boxes_xyxy=objects.boxes_xyxy * factors)

    return View(image, scaled(view.objects), scaled(view.ignored))


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
        # the gain goes to the things: on the absorbed light of bright scenes, on the light of dark ones
        gains = torch.exp(uniform(-0.25, 0.25, 1 if grey else 3) * strength)[:, None, None]
        out = 1 - (1 - out) * gains if out.mean() > 0.5 else out * gains
    else:
        out = _restain(out, uniform(-0.35, 0.35, 3) * strength, uniform(-0.15, 0.15, 3, 3) * strength)
    out = out + uniform(-0.08, 0.08, 1) * strength
    if float(uniform(0, 1, 1)) < 0.25 * strength:
        sigma = float(uniform(0.4, 1.2, 1))
        out = _blur(out, sigma)
    if float(uniform(0, 1, 1)) < 0.25 * strength:
        noise = torch.randn(1 if grey else 3, *out.shape[1:], generator=generator)
        out = out + noise * float(uniform(0.005, 0.03, 1))
    return out.clamp(0, 1)


def _restain(image: Tensor, log_gains: Tensor, mixing: Tensor) -> Tensor:
    """Another amount and hue of dye: absorbances (Beer and Lambert) are scaled and mixed, as stains differ in both."""
    absorbance = -image.clamp(min=1 / 255).log()
    mix = torch.diag(log_gains.exp()) + mixing
    return torch.exp(-(mix @ absorbance.flatten(1)).clamp(min=0)).reshape(image.shape)


def _blur(image: Tensor, sigma: float) -> Tensor:
    reach = max(int(3 * sigma), 1)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).repeat(image.shape[0], 1, 1, 1)
    padded = torch.nn.functional.pad(image[None], (reach,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, kernel, groups=image.shape[0])
    return torch.nn.functional.conv2d(rows, kernel.transpose(2, 3), groups=image.shape[0])[0]
