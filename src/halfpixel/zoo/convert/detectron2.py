"""Mask R-CNN, Faster R-CNN and PointRend on ResNet-50 with a pyramid as Detectron2 saves them, turned into ours.

Its model zoo's weights are licensed CC BY-SA 3.0 (its code, of which nothing is needed here, Apache-2.0), and are
pickles, which `halfpixel.zoo.convert.pickle_reader` reads without running anything. Weights from its trainer are `.pth`
files with the same names. They do not hold a configuration: that of the model zoo's `*_R_50_FPN_*` is taken, with the
ResNet-50 of Detectron, whose blocks take their stride in the first convolution, and colours from blue to red.

Differences that remain: it resizes bytes with Pillow, which takes all pixels into account where ours interpolates
between four; the resized side may differ by a pixel, as it rounds where ours cuts off; half a cell around a mask's edge
fades to 0 when it is pasted, where ours goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfpixel.errors import ModelFileError
from halfpixel.models.mask_rcnn import MaskRCNN
from halfpixel.zoo.convert.pickle_reader import read_pickle
from halfpixel.zoo.convert.region_heads import MEAN_BGR, STD_BGR, input_rules, network
from halfpixel.zoo.convert.state_dicts import translated, weights_in
from halfpixel.zoo.modelfile import ModelInfo

WHAT = "Detectron2's Mask R-CNN, Faster R-CNN or PointRend with ResNet-50 and a pyramid"
SOURCE = "weights in Detectron2's naming"

BODY, HEADS = r"backbone\.bottom_up\.", r"roi_heads\."
COARSE = HEADS + r"(?:mask_head\.coarse_head|mask_coarse_head)\."
POINTS = HEADS + r"(?:mask_head\.point_head|mask_point_head)\."

# The newer names of PointRend, then those of its first release.
RENAMES = (
    (BODY + r"stem\.conv1\.weight", r"backbone.conv1.weight"),
    (BODY + r"stem\.conv1\.norm\.(\w+)", r"backbone.bn1.\1"),
    *((BODY + rf"res{k + 1}\.(\d)\.conv(\d)\.weight", rf"backbone.layer{k}.\1.conv\2.weight") for k in range(1, 5)),
    *((BODY + rf"res{k + 1}\.(\d)\.conv(\d)\.norm\.(\w+)", rf"backbone.layer{k}.\1.bn\2.\3") for k in range(1, 5)),
    *((BODY + rf"res{k + 1}\.0\.shortcut\.weight", rf"backbone.layer{k}.0.downsample.0.weight") for k in range(1, 5)),
    *((BODY + rf"res{k + 1}\.0\.shortcut\.norm\.(\w+)", rf"backbone.layer{k}.0.downsample.1.\1") for k in range(1, 5)),
    *((rf"backbone\.fpn_lateral{k + 2}\.(\w+)", rf"pyramid.lateral.{k}.conv.\1") for k in range(4)),
    *((rf"backbone\.fpn_output{k + 2}\.(\w+)", rf"pyramid.output.{k}.conv.\1") for k in range(4)),
    (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"rpn.convs.0.conv.\1"),
    (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"rpn.objectness.\1"),
    (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"rpn.deltas.\1"),
    *((HEADS + rf"box_head\.fc{k + 1}\.(\w+)", rf"box_head.fcs.{k}.\1") for k in range(2)),
    (HEADS + r"box_predictor\.cls_score\.(\w+)", r"box_head.logits.\1"),
    (HEADS + r"box_predictor\.bbox_pred\.(\w+)", r"box_head.deltas.\1"),
    *((HEADS + rf"mask_head\.mask_fcn{k + 1}\.(\w+)", rf"mask_head.convs.{k}.conv.\1") for k in range(4)),
    (HEADS + r"mask_head\.deconv\.(\w+)", r"mask_head.upsample.\1"),
    (HEADS + r"mask_head\.predictor\.(\w+)", r"mask_head.logits.\1"),
    (COARSE + r"reduce_spatial_dim_conv\.(\w+)", r"mask_head.reduce.\1"),
    *((COARSE + rf"(?:coarse_mask_)?fc{k + 1}\.(\w+)", rf"mask_head.fcs.{k}.\1") for k in range(2)),
    (COARSE + r"prediction\.(\w+)", r"mask_head.logits.\1"),
    *((POINTS + rf"fc{k + 1}\.(\w+)", rf"point_head.fcs.{k}.\1") for k in range(3)),
    (POINTS + r"predictor\.(\w+)", r"point_head.logits.\1"),
)

ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
PIXELS = "pixel_mean", "pixel_std"
"""What files of some versions hold besides weights."""


def read(path: Path, class_names: Sequence[str] | None = None) -> tuple[MaskRCNN, ModelInfo]:
    """Our network with the weights in a file of Detectron2's model zoo, a pickle.

    Raises:
        ModelFileError: another network, or not a pickle of arrays alone; nothing in it is ever run.
        ArgumentError: the number of class names is wrong.
    """
    content = read_pickle(path)
    try:
        if not isinstance(content, Mapping):
            raise ModelFileError("not a file of Detectron2: expected a dict of weights")
        return convert(content, class_names)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error


def convert(checkpoint: Mapping[str, Any], class_names: Sequence[str] | None = None) -> tuple[MaskRCNN, ModelInfo]:
    """Our network with Detectron2's weights.

    Args:
        checkpoint: weights by name, arrays or tensors, also inside of what its trainer or its model zoo saves.
        class_names: without the background; default COCO's names when there are 80, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description: sizes, thresholds and limits are those of the model zoo.

    Raises:
        ModelFileError: another architecture, or settings that ours cannot have; the tensor is named.
        ArgumentError: the number of class names is wrong.
    """
    state = weights_in(_tensors(checkpoint))
    besides = {name: state.pop(name) for name in list(state) if name.startswith(ANCHORS) or name in PIXELS}
    _check_anchors(besides)
    rules = input_rules(
        *(_three(besides, name, usual) for name, usual in zip(PIXELS, (MEAN_BGR, STD_BGR), strict=True))
    )
    weights = translated(state, RENAMES, WHAT)
    for name in [one for one in weights if ".bn" in one or ".downsample.1." in one]:
        layer = name.rpartition(".")[0]  # statistics that files lack have been worked into weights and biases
        weights.setdefault(f"{layer}.running_mean", torch.zeros_like(weights[name]))
        weights.setdefault(f"{layer}.running_var", torch.ones_like(weights[name]))
    kind = "point_rend" if "point_head.logits.bias" in weights else "mask_rcnn"
    if not any(name.startswith("mask_head.") for name in weights):
        kind = "faster_rcnn"
    what = f"Detectron2's {kind}_R_50_FPN"
    return network(f"{kind}_r50_fpn", weights, what, class_names, None, SOURCE, rules)


def _tensors(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of any byte order as tensors, in dicts inside of dicts as well."""
    found: dict[str, Any] = {}
    for name, value in checkpoint.items():
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value.astype(value.dtype.newbyteorder("="), copy=True, order="C"))
        elif isinstance(value, Mapping) and name == "model":
            value = _tensors(value)
        found[name] = value
    return found


def _check_anchors(besides: Mapping[str, Tensor]) -> None:
    """Those in the file must be those that ours has."""
    heights = torch.tensor([0.5, 1.0, 2.0]).sqrt()
    shapes = torch.stack([-1 / heights, -heights, 1 / heights, heights], 1) / 2
    for name, anchors in besides.items():
        if name not in PIXELS:
            level = name.removeprefix(ANCHORS)
            usual = shapes * 32 * 2 ** int(level) if level in ("0", "1", "2", "3", "4") else None
            if usual is None or anchors.shape != usual.shape or not torch.allclose(anchors.float(), usual, atol=1e-3):
                raise ModelFileError(f"{name} is {anchors.tolist()!s:.100}, which are anchors that ours cannot have")


def _three(besides: Mapping[str, Tensor], name: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    values = besides.get(name)
    if values is not None and values.numel() != 3:
        raise ModelFileError(f"{name} has {values.numel()} numbers, expected 3")
    return usual if values is None else tuple(values.flatten().double().tolist())
