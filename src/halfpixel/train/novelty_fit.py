"""What images look like that a model is trained or calibrated on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from halfpixel.data.images.appearance import appearance
from halfpixel.data.images.contrast import Rgb8
from halfpixel.data.images.prepare import exposure_gain, prepare
from halfpixel.data.images.rgb8 import read_image
from halfpixel.engine.size_finder import ChosenScale, octaves_from_usual
from halfpixel.errors import ImageError
from halfpixel.structures.images import InputRules
from halfpixel.structures.novelty import CELL_PX, Novelty

MOST_IMAGES = 500
"""Of more, so many at equal distances in the list: it takes tens of kilobytes to keep them."""


def measure_novelty(
    paths: Sequence[Path],
    rules: InputRules,
    choose: Callable[[Path, Rgb8], ChosenScale],
    made_on: Literal["training", "calibration"],
) -> Novelty | None:
    """What images look like as the network sees them, see `Novelty`.

    Args:
        paths: the images' files. Those that cannot be read are left out.
        rules: by which the model prepares images.
        choose: at which size it looks at one, see `halfpixel.engine.size_finder.choose_scale`.
        made_on: what the images are for.

    Returns:
        None of fewer than ten images.
    """
    places = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MOST_IMAGES)).round().astype(int))
    seen = []
    for path in (paths[place] for place in places):
        try:
            pixels = read_image(path)
        except ImageError:
            continue
        chosen = choose(path, pixels)
        at_size = rules if chosen.scale is None else replace(rules, scale=chosen.scale)
        gain = exposure_gain(pixels, rules.stretch_below)
        prepared, _ = prepare(_middle(pixels, at_size), at_size, gain)
        octaves = octaves_from_usual(chosen, (pixels.shape[0], pixels.shape[1]), rules)
        seen.append(appearance(prepared, at_size, CELL_PX, octaves))
    return Novelty.of_images(seen, made_on)


def _middle(image: Rgb8, rules: InputRules) -> Rgb8:
    """As much of an image as the network looks at in one piece."""
    if rules.scale is None:
        return image
    most_px = max(int(rules.longest_side / rules.scale), 1)
    top, left = (max(side - most_px, 0) // 2 for side in image.shape[:2])
    return image[top : top + most_px, left : left + most_px]
