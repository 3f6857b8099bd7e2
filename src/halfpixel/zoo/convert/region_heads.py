"""What Detectron2 and MMDetection do alike in their two-stage networks, and ours does in another way."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from halfpixel.errors import ModelFileError
from halfpixel.models import mask_rcnn
from halfpixel.models.mask_rcnn import MaskRCNN, Settings
from halfpixel.structures.images import InputRules
from halfpixel.zoo.convert.state_dicts import COCO_CLASSES, names_for
from halfpixel.zoo.fitting import filled
from halfpixel.zoo.modelfile import ModelInfo

SETTINGS = Settings(
    proposals_per_level=1000,
    proposals=1000,
    training_proposals_per_level=2000,
    training_proposals=1000,
    region_sampling=0,
    anchor_centre=0.0,
    early_stride=True,
)
"""Of both libraries' networks on the ResNet-50 of Detectron ("caffe")."""

MEAN_BGR, STD_BGR = (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)
"""Of pixels in 0..255."""

SCORE_THRESHOLD, LIMIT = 0.05, 100


def input_rules(mean_bgr: Sequence[float] = MEAN_BGR, std_bgr: Sequence[float] = STD_BGR) -> InputRules:
    """Ours see red first and pixels in 0..1."""
    mean, std = (tuple(value / 255 for value in reversed(values)) for values in (mean_bgr, std_bgr))
    return InputRules(mean=mean, std=std, shortest_side=800, longest_side=1333)  # type: ignore[arg-type]


def network(
    variant: str,
    weights: Mapping[str, Tensor],
    what: str,
    class_names: Sequence[str] | None,
    known: object,
    source: str,
    rules: InputRules,
) -> tuple[MaskRCNN, ModelInfo]:
    """Our network with weights under our names that are still in their order.

    Their background is the last class, ours the first inside the head; they have no box for it, ours never looks at the
    one that it has. Their first convolution sees blue first.

    Raises:
        ModelFileError: a weight is missing, unexpected, of another shape or not finite; it is named.
        ArgumentError: the number of class names is wrong.
    """
    # Their convolutions of one dimension are our matrices.
    ours = {k: t[..., 0] if k.startswith("point_head.") and t.ndim == 3 else t for k, t in weights.items()}
    for name in ("box_head.logits.bias", "box_head.logits.weight", "box_head.deltas.weight", "box_head.deltas.bias"):
        if name not in ours or ours[name].ndim != (2 if name.endswith("weight") else 1):
            raise ModelFileError(f"not {what}: {name} is {'of another shape' if name in ours else 'missing'}")
    names = names_for(class_names, known, len(ours["box_head.logits.bias"]) - 1)
    for end in ("weight", "bias"):
        logits, deltas = ours[f"box_head.logits.{end}"], ours[f"box_head.deltas.{end}"]
        if len(deltas) != 4 * len(names):
            raise ModelFileError(f"not {what}: boxes are predicted {len(deltas) // 4} times for {len(names)} classes")
        ours[f"box_head.logits.{end}"] = torch.cat([logits[-1:], logits[:-1]])
        ours[f"box_head.deltas.{end}"] = torch.cat([torch.zeros_like(deltas[:1]).expand(4, *deltas.shape[1:]), deltas])
    first = ours.get("backbone.conv1.weight")
    if first is not None and first.ndim == 4:
        ours["backbone.conv1.weight"] = first.flip(1)
    model = filled(lambda: mask_rcnn.VARIANTS[variant](names, SETTINGS), ours, what)
    assert isinstance(model, MaskRCNN)
    if len(names) != COCO_CLASSES:  # of the model zoo's own it is known
        warnings.warn(
            f"the file does not say how its network was configured: images of 800 to 1333 pixels, colours, anchors and "
            f"thresholds were taken as {what} has them in the model zoo. If it was trained with others, scores and "
            "boxes will be off",
            stacklevel=4,
        )
    told = dataclasses.asdict(SETTINGS)
    return model, ModelInfo(variant, names, rules, told, SCORE_THRESHOLD, LIMIT, source=source)
