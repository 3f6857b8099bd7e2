"""RT-DETR as transformers ships it, turned into ours.

Of `RTDetrForObjectDetection`, and of `RTDetrV2ForObjectDetection`, which with its usual settings is the same but for a
constant that it stores. Weights may have the names that are published or those that the module gives them. Two things
are not copied but computed: normalisations in the encoder are folded into their convolutions, and the two branches of
a RepVGG block are added up. What served denoising in training is left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from halfpixel.errors import ModelFileError
from halfpixel.models import rt_detr
from halfpixel.models.rt_detr import RTDETR, Settings
from halfpixel.ops.finite import all_finite
from halfpixel.structures.images import InputRules
from halfpixel.zoo.convert.state_dicts import names_for, weights_in
from halfpixel.zoo.fitting import filled, outline
from halfpixel.zoo.modelfile import ModelInfo

INPUT = InputRules(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), shortest_side=640, longest_side=640)
"""transformers stretches images to 640 x 640; here they keep their shape and fit into that."""

NORM_EPS = 1e-5
POINTS = 4

# Names that modules have, and those that are published.
PUBLISHED = (
    (r"model\.(.+)", r"\1"),
    (r"((?:class|bbox)_embed\..+)", r"decoder.\1"),
    (r"(.+)\.o_proj\.(\w+)", r"\1.out_proj.\2"),
    (r"(.+layers\.\d+)\.mlp\.(fc.+)", r"\1.\2"),
    (r"encoder\.aifi\.(.+)", r"encoder.encoder.\1"),
)

LEFT_OUT = r"denoising_class_embed\.weight|.+\.num_batches_tracked|.+\.n_points_scale"

KNOWN = (
    r"backbone\.model\.(?:embedder|encoder)\..+",
    r"encoder\.(?:encoder|aifi|lateral_convs|downsample_convs|fpn_blocks|pan_blocks)\..+",
    r"decoder\.(?:layers|query_pos_head|class_embed|bbox_embed)\..+",
    r"(?:(?:encoder|decoder)_input_proj|enc_output|enc_score_head|enc_bbox_head|class_embed|bbox_embed)\..+",
    r"denoising_class_embed\.weight",
)
"""Names of weights, as far as they tell whose they are."""

_ENDS = {
    "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj", "out": "self_attn.out_proj",
    "expand": "fc1", "project": "fc2", "norm_attention": "self_attn_layer_norm", "norm_among": "self_attn_layer_norm",
    "norm_around": "encoder_attn_layer_norm", "norm_feed": "final_layer_norm",
}  # fmt: skip
_AROUND = {"offsets": "sampling_offsets", "weights": "attention_weights", "value": "value_proj", "out": "output_proj"}
_BLOCKS = {"finer": "fpn_blocks", "coarser": "pan_blocks"}
_STEM = {"conv1.0": "0.convolution", "conv1.1": "0.normalization", "conv1.3": "1.convolution",
         "conv1.4": "1.normalization", "conv1.6": "2.convolution", "bn1": "2.normalization"}  # fmt: skip
_PARTS = {"conv": "convolution", "bn": "normalization"}

# Patterns of our modules that are one of theirs.
RENAMES: tuple[tuple[str, Any], ...] = (
    (r"backbone\.(conv1\.\d|bn1)", lambda m: f"backbone.model.embedder.embedder.{_STEM[m[1]]}"),
    (
        r"backbone\.layer(\d)\.(\d)\.(conv|bn)(\d)",
        lambda m: f"backbone.model.encoder.stages.{int(m[1]) - 1}.layers.{m[2]}.layer.{int(m[4]) - 1}.{_PARTS[m[3]]}",
    ),
    (
        r"backbone\.layer(\d)\.0\.downsample\.([12])",
        lambda m: (
            f"backbone.model.encoder.stages.{int(m[1]) - 1}.layers.0.shortcut."
            f"{'' if m[1] == '1' else '1.'}{'convolution' if m[2] == '1' else 'normalization'}"
        ),
    ),
    (r"encoder\.attention\.(?:\w+\.)?(\w+)", lambda m: f"encoder.encoder.0.layers.0.{_ENDS[m[1]]}"),
    (r"selection\.output", "enc_output.0"),
    (r"selection\.norm", "enc_output.1"),
    (r"selection\.logits", "enc_score_head"),
    (r"selection\.deltas\.layers\.(\d)", r"enc_bbox_head.layers.\1"),
    (r"selection\.deltas\.output", "enc_bbox_head.layers.2"),
    (r"decoder\.layers\.(\d)\.around\.(\w+)", lambda m: f"decoder.layers.{m[1]}.encoder_attn.{_AROUND[m[2]]}"),
    (r"decoder\.layers\.(\d)\.(?:\w+\.)?(\w+)", lambda m: f"decoder.layers.{m[1]}.{_ENDS[m[2]]}"),
    (r"decoder\.positions\.layers\.0", "decoder.query_pos_head.layers.0"),
    (r"decoder\.positions\.output", "decoder.query_pos_head.layers.1"),
    (r"decoder\.logits\.(\d)", r"decoder.class_embed.\1"),
    (r"decoder\.deltas\.(\d)\.layers\.(\d)", r"decoder.bbox_embed.\1.layers.\2"),
    (r"decoder\.deltas\.(\d)\.output", r"decoder.bbox_embed.\1.layers.2"),
)

# Patterns of our convolutions that are one or two of theirs, each with a normalisation.
FOLDED: tuple[tuple[str, Any], ...] = (
    (r"encoder\.inputs\.(\d)", lambda m: [(f"encoder_input_proj.{m[1]}.0", f"encoder_input_proj.{m[1]}.1")]),
    (r"selection\.inputs\.(\d)", lambda m: [(f"decoder_input_proj.{m[1]}.0", f"decoder_input_proj.{m[1]}.1")]),
    (r"encoder\.lateral\.(\d)\.conv", lambda m: _pairs(f"lateral_convs.{m[1]}")),
    (r"encoder\.down\.(\d)\.conv", lambda m: _pairs(f"downsample_convs.{m[1]}")),
    (r"encoder\.(finer|coarser)\.(\d)\.entry\.conv", lambda m: _pairs(f"{_BLOCKS[m[1]]}.{m[2]}.conv1")),
    (r"encoder\.(finer|coarser)\.(\d)\.shortcut\.conv", lambda m: _pairs(f"{_BLOCKS[m[1]]}.{m[2]}.conv2")),
    (r"encoder\.(finer|coarser)\.(\d)\.exit\.conv", lambda m: _pairs(f"{_BLOCKS[m[1]]}.{m[2]}.conv3")),
    (
        r"encoder\.(finer|coarser)\.(\d)\.stack\.(\d)\.conv",
        lambda m: _pairs(*(f"{_BLOCKS[m[1]]}.{m[2]}.bottlenecks.{m[3]}.conv{k}" for k in (1, 2))),
    ),
)

# What a configuration must say, where it says it: the weights do not show it.
SAID = {
    "encoder_activation_function": "gelu",
    "activation_function": "silu",
    "decoder_activation_function": "relu",
    "normalize_before": False,
    "eval_size": None,
    "positional_encoding_temperature": 10000,
    "encode_proj_layers": [2],
    "feat_strides": [8, 16, 32],
    "num_feature_levels": 3,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "decoder_n_points": POINTS,
    "learn_initial_query": False,
    "layer_norm_eps": NORM_EPS,
    "batch_norm_eps": NORM_EPS,
    "decoder_method": "default",
    "decoder_offset_scale": 0.5,
    "decoder_n_levels": 3,
}
SAID_OF_BACKBONE = {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False}


def convert(
    source: nn.Module | Mapping[str, Any], class_names: Sequence[str] | None = None
) -> tuple[RTDETR, ModelInfo]:
    """Our network with transformers' weights, for boxes alone.

    Args:
        source: an `RTDetrForObjectDetection` or `RTDetrV2ForObjectDetection` on ResNet-18-D or ResNet-50-D, or the
            state dict of one, as published or as the module gives it.
        class_names: default the module's own; of a state dict COCO's names when there are 80, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description.

    Raises:
        ModelFileError: another architecture, or settings that ours cannot have; tensors that are missing, unexpected,
            of another shape or not finite are named.
        ArgumentError: the number of class names is wrong.
    """
    config = getattr(source, "config", None) if isinstance(source, nn.Module) else None
    if config is not None:
        _check_settings(config)
    state = published(source.state_dict() if isinstance(source, nn.Module) else weights_in(source))
    if "enc_score_head.bias" not in state:
        raise ModelFileError("not transformers' RT-DETR: model.enc_score_head.bias is missing")
    known = None if config is None else [str(name) for _, name in sorted(config.id2label.items())]
    names = names_for(class_names, known, len(state["enc_score_head.bias"]))
    bottlenecks = "backbone.model.encoder.stages.0.layers.0.layer.2.convolution.weight" in state
    settings = Settings(masks=False, coordinates="image")
    info = ModelInfo(
        "rt_detr_r50" if bottlenecks else "rt_detr_r18",
        names,
        input=INPUT,
        settings=dataclasses.asdict(settings),
        source="weights in transformers' naming",
    )
    make = partial(rt_detr.VARIANTS[info.variant], names, settings)
    model = filled(make, translated(state, outline(make), info.variant), f"transformers' {info.variant}")
    assert isinstance(model, RTDETR)
    return model, info


def published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that are published, without the `model.` in front.

    Raises:
        ModelFileError: two tensors of one name that differ, or a constant of the second version that is another one.
    """
    found: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key
        for pattern, better in PUBLISHED:
            name = re.sub(f"^{pattern}$", better, name)
        if name.endswith("n_points_scale") and not bool((tensor == 1 / POINTS).all()):
            raise ModelFileError(f"not transformers' RT-DETR as published: {key} is not {1 / POINTS} throughout")
        if name in found and not torch.equal(found[name], tensor):
            raise ModelFileError(f"{key} is there twice, with different values")
        found[name] = tensor
    return found


