"""Networks as MMDetection 3 names their weights, turned into ours, key for key.

Its networks see the colours in the order blue, green, red; ours in the usual one, so the first convolution is turned
round. A published file holds `meta` and `state_dict`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from halfpixel.errors import ModelFileError
from halfpixel.models import rtmdet
from halfpixel.nn.network import Network
from halfpixel.structures.images import InputRules
from halfpixel.zoo.convert.state_dicts import filled, names_for, translated, weights_in
from halfpixel.zoo.modelfile import ModelInfo, build

PUBLISHED_SCORE, PUBLISHED_LIMIT = 0.05, 100
"""What its configurations ask for."""


@dataclass(frozen=True)
class Family:
    """How the weights of one kind of network are found and named.

    Attributes:
        name: of the network, for messages.
        sign: a weight that no other network has.
        classes: the bias that has a number for each class.
        first: the convolution that sees colours; they are in the other order there.
        renames: patterns of its names, and ours (see `translated`).
        variant: which of our variants it is, from the weights; None for none.
        settings: that converted weights need.
        input: how images are prepared.
    """

    name: str
    sign: str
    classes: str
    first: str
    renames: tuple[tuple[str, str], ...]
    variant: Callable[[Mapping[str, Tensor]], str | None]
    settings: object
    input: InputRules


def convert(checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None) -> tuple[Network, ModelInfo]:
    """Our network with MMDetection's weights.

    Args:
        checkpoint: what one of its files holds, or the state dict of one of its modules.
        class_names: default those in the file, else COCO's names when there are 80, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description: what its configuration has for images' sizes, the score
        threshold and the detection limit.

    Raises:
        ModelFileError: another network, weights that are missing, unexpected, misshapen or not finite; they are named.
        ArgumentError: the number of class names is wrong.
    """
    state = weights_in(checkpoint)
    family = recognised(state)
    if family is None:
        known = ", ".join(f"{one.name} ({one.sign})" for one in FAMILIES)
        raise ModelFileError(f"not a network of MMDetection that is known here: there is no weight of {known}")
    variant = family.variant(state)
    if variant is None or family.classes not in state:
        lacking = f"{family.classes} is missing" if variant is not None else "its widths are those of no variant"
        raise ModelFileError(f"not MMDetection's {family.name}: {lacking}")
    weights = translated(state, family.renames, f"MMDetection's {family.name}")
    names = names_for(class_names, _classes_in(checkpoint), len(state[family.classes]))
    info = ModelInfo(
        variant,
        names,
        input=family.input,
        settings=dataclasses.asdict(family.settings),  # type: ignore[call-overload]
        score_threshold=PUBLISHED_SCORE,
        detection_limit=PUBLISHED_LIMIT,
        source="MMDetection",
        licence="Apache-2.0",
    )
    if (first := weights.get(family.first)) is not None and first.ndim > 1:
        weights[family.first] = first.flip(1)
    return filled(lambda: build(variant, names, info.settings), weights, f"MMDetection's {variant}"), info


def recognised(state: Mapping[str, Tensor]) -> Family | None:
    """Whose weights they are."""
    return next((one for one in FAMILIES if one.sign in state), None)


def _classes_in(checkpoint: Mapping[str, Any]) -> object:
    """What a file says of its classes, in the fashion of version 3 or before."""
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    newer = meta.get("dataset_meta")
    newer = newer if isinstance(newer, Mapping) else {}
    return newer.get("classes", newer.get("CLASSES", meta.get("CLASSES")))


# RTMDet-Ins

RTMDET_WIDTHS = {24: "tiny", 32: "s", 48: "m", 64: "l", 80: "x"}
"""Channels of the stem."""

# Class and box have the same two convolutions, under both names and under those of every level.
RTMDET_RENAMES = (
    (r"((?:backbone|neck)\..+)", r"\1"),
    (r"bbox_head\.(?:cls|reg)_convs\.\d\.(\d)\.conv\.weight", r"head.tower.\1.conv.weight"),
    (r"bbox_head\.(?:cls|reg)_convs\.(\d)\.(\d)\.bn\.(\w+)", r"head.tower.\2.norms.\1.\3"),
    (r"bbox_head\.kernel_convs\.(.+)", r"head.kernel_towers.\1"),
    (r"bbox_head\.rtm_cls\.(.+)", r"head.logits.\1"),
    (r"bbox_head\.rtm_reg\.(.+)", r"head.distances.\1"),
    (r"bbox_head\.rtm_kernel\.(.+)", r"head.filters.\1"),
    (r"bbox_head\.mask_head\.fusion_conv\.(.+)", r"head.fuse.\1"),
    (r"bbox_head\.mask_head\.stacked_convs\.(.+)", r"head.mask_convs.\1"),
    (r"bbox_head\.mask_head\.projection\.(.+)", r"head.maps.\1"),
)


def _rtmdet_variant(state: Mapping[str, Tensor]) -> str | None:
    stem = state.get("backbone.stem.2.conv.weight")
    size = RTMDET_WIDTHS.get(len(stem)) if stem is not None and stem.ndim else None
    return None if size is None else f"rtmdet_ins_{size}"


RTMDET_INS = Family(
    name="RTMDet-Ins",
    sign="bbox_head.rtm_kernel.0.weight",
    classes="bbox_head.rtm_cls.0.bias",
    first="backbone.stem.0.conv.weight",
    renames=RTMDET_RENAMES,
    variant=_rtmdet_variant,
    settings=rtmdet.Settings(cell_point=0.0),
    input=InputRules(shortest_side=640, longest_side=640),
)

FAMILIES = (RTMDET_INS,)
"""What can be converted."""
