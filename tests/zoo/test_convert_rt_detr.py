"""RT-DETR's weights from transformers: the same numbers in float64, and files that are something else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.nn import hybrid_encoder
from halfpixel.structures.images import Limits
from halfpixel.zoo.convert.transformers_rt_detr import convert, published, translated
from halfpixel.zoo.modelfile import load_model, save_model

transformers = pytest.importorskip("transformers")

QUERIES = 300


def partner(variant: str, version: str = "") -> nn.Module:
    """The published architecture with seeded, enlivened weights."""
    basic = {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
    smaller = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5, "decoder_layers": 3}
    small = variant == "rt_detr_r18"
    backbone = transformers.RTDetrResNetConfig(out_indices=[2, 3, 4], **(basic if small else {}))
    config = getattr(transformers, f"RTDetr{version}Config")(
        backbone_config=backbone, num_labels=5, num_queries=QUERIES, **(smaller if small else {})
    )
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, f"RTDetr{version}ForObjectDetection")(config)
    return enlivened(model.double().eval())


@torch.no_grad()
def enlivened(model: nn.Module) -> nn.Module:
    """With fresh weights, of which many are 0, wrong code passes."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.uniform_(0.7, 1.3)
        elif name.endswith(("bias", "running_mean")):
            tensor.add_(0.1 * torch.randn_like(tensor))
        elif tensor.ndim == 2:
            tensor.normal_(std=1.5 / tensor.shape[1] ** 0.5)
    return model


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return partner("rt_detr_r18")


def said(theirs: nn.Module, variant: str, images: Tensor, queries: int = QUERIES) -> tuple[Any, Any]:
    """What both say in float64."""
    model, info = convert(theirs)
    assert info.variant == variant
    model = model.double()
    model.load_state_dict(translated(published(theirs.state_dict()), model, variant))
    with torch.no_grad():
        return theirs(images), model._say(images, queries)[0]


