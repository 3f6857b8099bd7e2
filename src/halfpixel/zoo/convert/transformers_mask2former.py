"""Mask2Former as transformers publishes it, turned into ours, key for key.

Its keys are understood as published files have them (transformers 4) and as its modules have them today (5). Its last
class is no object, as ours. Attention's three projections stand apart there and together here in Swin, and the other
way round in the decoder.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from halfpixel.errors import ModelFileError
from halfpixel.models import mask2former
from halfpixel.models.mask2former import Mask2Former, Settings
from halfpixel.zoo.convert.state_dicts import names_for, translated, weights_in
from halfpixel.zoo.fitting import filled
from halfpixel.zoo.modelfile import ModelInfo

WHAT = "transformers' Mask2FormerForUniversalSegmentation"

UNUSED = r"criterion\.empty_weight|.*\.relative_position_index|model\.pixel_level_module\.encoder\.swin\.layernorm\.\w+"
"""What of its state dict says nothing that an object depends on: a weight of its loss, what follows from the size of
windows, and a normalisation that only served classification."""

ENCODER = r"model\.pixel_level_module\.encoder\."
BLOCK = ENCODER + r"(?:swin\.)?encoder\.layers\.(\d)\.blocks\.(\d+)\."
DECODER = r"model\.pixel_level_module\.decoder\."
INNER = DECODER + r"encoder\.layers\.(\d)\."
QUERIES = r"model\.transformer_module\."
LAYER = QUERIES + r"decoder\.layers\.(\d)\."

RENAMES = (
    (ENCODER + r"(?:swin\.)?embeddings\.patch_embeddings\.projection\.(\w+)", r"backbone.patch_embed.proj.\1"),
    (ENCODER + r"(?:swin\.)?embeddings\.norm\.(\w+)", r"backbone.patch_embed.norm.\1"),
    (BLOCK + r"layernorm_before\.(\w+)", r"backbone.layers.\1.blocks.\2.norm1.\3"),
    (BLOCK + r"layernorm_after\.(\w+)", r"backbone.layers.\1.blocks.\2.norm2.\3"),
    (BLOCK + r"attention\.(?:self\.query|q_proj)\.(\w+)", r"backbone.layers.\1.blocks.\2.attn.qkv.\3 0"),
    (BLOCK + r"attention\.(?:self\.key|k_proj)\.(\w+)", r"backbone.layers.\1.blocks.\2.attn.qkv.\3 1"),
    (BLOCK + r"attention\.(?:self\.value|v_proj)\.(\w+)", r"backbone.layers.\1.blocks.\2.attn.qkv.\3 2"),
    (BLOCK + r"attention\.(?:output\.dense|o_proj)\.(\w+)", r"backbone.layers.\1.blocks.\2.attn.proj.\3"),
    (
        BLOCK + r"attention\.(?:self|relative_position_bias)\.(relative_position_bias_table)",
        r"backbone.layers.\1.blocks.\2.attn.\3",
    ),
    (BLOCK + r"(?:intermediate\.dense|mlp\.fc1)\.(\w+)", r"backbone.layers.\1.blocks.\2.mlp.fc1.\3"),
    (BLOCK + r"(?:output\.dense|mlp\.fc2)\.(\w+)", r"backbone.layers.\1.blocks.\2.mlp.fc2.\3"),
    *(
        (ENCODER + rf"(?:swin\.)?encoder\.layers\.{k}\.downsample\.([\w.]+)", rf"backbone.layers.{k + 1}.downsample.\1")
        for k in range(3)
    ),
    *((ENCODER + rf"hidden_states_norms\.stage{k + 1}\.(\w+)", rf"backbone.norms.{k}.\1") for k in range(4)),
    (ENCODER + r"embedder\.embedder\.convolution\.(\w+)", r"backbone.conv1.\1"),
    (ENCODER + r"embedder\.embedder\.normalization\.(\w+)", r"backbone.bn1.\1"),
    *(
        (
            ENCODER + rf"encoder\.stages\.{stage}\.layers\.(\d+)\.{theirs}\.{kind}\.(\w+)",
            rf"backbone.layer{stage + 1}.\1.{ours}.\2",
        )
        for stage in range(4)
        for kind, name, number in (("convolution", "conv", 0), ("normalization", "bn", 1))
        for theirs, ours in (
            (r"shortcut", f"downsample.{number}"),
            *((rf"layer\.{k}", f"{name}{k + 1}") for k in range(3)),
        )
    ),
    (DECODER + r"level_embed", r"pixel_decoder.encoder.level"),
    (INNER + r"self_attn\.sampling_offsets\.(\w+)", r"pixel_decoder.encoder.layers.\1.attention.offsets.\2"),
    (INNER + r"self_attn\.attention_weights\.(\w+)", r"pixel_decoder.encoder.layers.\1.attention.weights.\2"),
    (INNER + r"self_attn\.value_proj\.(\w+)", r"pixel_decoder.encoder.layers.\1.attention.value.\2"),
    (INNER + r"self_attn\.output_proj\.(\w+)", r"pixel_decoder.encoder.layers.\1.attention.out.\2"),
    (INNER + r"self_attn_layer_norm\.(\w+)", r"pixel_decoder.encoder.layers.\1.attention_norm.\2"),
    (INNER + r"fc1\.(\w+)", r"pixel_decoder.encoder.layers.\1.feed_forward.expand.\2"),
    (INNER + r"fc2\.(\w+)", r"pixel_decoder.encoder.layers.\1.feed_forward.project.\2"),
    (INNER + r"final_layer_norm\.(\w+)", r"pixel_decoder.encoder.layers.\1.feed_forward_norm.\2"),
    (DECODER + r"input_projections\.(\d)\.([01])\.(\w+)", r"pixel_decoder.coarse.\1.\2.\3"),
    (DECODER + r"adapter_1\.0\.(\w+)", r"pixel_decoder.lateral.conv.\1"),
    (DECODER + r"adapter_1\.1\.(\w+)", r"pixel_decoder.lateral.norm.\1"),
    (DECODER + r"layer_1\.0\.(\w+)", r"pixel_decoder.output.conv.\1"),
    (DECODER + r"layer_1\.1\.(\w+)", r"pixel_decoder.output.norm.\1"),
    (DECODER + r"mask_projection\.(\w+)", r"pixel_decoder.maps.\1"),
    (QUERIES + r"queries_features\.weight", r"decoder.queries"),
    (QUERIES + r"queries_embedder\.weight", r"decoder.places"),
    (QUERIES + r"level_embed\.weight", r"decoder.level"),
    (QUERIES + r"decoder\.layernorm\.(\w+)", r"decoder.norm.\1"),
    (QUERIES + r"decoder\.mask_predictor\.mask_embedder\.([01])\.0\.(\w+)", r"decoder.kernels.layers.\1.\2"),
    (QUERIES + r"decoder\.mask_predictor\.mask_embedder\.2\.0\.(\w+)", r"decoder.kernels.output.\1"),
    (LAYER + r"cross_attn\.in_proj_(\w+)", r"decoder.layers.\1.attend.in.\2"),
    (LAYER + r"cross_attn\.out_proj\.(\w+)", r"decoder.layers.\1.attend.out.\2"),
    (LAYER + r"cross_attn_layer_norm\.(\w+)", r"decoder.layers.\1.attend_norm.\2"),
    (LAYER + r"self_attn\.q_proj\.(\w+)", r"decoder.layers.\1.compare.query.\2"),
    (LAYER + r"self_attn\.k_proj\.(\w+)", r"decoder.layers.\1.compare.key.\2"),
    (LAYER + r"self_attn\.v_proj\.(\w+)", r"decoder.layers.\1.compare.value.\2"),
    (LAYER + r"self_attn\.out_proj\.(\w+)", r"decoder.layers.\1.compare.out.\2"),
    (LAYER + r"self_attn_layer_norm\.(\w+)", r"decoder.layers.\1.compare_norm.\2"),
    (LAYER + r"fc1\.(\w+)", r"decoder.layers.\1.feed_forward.expand.\2"),
    (LAYER + r"fc2\.(\w+)", r"decoder.layers.\1.feed_forward.project.\2"),
    (LAYER + r"final_layer_norm\.(\w+)", r"decoder.layers.\1.feed_forward_norm.\2"),
    (r"class_predictor\.(\w+)", r"logits.\1"),
)
"""Patterns of its keys, and our names; a number after a name is the part of a tensor that has several."""

BACKBONES = {(96, 6): "swin_t", (96, 18): "swin_s", (128, 18): "swin_b", (192, 18): "swin_l"}
"""By the channels of the first stage and the blocks of the third."""

FIXED = {
    "hidden_dim": 256,
    "mask_feature_size": 256,
    "num_attention_heads": 8,
    "activation_function": "relu",
    "pre_norm": False,
    "common_stride": 4,
    "feature_strides": (4, 8, 16, 32),
}
"""What a configuration may say of all that weights do not tell, besides its backbone."""


def convert(
    source: nn.Module | Mapping[str, Any], class_names: Sequence[str] | None = None
) -> tuple[Mask2Former, ModelInfo]:
    """Our network with transformers' weights.

    Args:
        source: a `Mask2FormerForUniversalSegmentation` on Swin-T, S, B, L or ResNet-50, or its state dict, also inside
            of a checkpoint, such as what `safetensors.torch.load_file` reads from a published file.
        class_names: default the module's own, COCO's for a state dict of 80 classes, else "class 1" and so on.

    Returns:
        The network, in evaluation mode, and its description. Images are resized as in the paper: 800 pixels along the
        shorter side, at most 1333 along the longer.

    Raises:
        ModelFileError: another architecture or configuration; weights that are missing, unexpected, misshapen or not
            finite are named.
        ArgumentError: the number of class names is wrong.
    """
    if isinstance(source, nn.Module):
        _check_configuration(source)
    state = joined(
        translated(weights_in(source.state_dict() if isinstance(source, nn.Module) else source), RENAMES, WHAT, UNUSED)
    )
    for needed in ("logits.bias", "decoder.queries"):
        if needed not in state:
            raise ModelFileError(f"not {WHAT}: {needed} is missing")
    config: Any = getattr(source, "config", None)
    known = None if config is None else [str(name) for _, name in sorted(config.id2label.items())]
    names = names_for(class_names, known, len(state["logits.bias"]) - 1)
    variant, settings = _variant(state), Settings(queries=len(state["decoder.queries"]))
    model = filled(lambda: mask2former.VARIANTS[variant](names, settings), state, f"{WHAT} ({variant})")
    assert isinstance(model, Mask2Former)
    info = ModelInfo(variant, names, settings=dataclasses.asdict(settings), source="weights in transformers' naming")
    return model, info


def joined(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What stands apart there and together here, or the other way round, as here.

    Raises:
        ModelFileError: a part is missing or misshapen.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        whole, _, part = name.partition(" ")
        if ".attend.in." in name:
            thirds = zip(("query", "key", "value"), tensor.chunk(3), strict=False)
            found |= {name.replace(".in.", f".{one}."): third for one, third in thirds}
        elif not part:
            found[name] = tensor
        elif whole not in found:
            three = [weights.get(f"{whole} {k}", torch.zeros(())) for k in range(3)]
            if len({one.shape for one in three}) > 1 or three[0].ndim == 0:
                raise ModelFileError(f"not {WHAT}: parts of {whole} are missing or misshapen")
            found[whole] = torch.cat(three)
    return found


def _variant(state: Mapping[str, Tensor]) -> str:
    """Which network it is.

    Raises:
        ModelFileError: none that there is.
    """
    if "backbone.conv1.weight" in state:
        return "mask2former_r50"
    channels = state.get("backbone.patch_embed.proj.bias", torch.zeros(0)).numel()
    blocks = sum(bool(re.fullmatch(r"backbone\.layers\.2\.blocks\.\d+\.norm1\.bias", name)) for name in state)
    if (channels, blocks) not in BACKBONES:
        raise ModelFileError(f"not {WHAT} on Swin-T, S, B, L or ResNet-50: {channels} channels, {blocks} blocks")
    return f"mask2former_{BACKBONES[channels, blocks]}"


def _check_configuration(module: nn.Module) -> None:
    """Refuse what weights do not show and ours cannot have."""
    config: Any = getattr(module, "config", None)
    if getattr(config, "model_type", None) != "mask2former":
        raise ModelFileError(f"not {WHAT} but {type(module).__name__}")
    for name, ours in FIXED.items():
        theirs = getattr(config, name)
        if (tuple(theirs) if isinstance(theirs, list) else theirs) != ours:
            raise ModelFileError(f"{name} is {theirs}; ours has {ours}")
    backbone = config.backbone_config
    if backbone.model_type == "swin":
        heads = [backbone.embed_dim * 2**k // 32 for k in range(4)]
        given = list(backbone.num_heads), backbone.hidden_act, backbone.layer_norm_eps, backbone.use_absolute_embeddings
        if given != (heads, "gelu", 1e-5, False):
            raise ModelFileError(f"the Swin backbone has heads, activation, epsilon, places {given}: ours are others")
    elif backbone.model_type != "resnet" or backbone.layer_type != "bottleneck" or backbone.downsample_in_bottleneck:
        raise ModelFileError(f"not {WHAT} on Swin-T, S, B, L or ResNet-50: its backbone is {backbone.model_type}")
