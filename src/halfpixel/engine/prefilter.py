"""A cheap look at the whole image that decides where the network has to look."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from halfpixel.data.images.prepare import exposure_gain, normalise, to_float
from halfpixel.engine.backends.base import Backend, run_checked
from halfpixel.engine.tiles import Box
from halfpixel.errors import ArgumentError
from halfpixel.nn.network import Network, Semantic
from halfpixel.structures.images import ImageBatch, Limits
from halfpixel.structures.instances import Instances, PrefilterPass
from halfpixel.zoo.modelfile import ModelInfo

REDUCED = 0.5
"""The side of the image that the first pass looks at, as a share of the image's own."""

SOMETHING = 0.1
"""A pixel that is background with less than one minus this probability may belong to an object."""

CELL_PX = 32
"""Regions are made of squares of this side, in pixels of the image."""

AROUND = 2
"""So many squares around one with something in it are looked at, too: what an object needs to be seen whole."""

WORTH_IT = 0.5
"""Where more than this share of the image would be looked at, all of it is, as without a first pass."""


class Prefilter:
    """A network that looks at the reduced image.

    Args:
        model: says of every pixel what it shows.
        info: its description.
        backend: runs it.

    Raises:
        ArgumentError: it does not.
    """

    def __init__(self, model: Network, info: ModelInfo, backend: Backend) -> None:
        if not isinstance(model, Semantic):
            raise ArgumentError(f"a first pass needs a network that says what every pixel shows, not a {info.variant}")
        self.model, self.info, self.backend = model, info, backend

    def look(
        self, pixels: npt.NDArray[np.uint8], network: Callable[[Sequence[Box]], Instances]
    ) -> tuple[Instances | None, PrefilterPass | None]:
        """Let the network find objects where there may be some.

        Args:
            pixels: `[h, w, 3]` the whole image.
            network: finds the objects in some boxes of it.

        Returns:
            The objects, and where they were looked for. None of both where too little would be saved.
        """
        start = time.perf_counter()
        size_hw = (pixels.shape[0], pixels.shape[1])
        area_px = size_hw[0] * size_hw[1]
        regions = regions_of(self.foreground(pixels) > SOMETHING, size_hw)
        looked_at = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in regions)
        if looked_at > WORTH_IT * area_px:
            return None, None
        first = time.perf_counter() - start
        # with nothing to look at, a corner says what an empty result is like
        objects = network(regions or [(0, 0, min(CELL_PX, size_hw[1]), min(CELL_PX, size_hw[0]))])
        seconds = time.perf_counter() - start
        if not regions:
            return objects[:0], PrefilterPass((), seconds, None)
        saved = (seconds - first) / looked_at * area_px - seconds
        return objects, PrefilterPass(tuple(regions), seconds, saved)

    def foreground(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """`[h', w']` how likely each pixel of the reduced image shows an object, 0..1."""
        rules = self.info.input
        gain = exposure_gain(pixels, rules.stretch_below)
        height, width = (max(round(side * REDUCED), 1) for side in pixels.shape[:2])
        image = normalise(to_float(pixels, gain), rules)[None]
        reduced = torch.nn.functional.interpolate(image, (height, width), mode="bilinear", antialias=True)[0]
        batch = ImageBatch.pad([reduced], rules.divisor)
        outputs = run_checked(self.backend, self.model, batch, Limits.of(0.0, 1))
        return self.model.foreground(outputs)[0, :height, :width].cpu()


def regions_of(something: Tensor, size_hw: tuple[int, int]) -> list[Box]:
    """Boxes, in whole pixels of the image, around everything that was seen; they do not overlap.

    Args:
        something: `[h', w']` where there may be an object, in the reduced image.
        size_hw: the image.
    """
    from scipy import ndimage  # slow to import, and only a first pass needs it

    side = round(CELL_PX * REDUCED)
    rows, columns = (-(-length // CELL_PX) for length in size_hw)
    padding = (0, columns * side - something.shape[1], 0, rows * side - something.shape[0])
    padded = torch.nn.functional.pad(something.float(), padding)
    seen = torch.nn.functional.max_pool2d(padded[None], side)[0].numpy() > 0
    seen = ndimage.binary_dilation(seen, np.ones((3, 3)), iterations=AROUND)
    labels, _ = ndimage.label(seen, np.ones((3, 3)))
    boxes = [(s[1].start, s[0].start, s[1].stop, s[0].stop) for s in ndimage.find_objects(labels)]
    height, width = size_hw
    return [
        (x0 * CELL_PX, y0 * CELL_PX, min(x1 * CELL_PX, width), min(y1 * CELL_PX, height))
        for x0, y0, x1, y1 in _apart(boxes)
    ]


def _apart(boxes: list[Box]) -> list[Box]:
    """The boxes, those that overlap replaced by one around both, until none do."""
    boxes = list(boxes)
    k = 0
    while k < len(boxes):
        x0, y0, x1, y1 = boxes[k]
        over = [j for j, b in enumerate(boxes) if j != k and b[0] < x1 and x0 < b[2] and b[1] < y1 and y0 < b[3]]
        if not over:
            k += 1
            continue
        joined = [boxes[j] for j in (k, *over)]
        around = (
            min(b[0] for b in joined),
            min(b[1] for b in joined),
            max(b[2] for b in joined),
            max(b[3] for b in joined),
        )
        boxes = [b for j, b in enumerate(boxes) if j not in {k, *over}] + [around]
        k = 0
    return boxes
