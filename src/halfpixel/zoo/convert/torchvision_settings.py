"""What a module of torchvision was told besides its weights: copied where ours can be told the same, else refused.

Nothing is listed that has to be looked at. Everything that torchvision's own network of the kind holds is compared, so
that what its next version can be told is refused until it is copied.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models.mask_rcnn import Settings
from halfpixel.structures.images import InputRules
from halfpixel.zoo.modelfile import ModelInfo

SETTINGS = {
    "proposals_per_level": "rpn._pre_nms_top_n.testing",
    "proposals": "rpn._post_nms_top_n.testing",
    "training_proposals_per_level": "rpn._pre_nms_top_n.training",
    "training_proposals": "rpn._post_nms_top_n.training",
    "proposal_iou": "rpn.nms_thresh",
    "proposal_score": "rpn.score_thresh",
    "box_iou": "roi_heads.nms_thresh",
    "anchor_samples": "rpn.fg_bg_sampler.batch_size_per_image",
    "region_samples": "roi_heads.fg_bg_sampler.batch_size_per_image",
}
RULES = {
    "mean": "transform.image_mean",
    "std": "transform.image_std",
    "shortest_side": "transform.min_size",
    "longest_side": "transform.max_size",
    "divisor": "transform.size_divisible",
}
POLICY = {"score_threshold": "roi_heads.score_thresh", "detection_limit": "roi_heads.detections_per_img"}
"""Our name of each setting, and where torchvision has it."""

COPIED = {*SETTINGS.values(), *RULES.values(), *POLICY.values()}

FOR_TRAINING = ("proposal_matcher.", "fg_bg_sampler.positive_fraction", "box_similarity", "transform._skip_resize")
"""Parts of names: what detections do not depend on, and our training does in its own way."""

REMEMBERED = ("_has_warned", "_roi_pool.scales", "_roi_pool.map_levels")
"""Parts of names: what a module learns of the images that it is given."""

NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
"""All the same with frozen statistics, but for their epsilon."""

OWN = frozenset(vars(nn.Module()))
"""What every module has."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of what trains it on several devices or compiles it."""
    inner: Any = module
    while isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(inner, "_orig_mod"):
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else inner.module
    found: nn.Module = inner
    return found


def with_policy(module: nn.Module, info: ModelInfo) -> ModelInfo:
    """A description with what a module of torchvision was told.

    Args:
        module: a `FasterRCNN` or `MaskRCNN`.
        info: which variant it is, and of which classes.

    Raises:
        ModelFileError: it was told something that ours cannot be told.
    """
    theirs = dict(_settings_of(module))
    _refuse_others(module, theirs, info)
    rules = {ours: theirs[name] for ours, name in RULES.items()} | {"shortest_side": theirs[RULES["shortest_side"]][-1]}
    try:
        settings = Settings(alignment="torchvision", **{ours: theirs[name] for ours, name in SETTINGS.items()})
        policy = {ours: theirs[name] for ours, name in POLICY.items()}
        return dataclasses.replace(info, input=InputRules(**rules), settings=dataclasses.asdict(settings), **policy)
    except ArgumentError as error:
        ours, _, reason = str(error).partition(" ")
        raise ModelFileError(f"{(SETTINGS | RULES | POLICY).get(ours, ours)} {reason}") from error


def _refuse_others(module: nn.Module, theirs: dict[str, Any], info: ModelInfo) -> None:
    """Compare with torchvision's own network."""
    build = getattr(detection, info.variant.replace("_rcnn", "rcnn").replace("r50", "resnet50"))
    with torch.device("meta"):  # settings, and no weights
        published = build(weights=None, weights_backbone=None, num_classes=1 + len(info.class_names))
    if type(module).forward is not type(published).forward:
        raise ModelFileError(f"{type(module).__name__} has a forward of its own")
    expected, parts = dict(_settings_of(published)), dict(module.named_modules())
    for name in sorted(set(theirs) | set(expected), key=_derived_last):
        if name in COPIED or any(part in name for part in (*FOR_TRAINING, *REMEMBERED)):
            continue
        # what a user has added is never looked at, unless it computes something
        if name not in expected and name not in parts and not callable(theirs[name]):
            continue
        told, usual = theirs.get(name), expected.get(name)
        if told != usual:
            raise ModelFileError(
                f"{name} is {told!s:.100}, for which ours would give other detections: expected {usual!s:.100}"
            )


def _derived_last(name: str) -> tuple[bool, str]:
    """What users gave comes before what torchvision made of it, so that they are told of that."""
    last = name.rpartition(".")[2]
    return last.startswith("_") or last == "cell_anchors", name


def _settings_of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Everything that a network holds and that is no weight, under its full name."""
    for path, part in module.named_modules():
        if isinstance(part, NORMS):
            continue
        if path:  # torchvision's own functions call the network by several names
            yield path, f"{type(part).__module__}.{type(part).__qualname__}"
        for name, value in vars(part).items():
            if name not in OWN:
                yield from _flat(f"{path}.{name}".lstrip("."), value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(f"{name}.{key}", one)
    elif type(value).__module__.startswith("torchvision.") and not isinstance(value, FunctionType):
        for key, one in vars(value).items():
            yield from _flat(f"{name}.{key}", one)
    else:
        yield name, _plain(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        value = value.tolist()
    return tuple(_plain(one) for one in value) if isinstance(value, list | tuple) else value
