"""Query models that the library transformers runs, with our decoding: RF-DETR and EoMT.

    image, as large as the network takes -> transformers' network -> scores of each query, a map [h/4, w/4] of each
      RF-DETR (Robinson et al. 2025, arXiv:2511.09554): sigmoid scores, and a box of each query
      EoMT (Kerssies et al. 2025, arXiv:2503.19108): softmax scores times the mean of the mask, whose extent is the box
    -> queries above the threshold -> their maps, inside their boxes only -> soft masks

transformers' own processors paint each object on the whole image, and let later objects of EoMT hide earlier ones.

Deviations: a query is one object, of its best class; the processors may make several of one. EoMT's scores are taken
where the network says them, at a quarter of the size, before the maps are enlarged.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from halfpixel.errors import ArgumentError, MissingDependencyError, ModelFileError, reason
from halfpixel.nn.decoding import RowRules, as_rows, detections, of_image
from halfpixel.nn.network import Axis, Outputs
from halfpixel.ops.assemble import assemble
from halfpixel.ops.finite import is_finite
from halfpixel.optional import load_extra
from halfpixel.structures.field_check import from_plain
from halfpixel.structures.images import InputRules, Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.zoo.fitting import check_finite
from halfpixel.zoo.foreign.predicts_only import PredictsOnly
from halfpixel.zoo.foreign.transformers_folder import (
    CONFIG,
    PREPROCESSOR,
    Config,
    are_numbers,
    is_of_transformers,
    numbered,
    read_config,
    read_json,
)
from halfpixel.zoo.modelfile import ModelInfo

FINER = 4.0
"""Cells of a soft mask along a cell of the network's map: fine enough to bend where whole-image logits would."""

EXTRA = "halfpixel[transformers]"


@dataclass(frozen=True)
class Settings:
    """Nothing can be decided about these networks."""


