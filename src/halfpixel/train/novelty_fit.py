"""What images look like that a model is trained or calibrated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from halfpixel.data.images.appearance import appearance
from halfpixel.data.images.prepare import exposure_gain, prepare
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import ImageError
from halfpixel.structures.images import InputRules
from halfpixel.structures.novelty import CELL_PX, Novelty

MOST_IMAGES = 500
"""Of more, so many at equal distances in the list: it takes tens of kilobytes to keep them."""


def measure_novelty(
    images: Sequence[tuple[Path, InputRules]], made_on: Literal["training", "calibration"]
) -> Novelty | None:
    """What images look like as the network sees them, see `Novelty`.

    Args:
        images: each image's file, and how it is prepared for the network. Those that cannot be read are left out.
        made_on: what they are for.

    Returns:
        None of fewer than ten images.
    """
    places = np.unique(np.linspace(0, len(images) - 1, min(len(images), MOST_IMAGES)).round().astype(int))
    seen = []
    for place in places:
        path, rules = images[place]
        try:
            pixels = read_image(path)
        except ImageError:
            continue
        gain = exposure_gain(pixels, rules.stretch_below)
        seen.append(appearance(prepare(_middle(pixels, rules), rules, gain)[0], rules, CELL_PX))
    return Novelty.of_images(seen, made_on)


def _middle(image: npt.NDArray[np.uint8], rules: InputRules) -> npt.NDArray[np.uint8]:
    """As much of an image as the network looks at in one piece."""
    if rules.scale is None:
        return image
    most_px = max(int(rules.longest_side / rules.scale), 1)
    top, left = (max(side - most_px, 0) // 2 for side in image.shape[:2])
    return image[top : top + most_px, left : left + most_px]