def translated(state: Mapping[str, Tensor], model: nn.Module, variant: str) -> dict[str, Tensor]:
    """Weights for our network, in float64.

    Raises:
        ModelFileError: tensors are missing, unexpected, of another shape or not finite; one is named.
    """
    expected, found, used = model.state_dict(), dict[str, Tensor](), set[str]()

    def take(key: str, shape: Sequence[int]) -> Tensor:
        used.add(key)
        if key not in state:
            raise ModelFileError(f"not transformers' {variant}: model.{key} is missing")
        if list(state[key].shape) != list(shape):
            shapes = f"{list(state[key].shape)}, expected {list(shape)}"
            raise ModelFileError(f"not transformers' {variant}: model.{key} is {shapes}")
        if not state[key].is_floating_point():
            raise ModelFileError(f"not transformers' {variant}: model.{key} has no floating-point numbers")
        if not all_finite(state[key]):
            raise ModelFileError(f"the weights model.{key} are not finite")
        return state[key].double()

    for name, tensor in expected.items():
        module, _, part = name.rpartition(".")
        theirs = _first(RENAMES, module)
        if theirs is not None:
            found[name] = take(f"{theirs}.{part}", tensor.shape)
        elif part == "weight":
            found[name], found[f"{module}.bias"] = _folded(_first(FOLDED, module), tensor.shape, take)
    for key in state:
        if key not in used and not re.fullmatch(LEFT_OUT, key):
            raise ModelFileError(f"not transformers' {variant}: model.{key} is unexpected")
    return found


