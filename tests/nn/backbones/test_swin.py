"""Our Swin against timm's and transformers', with random weights of a useful spread, in float64.

timm does not shift windows that are as large as the map, and ours does, so that image is large enough.
"""

import pytest
import timm
import torch
from torch import Tensor, nn

from halfpixel.errors import ModelFileError
from halfpixel.nn.backbones.backbone import STRIDES
from halfpixel.nn.backbones.swin import Swin, swin_base, swin_large, swin_small, swin_tiny

NARROW = {"depths": (2, 2, 4, 2), "window": 7, "width": 24, "heads": (1, 2, 3, 6)}


def spread(model: nn.Module) -> nn.Module:
    """Weights with which attention attends and positions matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if "bias_table" in name:
                weights.normal_(0, 1, generator=generator)
            elif weights.ndim == 2:
                weights.normal_(0, 1.5 * weights.shape[1] ** -0.5, generator=generator)
            elif "norm" in name and "weight" in name:
                weights.uniform_(0.7, 1.3, generator=generator)
            else:
                weights.normal_(0, 0.2, generator=generator)
    return model.double().eval()


def image(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def narrow_timm() -> nn.Module:
    model = timm.models.swin_transformer.SwinTransformer(
        img_size=448,
        window_size=NARROW["window"],
        embed_dim=NARROW["width"],
        depths=NARROW["depths"],
        num_heads=NARROW["heads"],
    )
    return spread(model)


@torch.no_grad()
def test_it_equals_timm_s() -> None:
    theirs, ours = narrow_timm(), Swin(**NARROW).double()  # type: ignore[arg-type]
    ours.load_imagenet(theirs.state_dict())
    x = theirs.patch_embed(image(448, 448)[:1])
    for stage, found, norm in zip(theirs.layers, ours(image(448, 448)[:1]), ours.norms, strict=True):
        x = stage(x)
        torch.testing.assert_close(found, norm(x).permute(0, 3, 1, 2), atol=1e-10, rtol=1e-10)
        assert found.std() > 0.5


@torch.no_grad()
def test_it_equals_transformers_on_maps_that_windows_do_not_fill() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        embed_dim=NARROW["width"],
        depths=list(NARROW["depths"]),
        num_heads=list(NARROW["heads"]),
        window_size=NARROW["window"],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    theirs = spread(transformers.SwinBackbone(config))
    ours = Swin(**NARROW).double()  # type: ignore[arg-type]
    ours.load_state_dict(renamed(theirs.state_dict()))
    for found, expected in zip(ours(image(96, 160)), theirs(image(96, 160)).feature_maps, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names as timm's: the converter has its own way to say it."""
    found = {}
    for key, tensor in state.items():
        if ".k_proj." in key or ".v_proj." in key or key.startswith("swin.layernorm."):
            continue
        name = key.removeprefix("swin.embeddings.").removeprefix("swin.encoder.")
        if ".q_proj." in key:
            tensor = torch.cat([state[key.replace("q_proj", other)] for other in ("q_proj", "k_proj", "v_proj")])
        for theirs, ours in [
            ("patch_embeddings.projection", "patch_embed.proj"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            ("attention.q_proj", "attn.qkv"),
            ("attention.o_proj", "attn.proj"),
            ("attention.relative_position_bias.", "attn."),
            *((f"hidden_states_norms.stage{k + 1}", f"norms.{k}") for k in range(4)),
        ]:
            name = name.replace(theirs, ours)
        if name.startswith("norm."):
            name = f"patch_embed.{name}"
        if ".downsample." in name:
            name = f"layers.{int(name[7]) + 1}{name[8:]}"
        found[name] = tensor
    return found


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (swin_tiny, "swin_tiny_patch4_window7_224"),
        (swin_small, "swin_small_patch4_window7_224"),
        (swin_base, "swin_base_patch4_window12_384"),
        (swin_large, "swin_large_patch4_window12_384"),
    ],
)
def test_published_sizes_have_timm_s_names_and_shapes(build: type[Swin], name: str) -> None:
    with torch.device("meta"):
        ours, theirs = build(), timm.create_model(name)
        expected = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
        found = {key: tensor.shape for key, tensor in ours.state_dict().items() if not key.startswith("norms.")}
    assert found == {key: shape for key, shape in expected.items() if key in found}
    assert set(expected) - set(found) == {"norm.weight", "norm.bias", "head.fc.weight", "head.fc.bias"}


def test_weights_of_another_network_are_refused() -> None:
    ours, state = Swin(**NARROW), narrow_timm().state_dict()  # type: ignore[arg-type]
    missing = {key: tensor for key, tensor in state.items() if key != "layers.1.downsample.norm.weight"}
    with pytest.raises(ModelFileError, match=r"layers\.1\.downsample\.norm\.weight"):
        ours.load_imagenet(missing)
    with pytest.raises(ModelFileError, match=r"patch_embed\.proj\.weight"):
        ours.load_imagenet(state | {"patch_embed.proj.weight": torch.zeros(24, 3, 2, 2)})


def test_shapes_and_stages() -> None:
    ours = Swin(**NARROW).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        found = [tuple(out.shape) for out in ours(image(64, 96).float())]
    assert found == [(2, c, 64 // s, 96 // s) for c, s in zip(ours.channels, STRIDES, strict=True)]
    parts = {id(p) for stage in ours.stages() for module in stage for p in module.parameters()}
    assert parts == {id(p) for p in ours.parameters()}
    assert len(ours.stages()) == 5