@pytest.mark.parametrize("variant", ["rt_detr_r18", pytest.param("rt_detr_r50", marks=pytest.mark.slow)])
@pytest.mark.parametrize("version", ["", "V2"])
def test_the_same_queries_scores_and_boxes(variant: str, version: str) -> None:
    images = torch.randn(2, 3, 96, 448, generator=torch.Generator().manual_seed(1)).double()  # cells at the edge, too
    theirs, ours = said(partner(variant, version), variant, images)
    torch.testing.assert_close(ours[-1].logits, theirs.logits, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(ours[-1].boxes, theirs.pred_boxes, atol=1e-9, rtol=1e-9)
    for k, one in enumerate(ours[1:]):
        torch.testing.assert_close(one.hidden, theirs.intermediate_hidden_states[:, k], atol=1e-9, rtol=1e-9)
    assert ours[-1].logits.std() > 0.5
    assert (ours[-1].boxes.std(1) / ours[-1].boxes.mean(1)).min() > 0.03
    if variant == "rt_detr_r18":
        assert (ours[0].boxes == 1).all(2).any(), "no cell at the edge is among the queries"


def test_a_wrong_order_of_sines_would_be_noticed(small: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says almost the same, with fresh weights even to 3e-6: float32 would not show it."""
    right = hybrid_encoder.sine_positions
    monkeypatch.setattr(
        hybrid_encoder, "sine_positions", lambda y, x, width, interleaved: right(y, x, width, not interleaved)
    )
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1)).double()
    small.config.num_queries = 250
    theirs, ours = said(small, "rt_detr_r18", images, 250)
    small.config.num_queries = QUERIES
    assert (ours[-1].logits.sort(1).values - theirs.logits.sort(1).values).abs().max() > 1e-6


def test_what_is_found_is_what_their_queries_say(small: nn.Module) -> None:
    model, info = convert(small)
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(2))
    small.config.num_queries = 252  # all cells
    with torch.no_grad():
        theirs = small(images.double())
    small.config.num_queries = QUERIES
    scores, labels = theirs.logits[0].sigmoid().max(1)
    threshold = float(scores.sort().values[100:102].mean())
    with torch.no_grad():
        ours = model(images, torch.tensor([[90, 120]]), Limits.of(threshold, 1000))
    x, y, width, height = (theirs.pred_boxes[0] * torch.tensor([128, 96, 128, 96])).unbind(1)
    corners = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)
    corners = torch.minimum(corners.clamp(min=0), torch.tensor([120.0, 90, 120, 90])).float()
    kept = torch.nonzero((scores > threshold) & (corners[:, 2:] - corners[:, :2] > 0.01).all(1)).ravel()
    kept = kept[scores[kept].argsort(descending=True)]
    torch.testing.assert_close(ours["scores"], scores[kept].float(), atol=1e-3, rtol=0)
    close = (ours["boxes_xyxy"] - corners[kept]).abs().amax(1) < 0.05
    assert close.float().mean() > 0.95  # neighbours in the order of scores may change places
    assert (ours["labels"] == labels[kept]).float().mean() > 0.95
    assert len(kept) > 100
    assert info.input.shortest_side == info.input.longest_side == 640
    assert (info.settings["masks"], info.settings["coordinates"]) == (False, "image")


def test_published_weights_load_and_come_back(small: nn.Module, tmp_path: Path) -> None:
    """transformers saves under the names of the published checkpoints, which its modules no longer have."""
    small.save_pretrained(tmp_path / "theirs")  # type: ignore[operator]
    (file,) = (tmp_path / "theirs").glob("*.safetensors")
    state = load_file(file)
    assert "model.encoder.encoder.0.layers.0.self_attn.out_proj.weight" in state
    assert set(state) != set(small.state_dict())
    model, info = convert(state)
    assert info.class_names == tuple(f"class {k}" for k in range(1, 6))
    other, _ = convert(small, ["a", "b", "c", "d", "e"])
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    save_model(tmp_path / "ours.safetensors", model, info)
    again, read = load_model(tmp_path / "ours.safetensors")
    assert read == info
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_heads_under_their_older_names(small: nn.Module) -> None:
    state = dict(small.state_dict())
    for key in [key for key in state if "_embed" in key and "decoder" in key]:
        state[key.removeprefix("model.decoder.")] = state.pop(key)
    model, _ = convert(state)
    assert torch.equal(model.decoder.logits[2].weight, small.state_dict()["model.decoder.class_embed.2.weight"].float())


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_few_bits(small: nn.Module, kind: torch.dtype) -> None:
    rounded = {key: tensor.to(kind) if tensor.ndim > 1 else tensor for key, tensor in small.state_dict().items()}
    model, _ = convert(rounded)
    expected, _ = convert({key: tensor.double() for key, tensor in rounded.items()})
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in model.state_dict().items())


NORM = "model.encoder.pan_blocks.1.bottlenecks.2.conv2.norm"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(f"{NORM}.bias"), f"{NORM}.bias is missing"),
        (lambda state: state.pop("model.decoder.layers.2.self_attn.q_proj.weight"), r"self_attn.q_proj.weight is miss"),
        (lambda state: state.update({"model.more": torch.zeros(1)}), "model.more is unexpected"),
        (
            lambda state: state.update({f"{NORM}.weight": torch.zeros(3)}),
            rf"{NORM}.weight is \[3\], expected \[128\]",
        ),
        (lambda state: state[f"{NORM}.running_mean"].fill_(float("nan")), f"{NORM}.running_mean are not finite"),
        (lambda state: state.update({"class_embed.0.bias": torch.ones(5)}), "twice, with different values"),
        (lambda state: state.update({"model.decoder.layers.0.encoder_attn.n_points_scale": torch.ones(12)}), "is not"),
        (lambda state: state.clear(), "no state dict"),
    ],
)
def test_other_weights_are_refused_by_name(
    small: nn.Module, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    state = {key: tensor.clone() for key, tensor in small.state_dict().items()}
    change(state)
    with pytest.raises(ModelFileError, match=message):
        convert(state)


@pytest.mark.parametrize(
    ("name", "value"), [("encoder_activation_function", "relu"), ("normalize_before", True), ("decoder_n_points", 8)]
)
def test_settings_that_weights_do_not_show_are_refused(small: nn.Module, name: str, value: object) -> None:
    before = getattr(small.config, name)
    setattr(small.config, name, value)
    try:
        with pytest.raises(ModelFileError, match=name):
            convert(small)
    finally:
        setattr(small.config, name, before)


def test_the_number_of_names_is_checked(small: nn.Module) -> None:
    with pytest.raises(ArgumentError, match="2 class names for 5"):
        convert(small, ["a", "b"])
