"""transformers' own small networks, seeded and enlivened, through our decoding and densely by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import widest_gap
from torch import Tensor

import halfpixel
from halfpixel.data.images.prepare import prepare
from halfpixel.engine.load import load, read_description
from halfpixel.engine.predictor import Predictor
from halfpixel.errors import ArgumentError, MissingDependencyError, ModelFileError
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.zoo.foreign import transformers_models
from halfpixel.zoo.foreign.transformers_folder import numbered, read_config
from halfpixel.zoo.foreign.transformers_models import open_transformers

transformers = pytest.importorskip("transformers")

NAMES = {0: "N/A", 1: "cat", 2: "dog", 3: "N/A"}


def rf_detr() -> Any:
    """As the published ones but for its size: windows, four levels of the backbone, deformable attention."""
    backbone = {
        "model_type": "rf_detr_dinov2",
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "image_size": 96,
        "patch_size": 12,
        "num_windows": 2,
        "out_features": ["stage2", "stage4"],
    }
    config = transformers.RfDetrConfig(
        backbone_config=backbone,
        d_model=32,
        decoder_ffn_dim=64,
        decoder_layers=2,
        decoder_self_attention_heads=2,
        decoder_cross_attention_heads=4,
        num_queries=20,
        group_detr=2,
        id2label=NAMES,
    )
    return transformers.RfDetrForInstanceSegmentation(config)


def eomt() -> Any:
    config = transformers.EomtConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        num_blocks=2,
        num_queries=20,
        num_upscale_blocks=2,
        id2label=NAMES,
    )
    return transformers.EomtForUniversalSegmentation(config)


MADE: dict[str, Callable[[], Any]] = {"rf_detr": rf_detr, "eomt": eomt}


def enlivened(network: Any) -> Any:
    """Weights that are large enough for queries to differ."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "bbox" in name or "reference_point" in name:
                weight.normal_(std=0.1, generator=generator)  # boxes stay on the image, and are not tiny
                if re.search(r"model\.bbox_embed\.layers\.2\.bias", name) and "enc_out" not in name:
                    weight[2:] += 2
            elif weight.ndim >= 2:
                weight.normal_(std=1.6 / weight[0].numel() ** 0.5, generator=generator)
                if weight.shape[2:] in ((2, 2), (3, 3)):  # of smooth maps, as trained ones are
                    weight.copy_(weight.mean((2, 3), keepdim=True).expand_as(weight))
            elif "bias" in name:
                weight.normal_(std=0.3, generator=generator)
        for name, buffer in network.named_buffers():
            if "attn_mask_probs" in name:
                buffer.zero_()  # as in published weights: there is no masking left when they predict
    head = next(one for name, one in network.named_modules() if re.search(r"(^|\.)class_(embed|predictor)$", name))
    classes, features = listen(head), listen(getattr(network, "upscale_block", head))
    side = 96 if "RfDetr" in type(network).__name__ else 64
    with torch.no_grad():
        seen = torch.from_numpy(picture((side, side))).permute(2, 0, 1)[None] / 60 - 2
        outputs = network.eval()(pixel_values=seen)
        said = classes[-1][..., : len(NAMES)].flatten(0, -2)
        factor = 2 / said.std(0)
        head.weight[: len(NAMES)] *= factor[:, None]
        head.bias[: len(NAMES)] = (head.bias[: len(NAMES)] - said.mean(0)) * factor
        # masks that fill about half of where they may be
        if hasattr(network, "segmentation_bias"):
            network.segmentation_bias -= outputs.pred_masks.median()
        else:
            network.upscale_block.block[-1].layernorm2d.bias -= features[-1].mean((0, 2, 3))
    return network


def listen(module: torch.nn.Module) -> list[Tensor]:
    """What it says, from now on."""
    heard: list[Tensor] = []
    module.register_forward_hook(lambda _, __, out: heard.append(out))
    return heard


def write(folder: Path, kind: str) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = enlivened(MADE[kind]())
    network.save_pretrained(folder)
    size = {"height": 96, "width": 96} if kind == "rf_detr" else {"shortest_edge": 64, "longest_edge": 64}
    about = {"size": size, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write(tmp_path_factory.mktemp(kind), kind) for kind in MADE}


