"""Images of different sizes as one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float, Int
from msgspec import Meta
from torch import Tensor

from halfpixel.errors import ArgumentError
from halfpixel.structures.field_check import LARGEST_COUNT, Share, check_fields

LARGEST_SCALE = 32
Scale = Annotated[float, Meta(ge=1e-3, le=LARGEST_SCALE)]
"""Enlarged by more, an image would have less than a pixel for each cell of a network's coarsest map."""

ShortSide = Annotated[int, Meta(ge=1, le=1 << 14)]
LongSide = Annotated[int, Meta(ge=1, le=1 << 20)]
Divisor = Annotated[int, Meta(ge=32, le=1024, multiple_of=32)]
"""Networks halve an image five times."""

Level = Annotated[float, Meta(ge=-1e4, le=1e4)]
Spread = Annotated[float, Meta(ge=1e-6, le=1e4)]


class Resized(NamedTuple):
    """The size of an image before and after it was resized for the network, in pixels, padding left out."""

    original_hw: tuple[int, int]
    network_hw: tuple[int, int]


class Limits(NamedTuple):
    """Inputs of a network that decide how much it returns; tensors, so that an exported graph takes them too."""

    score_threshold: Float[Tensor, ""]
    """Detections must score more than this, in 0..1."""
    detections: Int[Tensor, ""]
    """At most this many detections an image, the best ones."""

    @classmethod
    def of(cls, score_threshold: float, detections: int) -> Limits:
        """Limits from plain numbers.

        Raises:
            ArgumentError: one of them is out of its range.
        """
        if not 0 <= score_threshold < 1:
            raise ArgumentError(f"the score threshold must be at least 0 and below 1, got {score_threshold}")
        if not 1 <= detections <= LARGEST_COUNT:
            raise ArgumentError(f"the detection limit must be from 1 to {LARGEST_COUNT:,}, got {detections}")
        return cls(torch.tensor(score_threshold), torch.tensor(detections))

    @property
    def most(self) -> int:
        """The detection limit as a number; while a graph is exported a symbol, which `int()` would freeze."""
        limit: int = self.detections.item()  # type: ignore[assignment]
        return limit


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """A padded batch.

    Attributes:
        tensor: `[b, 3, height, width]`, each image at the top left, zeros right of and below it.
        sizes_hw: `[b, 2]` the true sizes inside the padding.
    """

    tensor: Float[Tensor, "b 3 h w"]
    sizes_hw: Int[Tensor, "b 2"]

    @classmethod
    def pad(cls, images: Sequence[Float[Tensor, "3 _ _"]], divisor: int = 32) -> ImageBatch:
        """Pad images to one size, the smallest multiple of `divisor` that holds them all."""
        sizes_hw = torch.tensor([image.shape[-2:] for image in images], dtype=torch.int64).reshape(-1, 2)
        height, width = (-(-int(side) // divisor) * divisor for side in sizes_hw.max(0).values)
        tensor = images[0].new_zeros(len(images), 3, height, width)
        for padded, image in zip(tensor, images, strict=True):
            padded[:, : image.shape[1], : image.shape[2]] = image
        return cls(tensor, sizes_hw)

    @classmethod
    def concatenate(cls, batches: Sequence[ImageBatch]) -> ImageBatch:
        """Batches of one padded size as one; at least one."""
        if len(batches) == 1:
            return batches[0]
        return cls(torch.cat([one.tensor for one in batches]), torch.cat([one.sizes_hw for one in batches]))

    def __len__(self) -> int:
        return len(self.tensor)


@dataclass(frozen=True)
class InputRules:
    """How an image becomes a network's input; stored in the model file, applied by the engine.

    Attributes:
        mean: per channel (RGB), on the 0..1 scale, subtracted before padding.
        std: per channel, divided by.
        scale: enlarge by this factor, and cut what then has a longer side than `longest_side` into tiles that
            overlap; None to fit sides instead.
        shortest_side: with no `scale`: the shorter side is brought to this many pixels...
        longest_side: ...unless the longer one would pass this.
        divisor: the padded size is a multiple of this.
        stretch_below: an image whose 99.9th percentile (0..1 scale) is under this is brightened until it reaches it.
        exact_hw: with no `scale`, and in place of the sides: the only height and width that the network takes, in
            pixels. An image is made as large as fits inside.
        stretch: with `exact_hw`: an image is made exactly so large, whatever its shape.

    Raises:
        ArgumentError: a value of another type or out of its range.
    """

    mean: tuple[Level, Level, Level] = (0.485, 0.456, 0.406)
    std: tuple[Spread, Spread, Spread] = (0.229, 0.224, 0.225)
    scale: Scale | None = None
    shortest_side: ShortSide = 800
    longest_side: LongSide = 1333
    divisor: Divisor = 32
    stretch_below: Share = 0.0
    exact_hw: tuple[ShortSide, ShortSide] | None = None
    stretch: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.longest_side < self.divisor:
            raise ArgumentError(f"longest_side must be at least the divisor, {self.divisor}; got {self.longest_side}")

    def to_plain(self) -> dict[str, Any]:
        """As plain values; without what few models need, so that older versions read the files of all others."""
        plain = asdict(self)
        return plain if self.exact_hw else {k: v for k, v in plain.items() if k not in ("exact_hw", "stretch")}