def _folded(pairs: Sequence[tuple[str, str]], shape: Sequence[int], take: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what some do together, each with its normalisation."""
    outputs, inputs, kernel, _ = shape
    weight, bias = torch.zeros(*shape, dtype=torch.float64), torch.zeros(outputs, dtype=torch.float64)
    for k, (conv, norm) in enumerate(pairs):
        side = kernel if k == 0 else 1  # the second branch of a block
        own = take(f"{conv}.weight", (outputs, inputs, side, side))
        parts = ("weight", "bias", "running_mean", "running_var")
        gain, shift, mean, variance = (take(f"{norm}.{part}", (outputs,)) for part in parts)
        scale = gain / (variance + NORM_EPS).sqrt()
        margin = (kernel - side) // 2
        weight += nn.functional.pad(own * scale[:, None, None, None], (margin,) * 4)
        bias += shift - mean * scale
    return weight, bias


def _first(table: Sequence[tuple[str, Any]], module: str) -> Any:
    """What the first pattern that fits makes of a name; None where none does."""
    for pattern, theirs in table:
        if match := re.fullmatch(pattern, module):
            return theirs(match) if callable(theirs) else match.expand(theirs)
    return None


def _pairs(*layers: str) -> list[tuple[str, str]]:
    return [(f"encoder.{layer}.conv", f"encoder.{layer}.norm") for layer in layers]


def _check_settings(config: Any) -> None:
    for part, said in ((config, SAID), (config.backbone_config, SAID_OF_BACKBONE)):
        for name, wanted in said.items():
            given = getattr(part, name, wanted)
            given = list(given) if isinstance(given, tuple) else given
            if given != wanted:
                raise ModelFileError(f"transformers' RT-DETR with {name} = {given!r}: ours has {wanted!r}")