def picture(size_hw: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.kron(coarse, np.ones((-(-size_hw[0] // 6), -(-size_hw[1] // 6), 1), np.uint8))[: size_hw[0], : size_hw[1]]


# By hand, with whole canvases ----------------------------------------------------------------------------------------


def raw_outputs(predictor: Predictor, file: Path, image: np.ndarray) -> tuple[Any, tuple[int, int]]:
    """What transformers' network says of the image, and how large that is inside of what it is given."""
    kind = predictor.info.variant
    network = getattr(transformers, type(predictor.model.network).__name__).from_pretrained(file.parent).eval()
    content, size = prepare(image, predictor.info.input)
    side = 96 if kind == "rf_detr" else 64
    mean, std = (torch.tensor(one).reshape(3, 1, 1) for one in ([0.5, 0.4, 0.3], [0.2, 0.25, 0.3]))
    canvas = ((torch.zeros(3, side, side) - mean) / std)[None]
    canvas[0, :, : content.shape[1], : content.shape[2]] = content
    with torch.inference_mode():
        return network(pixel_values=canvas), size.network_hw


def sampled(maps: Tensor, stride: float, size_hw: tuple[int, int], network_hw: tuple[int, int]) -> Tensor:
    """Logits `[q, h, w]` at the centres of an image's pixels, the whole canvas of each query."""
    y, x = ((torch.arange(n) + 0.5) * m / n / stride for n, m in zip(size_hw, network_hw, strict=True))
    grid = torch.stack(
        [(2 * x / maps.shape[2] - 1).expand(len(y), -1), (2 * y / maps.shape[1] - 1)[:, None].expand(-1, len(x))], 2
    )
    return torch.nn.functional.grid_sample(
        maps[:, None], grid[None].expand(len(maps), -1, -1, -1), padding_mode="border", align_corners=False
    )[:, 0]


def dense_rf_detr(outputs: Any, size_hw: tuple[int, int], network_hw: tuple[int, int], threshold: float) -> Instances:
    scores, labels = outputs.logits[0].sigmoid().max(1)
    height, width = size_hw
    cx, cy, w, h = (outputs.pred_boxes[0] * torch.tensor([width, height, width, height])).unbind(1)
    boxes = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))
    logits = sampled(outputs.pred_masks[0], 4, size_hw, network_hw)
    y, x = (torch.arange(n) + 0.5 for n in size_hw)
    x0, y0, x1, y1 = boxes[:, :, None, None].unbind(1)
    masks = (logits > 0) & (x >= x0) & (x < x1) & (y[:, None] >= y0) & (y[:, None] < y1)
    there = (boxes[:, 2:] - boxes[:, :2] > 0.05).all(1)
    return in_order(boxes[there], scores[there], labels[there], masks[there], size_hw, threshold)


def dense_eomt(outputs: Any, size_hw: tuple[int, int], network_hw: tuple[int, int], threshold: float) -> Instances:
    maps = outputs.masks_queries_logits[0]
    y, x = (4 * (torch.arange(n) + 0.5) for n in maps.shape[1:])
    seen = ((y < network_hw[0])[:, None] & (x < network_hw[1])) & (maps > 0)
    quality = torch.nan_to_num(torch.stack([m.sigmoid()[s].mean() for m, s in zip(maps, seen, strict=True)]))
    scores, labels = outputs.class_queries_logits[0].softmax(1)[:, :-1].max(1)
    masks = sampled(maps, 4, size_hw, network_hw) > 0
    boxes = CropMasks.from_dense(masks).boxes_xyxy()
    found = in_order(boxes, scores * quality, labels, masks, size_hw, threshold)
    return found[torch.tensor([bool(mask.any()) for mask in found.masks.dense()])]  # type: ignore[union-attr]


def in_order(
    boxes: Tensor, scores: Tensor, labels: Tensor, masks: Tensor, size_hw: tuple[int, int], threshold: float
) -> Instances:
    order = scores.argsort(descending=True)
    order = order[scores[order] > threshold]
    names = numbered(NAMES)
    return Instances(size_hw, boxes[order], scores[order], labels[order], names, CropMasks.from_dense(masks[order]))


DENSE = {"rf_detr": dense_rf_detr, "eomt": dense_eomt}


@pytest.mark.parametrize("size_hw", [(64, 64), (60, 100), (210, 130)])
@pytest.mark.parametrize("kind", list(MADE))
def test_the_same_as_densely_by_hand(files: dict[str, Path], kind: str, size_hw: tuple[int, int]) -> None:
    predictor, image = load(files[kind]), picture(size_hw)
    outputs, network_hw = raw_outputs(predictor, files[kind], image)
    everything = DENSE[kind](outputs, size_hw, network_hw, 0.0)
    threshold = widest_gap(everything.scores)
    expected = everything.above(threshold)
    found = predictor.predict(image, threshold=threshold)
    assert 5 < len(expected) < 20
    assert len(set(expected.labels.tolist())) > 1
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.masks is not None
    assert expected.masks is not None
    if kind == "rf_detr":
        torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3, rtol=0)
    else:
        torch.testing.assert_close(found.boxes_xyxy, found.masks.boxes_xyxy())
    one, other = found.masks.dense(), expected.masks.dense()
    overlap = (one & other).sum((1, 2)) / (one | other).sum((1, 2)).clamp(min=1)
    area = (expected.boxes_xyxy[:, 2:] - expected.boxes_xyxy[:, :2]).prod(1)
    filled = other.sum((1, 2)) / area
    assert ((filled > 0.1) & (filled < 0.9)).sum() > 3
    assert ((one ^ other).sum((1, 2)) / area).max() < 0.006
    assert overlap[filled > 0.1].min() > 0.985
    assert not found.saturated


@pytest.mark.parametrize("kind", list(MADE))
def test_when_the_queries_run_out(files: dict[str, Path], kind: str) -> None:
    predictor = load(files[kind])
    found = predictor.predict(picture((64, 64)), threshold=0.0)
    assert found.saturated
    limited = predictor.predict(picture((64, 64)), threshold=0.0, limit=3)
    assert (len(limited), limited.saturated) == (3, True)
    best = float(found.scores[0])
    assert not predictor.predict(picture((64, 64)), threshold=best - 1e-4).saturated


@pytest.mark.parametrize("kind", list(MADE))
def test_a_batch_is_its_images(files: dict[str, Path], kind: str) -> None:
    predictor = load(files[kind])
    images = [picture((60, 100)), picture((100, 60)), picture((64, 64))]
    together = predictor.predict(images, threshold=0.0)
    for image, found in zip(images, together, strict=True):
        alone = predictor.predict(image, threshold=0.0)
        torch.testing.assert_close(found.scores, alone.scores, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", list(MADE))
def test_it_says_what_it_is_and_only_predicts(files: dict[str, Path], tmp_path: Path, kind: str) -> None:
    predictor = load(str(files[kind]))
    assert predictor.class_names == ("N/A 0", "cat", "dog", "N/A 3")
    assert predictor.backend.precision == "fp32"
    assert halfpixel.open_backend(predictor, "torch").precision == "fp32"
    assert read_description(files[kind]) == predictor.info
    assert predictor.info.input.mean == (0.5, 0.4, 0.3)
    assert predictor.info.input.stretch == (kind == "rf_detr")
    for wanted in (
        lambda: predictor.with_classes(["a"]),
        lambda: predictor.save(tmp_path / "mine.safetensors"),
        lambda: halfpixel.open_backend(predictor, "onnx"),
        lambda: halfpixel.open_backend(predictor, "torch", "bf16"),
        lambda: predictor.model.losses(None, []),  # type: ignore[arg-type]
        lambda: predictor.model.set_classes(3),
        predictor.fast,
    ):
        with pytest.raises(ArgumentError):
            wanted()


# Files that are something else ---------------------------------------------------------------------------------------


def copied(file: Path, folder: Path) -> Path:
    for one in file.parent.iterdir():
        (folder / one.name).write_bytes(one.read_bytes())
    return folder / file.name


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        (
            "config.json",
            {"model_type": "bert"},
            r"type rf_detr or eomt in config\.json, got 'bert', and no converter takes it",
        ),
        ("config.json", {"model_type": None}, "got None"),
        ("config.json", {"num_queries": 30}, "not the weights of .*query.* has another shape"),
        ("config.json", {"hidden_size": "wide"}, "transformers cannot read it"),
        ("config.json", {"id2label": {"0": "cat", "1": "dog"}}, "not the weights of .* has another shape"),
        ("config.json", {"id2label": {"0": "a", "1": "b", "2": "c", "3": ""}}, r"config\.json: id2label"),
        ("config.json", {"id2label": [1]}, r"config\.json: id2label"),
        ("config.json", {"dtype": "float99"}, "transformers cannot read it"),
        ("config.json", {"_name_or_path": "\x1b[31m"}, r"config\.json: source"),
        ("preprocessor_config.json", {"image_mean": [1, 2]}, "preprocessor_config"),
        ("preprocessor_config.json", {"image_mean": "dark"}, "preprocessor_config"),
        ("preprocessor_config.json", {"image_std": 3}, "preprocessor_config"),
    ],
)
def test_files_that_do_not_go_together(
    files: dict[str, Path], tmp_path: Path, name: str, changes: dict[str, Any], why: str
) -> None:
    file = copied(files["eomt"], tmp_path)
    edit(tmp_path / name, **changes)
    with pytest.raises(ModelFileError, match=why) as caught:
        load(file)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [{"shortest_edge": 800}, 96, {"height": -3, "width": 96}, {"height": "a", "width": 1}])