class QueryNetwork(PredictsOnly):
    """A network of transformers.

    Args:
        class_names: class 0 is the first real one.
        network: of transformers.
        rules: how images are prepared; they say the only size that it takes.
    """

    layout: Mapping[str, Axis] = {
        **dict.fromkeys(("boxes_xyxy", "scores", "labels", "image_index", "logits"), "row"),
        **dict.fromkeys(("candidates", "saturated"), "image"),
    }
    output_layers = ()
    black: Tensor
    only_predicts = "halfpixel only runs this network, which is one of transformers"

    def __init__(self, class_names: Sequence[str], network: Any, rules: InputRules) -> None:
        super().__init__()
        assert rules.exact_hw is not None
        self.class_names = tuple(class_names)
        self.settings: Settings = Settings()
        self.network = network
        self.exact_hw = rules.exact_hw
        black = -torch.tensor(rules.mean) / torch.tensor(rules.std)
        self.register_buffer("black", black.reshape(3, 1, 1), persistent=False)

    @abstractmethod
    def said(self, canvas: Tensor, sizes_hw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each query of each image the scores of classes `[b, q, classes]`, the box `[b, q, 4]` and a map of logits.

        Args:
            canvas: images in the size that the network takes.
            sizes_hw: of the images inside of it.
        """

    def forward(self, images: Tensor, sizes_hw: Tensor, limits: Limits) -> Outputs:
        """See `Network.forward`."""
        canvas = self.black.to(images.dtype).expand(len(images), 3, *self.exact_hw).clone()
        for k, (height, width) in enumerate(sizes_hw.tolist()):  # the network knows padding that is black
            canvas[k, :, :height, :width] = images[k, :, :height, :width]
        scores, boxes_xyxy, logits = (one.float() for one in self.said(canvas, sizes_hw))
        threshold = limits.score_threshold.to(scores.device)
        found = []
        for k, size_hw in enumerate(sizes_hw):
            best, labels = scores[k].max(1)
            one_each = torch.zeros_like(scores[k]).scatter(1, labels[:, None], best[:, None])
            finite = is_finite(scores[k], boxes_xyxy[k], logits[k])
            one = detections(one_each, boxes_xyxy[k], size_hw, limits, None, finite)
            exhausted = (best > threshold).all()  # a query more might have been an object, too
            found.append(one._replace(saturated=one.saturated | exhausted))
        return {
            **as_rows(found),
            "logits": torch.cat([of_one[one.sources] for of_one, one in zip(logits, found, strict=True)]),
            "candidates": torch.stack([one.candidates for one in found])[:, None],
            "saturated": torch.stack([one.saturated for one in found]),
        }

    def decode(self, outputs: Outputs, sizes: Sequence[Resized], limits: Limits) -> list[Instances]:
        """See `Network.decode`: of each map only what lies in its object's box is looked at."""
        outputs = {name: tensor.detach().cpu() for name, tensor in outputs.items()}
        rules, found = RowRules(self.class_names, ("detections",)), []
        for k, size in enumerate(sizes):
            rows = of_image(outputs, k)
            maps = outputs["logits"][rows]
            stride = self.exact_hw[0] / maps.shape[1]
            every = torch.arange(len(rows))
            boxes_xyxy = outputs["boxes_xyxy"][rows]
            soft = assemble(maps[:, None], torch.ones(len(rows), 1), every, boxes_xyxy, stride, finer=FINER)
            objects = rules.objects(outputs, k, size, limits.most, [one.sigmoid() for one in soft])
            found.append(self.finished(objects))
        return found

    def finished(self, objects: Instances) -> Instances:
        """What is left to do once there are masks."""
        return objects


class RfDetr(QueryNetwork):
    """`RfDetrForInstanceSegmentation`."""

    def said(self, canvas: Tensor, sizes_hw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `QueryNetwork.said`."""
        outputs = self.network(pixel_values=canvas)
        centres, sides = outputs.pred_boxes.float().split(2, dim=2)
        corners = torch.cat([centres - sides / 2, centres + sides / 2], dim=2)
        height, width = self.exact_hw
        scale = corners.new_tensor([width, height, width, height])
        return outputs.logits.float().sigmoid(), corners * scale, outputs.pred_masks


class Eomt(QueryNetwork):
    """`EomtForUniversalSegmentation`, trained for instances."""

    def said(self, canvas: Tensor, sizes_hw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See `QueryNetwork.said`."""
        outputs = self.network(pixel_values=canvas)
        logits = outputs.masks_queries_logits.float()
        stride = self.exact_hw[0] / logits.shape[2]
        y, x = (stride * (torch.arange(side, device=logits.device) + 0.5) for side in logits.shape[2:])
        sizes = sizes_hw.to(logits.device)[:, :, None]
        positive, inside, near = logits > 0, _cells(y, x, sizes), _cells(y, x, sizes + stride)
        counted = positive & inside[:, None]
        quality = (logits.sigmoid() * counted).sum((2, 3)) / counted.sum((2, 3)).clamp(min=1)
        scores = outputs.class_queries_logits.float().softmax(2)[..., :-1]  # the last class is no object
        # to where the next cells' centres are: in between, logits may still be above 0
        low_y, high_y = _extent((positive & near[:, None]).any(3))
        low_x, high_x = _extent((positive & near[:, None]).any(2))
        boxes_xyxy = stride * torch.stack([low_x - 0.5, low_y - 0.5, high_x + 0.5, high_y + 0.5], dim=2)
        empty = ~counted.flatten(2).any(2)
        return scores * quality[..., None], boxes_xyxy.masked_fill(empty[..., None], 0), logits

    def finished(self, objects: Instances) -> Instances:
        """The boxes are those of the masks; what has no pixel is no object."""
        assert objects.masks is not None
        objects = replace(objects, boxes_xyxy=objects.masks.boxes_xyxy())
        return objects[(objects.boxes_xyxy[:, 2:] > objects.boxes_xyxy[:, :2]).all(1)]


def _cells(y: Tensor, x: Tensor, sizes: Tensor) -> Tensor:
    """Which cells `[b, h, w]` have their centres in images of sizes `[b, 2, 1]`."""
    return (y < sizes[:, 0])[:, :, None] & (x < sizes[:, 1])[:, None]


def _extent(used: Tensor) -> tuple[Tensor, Tensor]:
    """Of `[..., n]` where the first that is used begins, and the last one ends."""
    places = torch.arange(used.shape[-1], device=used.device)
    return torch.where(used, places, used.shape[-1]).amin(-1), torch.where(used, places + 1, 0).amax(-1)


NETWORKS: dict[str, tuple[type[QueryNetwork], str]] = {
    "rf_detr": (RfDetr, "RfDetrForInstanceSegmentation"),
    "eomt": (Eomt, "EomtForUniversalSegmentation"),
}
"""Ours and transformers' class, by what a file says as `model_type`."""


def runs_in_transformers(path: Path) -> bool:
    """Whether it is a network that only transformers runs.

    Raises:
        ModelFileError: see `read_config`.
    """
    return is_of_transformers(path) and read_config(path).model_type in NETWORKS


def described_as(path: Path) -> str:
    """What is wrong with a network that is none of those, for a message."""
    return f"expected a network of the type {' or '.join(NETWORKS)} in {CONFIG}, got {read_config(path).model_type!r}"


def open_transformers(path: Path, usual: Sequence[str] = ()) -> tuple[QueryNetwork, ModelInfo]:
    """A network of transformers and its description, ready to predict. Nothing is fetched, and no code run.

    Args:
        path: the weights, with the `config.json` that transformers wrote beside them.
        usual: names of the classes, where that only numbers so many.

    Raises:
        ModelFileError: another network, or files that do not go together.
        MissingDependencyError: transformers is not installed, or too old.
    """
    config = read_config(path)
    kind = config.model_type
    if kind not in NETWORKS:
        raise ModelFileError(f"{path}: {described_as(path)}")
    ours, theirs = NETWORKS[kind]
    transformers = load_extra("transformers", EXTRA)
    if not hasattr(transformers, theirs):
        raise MissingDependencyError(
            f'transformers {transformers.__version__} has no {theirs}: pip install --upgrade "{EXTRA}"'
        )
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # what it would warn of is an error here
    network = _load(getattr(transformers, theirs), path, config)
    names = numbered(network.config.id2label)
    if are_numbers(names) and len(usual) == len(names):
        names = tuple(usual)
    rules = _input_rules(path, network.config, stretch=kind == "rf_detr")
    try:
        info = ModelInfo(kind, names, rules, source=str(config.everything.get("_name_or_path") or path.parent.name))
    except ArgumentError as error:
        raise ModelFileError(f"{path.with_name(CONFIG)}: {error}") from error
    model = ours(names, network, rules)
    try:
        check_finite(model)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return model.eval(), info


def _load(kind: Any, path: Path, config: Config) -> Any:
    """A network with all of its weights. It is made of these two files alone, whatever lies beside them."""
    if config.everything.get("backbone") and not config.everything.get("backbone_config"):
        raise ModelFileError(
            f"{path.with_name(CONFIG)}: backbone: it would be looked up on the hub; backbone_config is read"
        )
    attention = {"attn_implementation": "sdpa"}  # others may be fetched, or are for GPUs
    try:  # shapes that differ are told of below, by name
        described = kind.config_class.from_dict({**config.everything, **attention})
        network, told = kind.from_pretrained(
            None,
            config=described,
            state_dict=load_file(path),
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            dtype=torch.float32,
            **attention,
        )
    except Exception as error:  # of many classes that have no common base
        raise ModelFileError(f"{path}: transformers cannot read it ({reason(error)})") from error
    mismatched = [one[0] if isinstance(one, tuple) else one for one in told["mismatched_keys"]]
    for what, wrong in (
        ("is missing", told["missing_keys"]),
        ("is unexpected", told["unexpected_keys"]),
        ("has another shape", mismatched),
    ):
        if wrong:
            raise ModelFileError(f"{path}: not the weights of {kind.__name__}: {min(wrong)} {what}")
    return network


def _input_rules(path: Path, config: Any, stretch: bool) -> InputRules:
    """How images are prepared: by what lies beside the weights, else as is usual."""
    file = path.with_name(PREPROCESSOR)
    said = read_json(file) if file.is_file() else {}
    size = said.get("size", {})
    side = None if stretch else config.image_size
    exact = (side, side)
    if stretch and isinstance(size, Mapping):
        exact = (size.get("height"), size.get("width"))
    renamed = {"mean": "image_mean", "std": "image_std"}
    given = {ours: said[theirs] for ours, theirs in renamed.items() if theirs in said}
    if None in exact:
        raise ModelFileError(f"{file}: expected 'size' with 'height' and 'width', got {size!r:.80}")
    try:
        return from_plain(InputRules, {"exact_hw": exact, "stretch": stretch, **given})
    except ArgumentError as error:
        raise ModelFileError(f"{file}: {error}") from error
