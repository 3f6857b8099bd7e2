"""Descriptions of a model that looks at images at another size than its own."""

from __future__ import annotations

import dataclasses

from halfpixel.errors import ArgumentError
from halfpixel.zoo.modelfile import ModelInfo

FAST = 2 / 3
"""How large `Predictor.fast` looks at images, by their usual side."""


def faster(info: ModelInfo) -> ModelInfo:
    """Of one that looks at images at two thirds of the size. A calibration does not hold for it, and is left out.

    Raises:
        ArgumentError: the network takes images of one size only.
    """
    rules, sizes, novelty = info.input, info.diameters, info.novelty
    _refuse_one_size(info, "`fast`")
    if rules.scale is not None:
        rules = dataclasses.replace(rules, scale=rules.scale * FAST)
    else:
        sides = round(rules.shortest_side * FAST), round(rules.longest_side * FAST)
        rules = dataclasses.replace(rules, shortest_side=sides[0], longest_side=sides[1])
    if sizes is not None and sizes.network_um is not None:
        sizes = dataclasses.replace(sizes, network_um=sizes.network_um / FAST)
    if novelty is not None:  # of the same parts of the image
        novelty = dataclasses.replace(novelty, cell_px=novelty.cell_px * FAST)
    return dataclasses.replace(info, input=rules, calibration=None, diameters=sizes, novelty=novelty)


def enlarging(info: ModelInfo, scale: float) -> ModelInfo:
    """Of one that enlarges all images by this factor.

    A calibration that was made at another scale, by more than a tenth, is left out.

    Raises:
        ArgumentError: a factor out of range, or the network takes images of one size only.
    """
    _refuse_one_size(info, "`scale`")
    before, usual = info.calibration, info.input.scale
    kept = before if before is not None and before.holds_at(scale, usual) else None
    if kept is not None and kept.scales is None and usual is not None:
        kept = dataclasses.replace(kept, scales=(usual, usual))  # what is usual changes
    rules = dataclasses.replace(info.input, scale=scale)
    return dataclasses.replace(info, input=rules, calibration=kept, size_finder=None)


def _refuse_one_size(info: ModelInfo, option: str) -> None:
    rules = info.input
    if rules.exact_hw is not None and rules.scale is None:
        height, width = rules.exact_hw
        raise ArgumentError(f"{option}: this network takes {width} x {height} pixels, and nothing smaller or larger")
