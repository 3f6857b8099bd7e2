"""Fluorescence rendered as a stained section in transmitted light.

Brightness is read as an amount of dye, and dyes absorb: absorbances add up (Beer and Lambert). Objects stay where they
are; what is around them is made up. It does not show how a section would have looked: networks learn from it what
nuclei have in common, whatever they are stained with.

The dyes' absorbances are those measured by Ruifrok and Johnston (2001, Quantification of histochemical staining by
color deconvolution, Anal. Quant. Cytol. Histol. 23:291), varied around.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from halfpixel.train.augment.texture import clouds
from halfpixel.train.augment.tissue import clutter, tissue

Colour = tuple[float, float, float]

HAEMATOXYLIN: Colour = (0.65, 0.70, 0.29)
EOSIN: Colour = (0.07, 0.99, 0.11)
DAB: Colour = (0.27, 0.57, 0.78)
"""Absorbances of red, green and blue, of length 1."""
VARIED = 0.12
"""Standard deviation of their logarithms."""

DARK = 0.5
"""Mean brightness up to which a grey image is taken for fluorescence."""
SHARPEST_PX = 0.5
"""Standard deviation of the blur that every camera has."""
PALE = 0.12
"""Share of the objects that take hardly any dye."""
USUAL_SHARE = 16
"""Where no object is seen, its diameter is taken for this part of the picture's side."""


@dataclass(frozen=True, eq=False)
class Stain:
    """How a slide was stained and lit; decided once for a crop and all that is pasted into it.

    Attributes:
        dyes: `[5, 3]` absorbances of red, green and blue of a unit of five dyes: of nuclei, of those nuclei that took
            another one, of the tissue, of patches in it, and of blood.
        nuclei: units that a usual nucleus takes.
        other: share of nuclei that take the other dye.
        ground: units in the tissue.
        patches: units in patches, where they are densest.
        blood: units in blood cells.
        gaps: share of the picture without tissue.
        sharpness: 0 as blurred as the fluorescence is, 1 sharp along outlines.
        focus: standard deviation of the blur, as a share of a nucleus's diameter.
        lamp: `[3]` what passes where there is no dye.
    """

    dyes: Tensor
    nuclei: float
    other: float
    ground: float
    patches: float
    blood: float
    gaps: float
    sharpness: float
    focus: float
    lamp: Tensor


def draw_stain(generator: torch.Generator) -> Stain:
    """One of four ways of staining: all in one dye; haematoxylin and eosin; DAB in nuclei, or around counterstained."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    violet = _dye([(1, HAEMATOXYLIN), (uniform(0, 1) ** 2, EOSIN)], generator)
    red = _dye([(1, EOSIN), (uniform(0.1, 0.6), HAEMATOXYLIN), (uniform(0.1, 0.9), DAB)], generator)
    brown = _dye([(1, DAB)], generator)
    purple = _dye([(1, HAEMATOXYLIN), (uniform(0, 1.5), EOSIN)], generator)
    faint, weak, strong, some = uniform(0.02, 0.2), uniform(0, 0.2), uniform(0.3, 0.9), uniform(0.1, 1)
    # other dye, tissue's, patches': each with its units (for the first, share of nuclei); units of blood
    looks = (
        ((violet, 0.0), (purple, 1.5 * faint), (red, weak), weak),
        ((violet, 0.0), (red, uniform(0.06, 0.35)), (red, 0.5 * strong), strong),
        ((brown, some), (violet, faint), (brown, weak), weak),
        ((violet, 0.0), (violet, faint), (brown, strong), weak),
    )
    (other, share), (ground, units), (patch, most), blood = looks[int(torch.randint(4, (1,), generator=generator))]
    return Stain(
        dyes=torch.stack([violet, other, ground, patch, red]),
        nuclei=uniform(0.35, 1.0),
        other=share,
        ground=units,
        patches=most,
        blood=blood,
        gaps=max(uniform(-0.4, 0.7), 0.0),
        sharpness=uniform(0.7, 1.0),
        focus=uniform(0.01, 0.04),
        lamp=uniform(0.85, 1.0) * torch.exp(-0.05 * torch.rand(3, generator=generator)),
    )


def _dye(parts: Sequence[tuple[float, Colour]], generator: torch.Generator) -> Tensor:
    """Absorbances of a mixture, of length 1, varied."""
    mixed = torch.stack([share * torch.tensor(colour) for share, colour in parts]).sum(0)
    mixed = mixed * torch.exp(VARIED * torch.randn(3, generator=generator))
    return mixed / mixed.square().sum().sqrt()


def absorbed(amounts: Tensor, dyes: Tensor, light: Tensor) -> Tensor:
    """What passes through dyes, `[3, h, w]`: absorbances are logarithms to base 10, and add up.

    Args:
        amounts: `[k, h, w]` units of each dye.
        dyes: `[k, 3]` absorbances of a unit.
        light: `[3, h, w]` what passes without.
    """
    absorbance = (dyes.T @ amounts.flatten(1)).reshape(light.shape)
    return light * torch.exp(-math.log(10) * absorbance)


def is_fluorescence(image: Tensor, mean: float) -> bool:
    """Whether an image is grey and dark.

    Args:
        image: `[3, h, w]` all of it or a window.
        mean: of all of it, in 0..1.
    """
    return mean <= DARK and bool((image[0] == image[1]).all() and (image[1] == image[2]).all())


def stained(image: Tensor, labels: Tensor, stain: Stain, generator: torch.Generator) -> Tensor:
    """A fluorescence image as a stained section.

    Args:
        image: `[3, h, w]` grey, in 0..1, objects bright.
        labels: `[h, w]` the object that each pixel shows, from 1; 0 for none.
        stain: dyes, their amounts, and light.
        generator: the source of all other randomness.

    Returns:
        `[3, h, w]` in 0..1; most objects are darker than what is around them.
    """
    size_hw, diameter = (image.shape[1], image.shape[2]), _diameter(labels)
    nearest, outside = _nearest(labels)
    nuclei, others = _dye_taken(image[0], labels, nearest, outside, diameter, stain, generator)
    density = tissue(outside, diameter, stain.gaps, generator)
    things = clutter(outside, diameter, generator)
    ground = density * things.kept
    patchy = torch.sigmoid(3 * clouds(size_hw, 2 * diameter, generator) - 1)
    amounts = [
        nuclei + stain.nuclei * things.faint,
        others,
        stain.ground * (ground + things.bodies),
        stain.patches * (ground * patchy + things.patches),
        stain.blood * things.blood,
    ]
    light = stain.lamp[:, None, None] * (1 + 0.03 * clouds(size_hw, max(size_hw), generator))
    seen = absorbed(torch.stack(amounts), stain.dyes, light).numpy()
    blur = max(stain.focus * diameter, SHARPEST_PX)
    return torch.from_numpy(gaussian_filter(seen, (0, blur, blur), mode="nearest")).clamp(0, 1)


def _diameter(labels: Tensor) -> float:
    """Of a disc with the median of the objects' areas, in pixels; the smallest there is, 2."""
    areas = torch.bincount(labels.ravel())[1:]
    if not areas.any():
        return max(min(labels.shape) / USUAL_SHARE, 2.0)
    return max(2 * math.sqrt(float(areas[areas > 0].median()) / math.pi), 2.0)