def test_a_size_is_needed(files: dict[str, Path], tmp_path: Path, size: object) -> None:
    file = copied(files["rf_detr"], tmp_path)
    edit(tmp_path / "preprocessor_config.json", size=size)
    with pytest.raises(ModelFileError, match="preprocessor_config"):
        load(file)


def test_broken_files(files: dict[str, Path], tmp_path: Path) -> None:
    file = copied(files["eomt"], tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"config\.json: cannot be read"):
        load(file)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ModelFileError, match=r"config\.json: expected a JSON object"):
        load(file)
    copied(files["eomt"], tmp_path)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelFileError):
        load(file)


def test_weights_that_are_no_numbers(files: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = copied(files["eomt"], tmp_path)
    state = load_file(file)
    state["query.weight"][0, 0] = torch.nan
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match=r"query\.weight are not finite"):
        load(file)


@pytest.mark.parametrize("kind", list(MADE))
def test_nothing_but_the_two_files_counts(files: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """Kernels that a description names would be fetched, or are for GPUs; and there may be other weights."""
    file = copied(files[kind], tmp_path)
    file.rename(tmp_path / "best.safetensors")
    file.write_bytes(b"something else")
    content = json.loads((tmp_path / "config.json").read_text())
    for part in (content, content.get("backbone_config", {})):
        part |= {"attn_implementation": "nobody/kernels", "_attn_implementation": "nobody/kernels"}
    edit(tmp_path / "config.json", **content, auto_map={"AutoModel": "evil.Model"})
    loaded = load(tmp_path / "best.safetensors")
    for module in loaded.model.modules():
        assert getattr(getattr(module, "config", None), "_attn_implementation", "sdpa") == "sdpa"
    image = picture((60, 100))
    expected, found = (one.predict(image, threshold=0.0) for one in (load(files[kind]), loaded))
    assert torch.equal(found.scores, expected.scores)


def test_our_own_model_is_ours_whatever_lies_beside_it(tmp_path: Path) -> None:
    load("nuclei").save(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    assert load(tmp_path / "model.safetensors").info.variant == load("nuclei").info.variant


def test_an_older_transformers(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        __version__ = "4.0"

    monkeypatch.setattr(transformers_models, "load_extra", lambda *_: Old())
    with pytest.raises(MissingDependencyError, match=r"transformers 4\.0 has no Eomt.*pip install --upgrade"):
        load(files["eomt"])


def test_numbers_are_no_names(files: dict[str, Path], tmp_path: Path) -> None:
    """Where a configuration has none, transformers makes them up."""
    file = copied(files["eomt"], tmp_path)
    edit(tmp_path / "config.json", id2label={str(k): f"LABEL_{k}" for k in range(4)})
    assert read_config(file).class_names() is None
    assert open_transformers(file)[0].class_names == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    assert open_transformers(file, "abcd")[0].class_names == tuple("abcd")
    assert open_transformers(file, "abc")[0].class_names[0] == "LABEL_0"
    assert read_config(files["eomt"]).class_names() == open_transformers(files["eomt"], "abcd")[0].class_names
