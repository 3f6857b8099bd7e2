"""Mask2Former with transformers' weights: the same numbers after every layer, in float64, and refusals.

Masked attention cuts at 0, so that a rounding error in float32 becomes a different network; and with fresh weights,
which attend everywhere alike, wrong positions would not show. So weights are drawn anew, in float64.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models.mask2former import VARIANTS, Mask2Former
from halfpixel.structures.images import Limits
from halfpixel.zoo.convert.transformers_mask2former import convert

transformers = pytest.importorskip("transformers")

SWIN: dict[str, dict[str, object]] = {
    "swin_t": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "swin_s": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "swin_b": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
    "swin_l": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
}
STAGES = ["stage1", "stage2", "stage3", "stage4"]


def build(name: str, **options: object) -> nn.Module:
    """transformers' module, as published."""
    if name == "r50":
        backbone = transformers.ResNetConfig(out_features=STAGES)
    else:
        backbone = transformers.SwinConfig(out_features=STAGES, **SWIN[name])
    given = {"num_labels": 80, "num_queries": 200 if name == "swin_l" else 100} | options
    config = transformers.Mask2FormerConfig(backbone_config=backbone, **given)
    torch.manual_seed(0)
    module: nn.Module = transformers.Mask2FormerForUniversalSegmentation(config)
    return module.eval()


@torch.no_grad()
def enlivened(module: nn.Module) -> nn.Module:
    """Weights with which attention is sharp, positions matter and normalisations have statistics."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if "running_var" in name:
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif not tensor.is_floating_point() or "empty_weight" in name:
            continue
        elif "sampling_offsets.bias" in name or "queries_" in name or "level_embed" in name:
            tensor.normal_(0, 1, generator=generator)
        elif tensor.ndim > 1:
            sharp = 2.0 if any(one in name for one in ("q_proj", "k_proj", "attention_weights", "in_proj")) else 1.0
            fan_in = tensor[0].numel()
            tensor.normal_(0, sharp * fan_in**-0.5, generator=generator)
        elif "norm" in name and "weight" in name:
            tensor.uniform_(0.7, 1.3, generator=generator)
        else:
            tensor.normal_(0, 0.1, generator=generator)
    maps = module.double()(images(64, 64)).pixel_decoder_last_hidden_state
    bias = module.model.pixel_level_module.decoder.mask_projection.bias  # masks cover a half, not all
    bias.copy_((bias - maps.mean((0, 2, 3))).float())
    return module


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def assert_same_after_every_layer(module: nn.Module, model: Mask2Former) -> None:
    with torch.no_grad():
        theirs = module(images(64, 96), output_auxiliary_logits=True)
        said, maps = model.says(images(64, 96))
    layers = [*theirs.auxiliary_logits, {name: theirs[name] for name in theirs.auxiliary_logits[0]}]
    assert len(layers) == len(said) == 10
    for expected, (queries, kernels) in zip(layers, said, strict=True):
        masks = torch.einsum("bqc,bchw->bqhw", kernels, maps)
        assert 0.1 < (masks > 0).double().mean() < 0.9
        torch.testing.assert_close(masks, expected["masks_queries_logits"], atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(model.logits(queries), expected["class_queries_logits"], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize(
    "name", ["swin_t", *(pytest.param(one, marks=pytest.mark.slow) for one in ("r50", "swin_s", "swin_b", "swin_l"))]
)
def test_every_layer_says_the_same(name: str) -> None:
    module = enlivened(build(name))
    model, info = convert(module)
    assert info.variant == f"mask2former_{name}"
    assert info.settings["queries"] == (200 if name == "swin_l" else 100)
    assert_same_after_every_layer(module, model.double())


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return build("swin_t", num_labels=3)


def test_a_published_file_has_older_names(module: nn.Module, tmp_path: Path) -> None:
    """transformers 5 saves what it published with 4."""
    module.save_pretrained(tmp_path)  # type: ignore[operator]
    saved = load_file(tmp_path / "model.safetensors")
    assert any(".attention.self.query." in key for key in saved)
    assert not any(".q_proj." in key for key in saved if "pixel_level_module" in key)
    saved["model.pixel_level_module.encoder.encoder.layers.0.blocks.0.attention.self.relative_position_index"] = (
        torch.zeros(49, 49, dtype=torch.int64)  # transformers 4 saved it
    )
    expected = convert(module)[0].state_dict()
    found = convert(saved, ["a", "b", "c"])[0]
    assert found.class_names == ("a", "b", "c")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.state_dict().items())


def test_it_finds_objects(module: nn.Module) -> None:
    model, info = convert(module, ["a", "b", "c"])
    assert info.class_names == ("a", "b", "c")
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, 64, 64), torch.tensor([[64, 64]]), Limits.of(0.01, 20))
    assert len(outputs["scores"]) == 20
    assert not outputs["maps"].requires_grad


def test_names_of_classes(module: nn.Module) -> None:
    assert convert(module)[1].class_names == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert convert(module.state_dict())[1].class_names == ("class 1", "class 2", "class 3")
    with pytest.raises(ArgumentError, match=r"2 class names for 3"):
        convert(module, ["a", "b"])
    state = dict(module.state_dict())
    state["class_predictor.weight"], state["class_predictor.bias"] = torch.zeros(81, 256), torch.zeros(81)
    names = convert(state)[1].class_names
    assert (len(names), names[0], names[79]) == (80, "person", "toothbrush")


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (lambda state: state.pop("model.transformer_module.level_embed.weight"), r"decoder\.level is missing"),
    "a missing part": (
        lambda state: state.pop(
            "model.pixel_level_module.encoder.swin.encoder.layers.1.blocks.0.attention.k_proj.bias"
        ),
        r"backbone\.layers\.1\.blocks\.0\.attn\.qkv\.bias",
    ),
    "no classes": (lambda state: state.pop("class_predictor.bias"), r"logits\.bias is missing"),
    "unexpected": (
        lambda state: state.update({"model.adapter": torch.zeros(1)}),
        r"unexpected weights 'model\.adapter'",
    ),
    "a layer too many": (
        lambda state: state.update({"model.transformer_module.decoder.layers.9.fc1.bias": torch.zeros(2048)}),
        r"decoder\.layers\.9\.feed_forward\.expand\.bias is unexpected",
    ),
    "misshapen": (
        lambda state: state.update(
            {"model.pixel_level_module.decoder.mask_projection.weight": torch.zeros(8, 256, 1, 1)}
        ),
        r"pixel_decoder\.maps\.weight is \[8, 256, 1, 1\], expected \[256",
    ),
    "NaN": (
        lambda state: state["model.transformer_module.queries_features.weight"][3].fill_(torch.nan),
        r"decoder\.queries are not finite",
    ),
    "another backbone": (
        lambda state: state.update(
            {"model.pixel_level_module.encoder.swin.embeddings.patch_embeddings.projection.bias": torch.zeros(100)}
        ),
        r"100 channels, 6 blocks",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_damaged_weights_are_refused_by_name(module: nn.Module, what: str) -> None:
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    change, message = CHANGES[what]
    change(state)
    with pytest.raises(ModelFileError, match=message):
        convert(state)


def test_another_configuration_is_refused() -> None:
    with pytest.raises(ModelFileError, match="pre_norm is True; ours has False"):
        convert(build("swin_t", pre_norm=True, num_labels=3))
    with pytest.raises(ModelFileError, match="but Linear"):
        convert(nn.Linear(2, 2))


def test_every_variant_but_the_small_one_converts() -> None:
    assert {f"mask2former_{name}" for name in (*SWIN, "r50")} == set(VARIANTS) - {"mask2former_lite"}