def _nearest(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The object nearest to each pixel (0 where there is none at all), and how far away it is in pixels."""
    if not labels.any():
        return labels, torch.full(labels.shape, float(sum(labels.shape)))
    distance, (rows, columns) = distance_transform_edt((labels == 0).numpy(), return_indices=True)
    return labels[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()], torch.from_numpy(distance).float()


def _dye_taken(
    light: Tensor,
    labels: Tensor,
    nearest: Tensor,
    outside: Tensor,
    diameter: float,
    stain: Stain,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Units of the nuclei's dye and of the other one.

    How much an object takes has nothing to do with how bright it is, so that brightness alone tells nothing; where
    within itself it takes more has: its chromatin is kept.
    """
    count = int(labels.max()) + 1

    def each(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    free = light[labels == 0]
    dark = torch.quantile(free[:: len(free) // 4096 + 1], 0.1) if len(free) else light.new_zeros(())
    pixels = torch.bincount(labels.ravel(), minlength=count).clamp(min=1)
    brightness = torch.bincount(labels.ravel(), light.ravel(), minlength=count) / pixels - dark
    contrast = 0.7 + float(torch.rand(1, generator=generator))
    relative = ((light - dark) / brightness.clamp(min=0.02)[nearest]).clamp(0, 1.7) ** contrast

    clumps = clouds((light.shape[0], light.shape[1]), max(0.13 * diameter, 1.5), generator)
    hollow = each(-0.4, 0.6).clamp(min=0)[nearest] * (_depth(labels) / (0.15 * diameter)).clamp(max=1)
    texture = ((1 - hollow) * (1 + each(0.1, 0.6)[nearest] * clumps)).clamp(min=0.15)
    dose = torch.exp(0.3 * torch.randn(count, generator=generator))
    dose = dose * torch.where(each(0, 1) < PALE, each(0.2, 0.5), 1.0)
    # what shines beyond an outline is out of focus
    blurred = (1 - stain.sharpness * outside.clamp(max=1)) * torch.exp(-outside / (0.5 * diameter))
    taken = stain.nuclei * dose[nearest] * relative * texture * blurred
    other = (each(0, 1) < stain.other)[nearest]
    return torch.where(other, 0.3 * taken, taken), torch.where(other, taken, 0.0)


def _depth(labels: Tensor) -> Tensor:
    """How far each pixel of an object is from its outline, in pixels, also where it touches another."""
    around = torch.nn.functional.pad(labels, (0, 1, 0, 1))
    within = (labels > 0) & (around[1:, :-1] == labels) & (around[:-1, 1:] == labels)
    return torch.from_numpy(distance_transform_edt(within.numpy())).float()
