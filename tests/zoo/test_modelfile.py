"""Model files: there and back, and everything that may be wrong with one."""

import dataclasses
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models.mask_rcnn import MaskRCNN, Settings
from halfpixel.structures.calibration import Calibration
from halfpixel.structures.diameters import TrainedDiameters
from halfpixel.structures.images import InputRules
from halfpixel.structures.novelty import Novelty
from halfpixel.zoo.modelfile import (
    ModelInfo,
    build,
    build_described,
    description_of,
    load_backbone,
    load_model,
    parse_info,
    read_info,
    save_described,
    save_model,
    settings_of,
)

DIAMETERS = TrainedDiameters(60.0, 30.0, 80.0, 0.25)
NOVELTY = Novelty(((0.125, -3.5), (0.5, -2.0)), (0.5, 1.5), 0.75, 0.05, "training")
VARIANT = "mask_rcnn_lite"
CLASSES = ("nucleus", "Zellkern ß")
CALIBRATION = Calibration(
    0.35, 0.05, 0.9, (0.05, 1 / 3, 0.9), (0.1, 0.2, 0.95), (0.4, 0.6), (-0.5, 0.25, 0.25), (1.5, 2.5), (10, 12)
)


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    torch.manual_seed(0)
    return build(VARIANT, CLASSES)


@pytest.fixture(scope="module")
def info(model: MaskRCNN) -> ModelInfo:
    return ModelInfo(
        VARIANT,
        CLASSES,
        InputRules(mean=(0.1, 0.2, 0.3), scale=3.0, longest_side=2048, stretch_below=0.4),
        settings_of(model),
        score_threshold=0.35,
        detection_limit=700,
        source="a test",
        licence="Apache-2.0",
        recipe={"steps": 3, "zoom": [0.6, 1.1]},
        measured={"mask AP": 0.5},
    )


@pytest.fixture
def written(model: MaskRCNN, info: ModelInfo, tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", model, info)
    return tmp_path / "model.safetensors"


def test_there_and_back(model: MaskRCNN, info: ModelInfo, written: Path) -> None:
    loaded, read = load_model(written)
    assert read == info
    assert read_info(written) == info
    assert loaded.class_names == CLASSES
    assert loaded.settings == model.settings
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert [path.name for path in written.parent.iterdir()] == ["model.safetensors"]


def test_a_calibration_comes_along(model: MaskRCNN, info: ModelInfo, tmp_path: Path) -> None:
    calibrated = dataclasses.replace(info, calibration=CALIBRATION)
    save_model(tmp_path / "m.safetensors", model, calibrated)
    assert read_info(tmp_path / "m.safetensors") == calibrated


def test_another_description_leaves_the_weights_as_they_are(model: MaskRCNN, info: ModelInfo, tmp_path: Path) -> None:
    half, other = tmp_path / "half.safetensors", tmp_path / "other.safetensors"
    save_model(half, model, info, half=True)
    changed = dataclasses.replace(info, calibration=CALIBRATION, score_threshold=0.4)
    save_described(other, half, changed)
    assert (read_info(half), read_info(other)) == (info, changed)
    with safe_open(half, framework="pt") as one, safe_open(other, framework="pt") as two:
        assert set(one.keys()) == set(two.keys())
        for name in one.keys():  # noqa: SIM118
            assert one.get_tensor(name).dtype == two.get_tensor(name).dtype
            assert torch.equal(one.get_tensor(name), two.get_tensor(name))
    save_described(other, other, info)  # in place, and back to the very same bytes
    assert other.read_bytes() == half.read_bytes()
    with pytest.raises(ModelFileError, match="no such model file"):
        save_described(other, tmp_path / "nowhere.safetensors", info)


def test_a_description_without_a_calibration_is_the_one_that_older_versions_read(written: Path) -> None:
    with safe_open(written, framework="pt") as file:
        assert "calibration" not in json.loads(file.metadata()["halfpixel"])


def test_sizes_come_along_where_they_are_known(model: MaskRCNN, info: ModelInfo, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", model, dataclasses.replace(info, diameters=DIAMETERS))
    assert load_model(tmp_path / "m.safetensors")[1].diameters == DIAMETERS
    assert "diameters" not in json.loads(description_of(info))  # older versions would not know what it is


def test_what_images_looked_like_comes_along(model: MaskRCNN, info: ModelInfo, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", model, dataclasses.replace(info, novelty=NOVELTY))
    assert load_model(tmp_path / "m.safetensors")[1].novelty == NOVELTY
    assert "novelty" not in json.loads(description_of(info))


def test_half_the_size(model: MaskRCNN, info: ModelInfo, written: Path) -> None:
    half = written.with_name("half.safetensors")
    save_model(half, model, info, half=True)
    assert half.stat().st_size < 0.52 * written.stat().st_size
    loaded, _ = load_model(half)
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        kept = tensor if name.endswith("running_var") else tensor.half().float()
        assert torch.equal(loaded.state_dict()[name], kept), name


def test_half_the_size_keeps_what_16_bits_cannot_hold(info: ModelInfo, tmp_path: Path) -> None:
    path, extreme = tmp_path / "m.safetensors", build("faster_rcnn_r50_fpn", CLASSES)  # with normalisations
    with torch.no_grad():
        extreme.backbone.bn1.running_var.fill_(3e-9 - extreme.backbone.bn1.eps)
        extreme.box_head.fcs[0].bias.fill_(1e6)
    other = dataclasses.replace(info, variant="faster_rcnn_r50_fpn", settings=settings_of(extreme))
    save_model(path, extreme, other, half=True)
    loaded, _ = load_model(path)
    assert torch.equal(loaded.backbone.bn1.running_var, extreme.backbone.bn1.running_var)
    assert torch.equal(loaded.box_head.fcs[0].bias, extreme.box_head.fcs[0].bias)
    retensor(path, lambda state: state["backbone.bn1.running_var"][3].fill_(-1e-3))
    with pytest.raises(ModelFileError, match=r"backbone\.bn1\.running_var are no variances"):
        load_model(path)


def test_a_network_in_channels_last_order_is_the_same_file(model: MaskRCNN, info: ModelInfo, written: Path) -> None:
    before = written.read_bytes()
    save_model(written, build(VARIANT, CLASSES).to(memory_format=torch.channels_last), info)
    assert len(written.read_bytes()) == len(before)
    load_model(written)


def test_without_settings_a_variant_gets_its_own(model: MaskRCNN, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", model, ModelInfo(VARIANT, CLASSES))
    assert load_model(tmp_path / "m.safetensors")[0].settings == model.settings
    assert model.settings != Settings()


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the description and leave the weights."""
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        description = json.loads(file.metadata()["halfpixel"])
    change(description)
    save_file(state, path, metadata={"halfpixel": json.dumps(description)})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_tensor(path: Path) -> None:
    retensor(path, lambda state: state.pop("rpn.deltas.bias"))


def spoil_a_tensor(path: Path) -> None:
    retensor(path, lambda state: state["box_head.fcs.1.weight"][3].fill_(math.nan))


def reshape_a_tensor(path: Path) -> None:
    retensor(path, lambda state: state.update({"rpn.deltas.bias": torch.zeros(5)}))


def retensor(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    with safe_open(path, framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    change(state)
    save_file(state, path, metadata=metadata)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "no such model file"),
    "a folder": (folder, "no such model file"),
    "empty": (lambda path: path.write_bytes(b""), "not a safetensors"),
    "text": (lambda path: path.write_text("not a model at all, but long enough"), "not a safetensors"),
    "truncated": (truncate, "not a safetensors"),
    "somebody else's": (lambda path: save_file({"w": torch.zeros(3)}, path), "no description"),
    "no JSON": (lambda path: save_file({"w": torch.zeros(3)}, path, {"halfpixel": "{"}), "description is broken"),
    "a list": (lambda path: save_file({"w": torch.zeros(3)}, path, {"halfpixel": "[1]"}), "description is broken"),
    "a number": (lambda path: save_file({"w": torch.zeros(3)}, path, {"halfpixel": "1"}), "description is broken"),
    "newer": (lambda path: rewrite(path, lambda d: d.update(format=2)), "newer halfpixel"),
    "no format": (lambda path: rewrite(path, lambda d: d.pop("format")), "description is broken"),
    "unknown variant": (lambda path: rewrite(path, lambda d: d.update(variant="mask_rcnn_xxl")), "mask_rcnn_xxl"),
    "unknown setting": (lambda path: rewrite(path, lambda d: d["settings"].update(colour="red")), "colour"),
    "unknown field": (lambda path: rewrite(path, lambda d: d.update(smell="sweet")), "description is broken"),
    "unknown rule": (lambda path: rewrite(path, lambda d: d["input"].update(smell="sweet")), "description is broken"),
    "a calibration that lacks a field": (
        lambda path: rewrite(path, lambda d: d.update(calibration={"threshold": 0.5})),
        "description is broken",
    ),
    "no calibration where there should be": (
        lambda path: rewrite(path, lambda d: d.update(calibration=None)),
        "description is broken",
    ),
    "a calibration that makes no sense": (
        lambda path: rewrite(path, lambda d: d.update(calibration=CALIBRATION.to_json() | {"level": 2})),
        "calibration: level: expected",
    ),
    "other classes": (lambda path: rewrite(path, lambda d: d.update(class_names=["a"])), r"is \[\d.*, expected \["),
    "a tensor too few": (drop_a_tensor, "not the weights of mask_rcnn_lite: rpn.deltas.bias is missing"),
    "a weight that is NaN": (spoil_a_tensor, r"box_head\.fcs\.1\.weight are not finite"),
    "a tensor of another shape": (reshape_a_tensor, r"rpn.deltas.bias is \[5\], expected \[12\]"),
}


WRONG: dict[str, tuple[object, ...]] = {
    "class_names": (
        "abc",
        None,
        {"a": 1},
        [["a"]],
        [],
        [1],
        [None],
        ["a", "a"],
        [""],
        ["a\nb"],
        ["x" * 10_000],
        ["\ud800"],
    ),
    "variant": ([1], None, {}, 3, "\x1b[2J"),
    "score_threshold": ("abc", -1, 1, 2, None, [1], 1e308, math.nan, True),
    "detection_limit": ("abc", -1, 0, None, 1.5, 10**12, 10**30),
    "format": ("1", 1.0, True, None, []),
    "input": (None, [1], "x", {"mean": [1, 2]}),
    "settings": ("abc", [1], 5, {"\ud800": 1}),
    "recipe": ("abc", [1]),
    "measured": ("abc", [1]),
    "source": ({"a": 1}, "x" * 1_000_000, "\x1b[31m", "\ud800"),
    "licence": (None, 3),
    "calibration": ([], None, {}),
    "diameters": ([], None, {}, {"typical_px": 60}, 60, [60, 30, 80], dataclasses.asdict(DIAMETERS) | {"smell": 1}),
    **{
        f"diameters.{name}": ("abc", -1, 0, None, [1], True, math.nan, 1e9)
        for name in ("typical_px", "low_px", "high_px")
    },
    "diameters.network_um": ("abc", -1, 0, [1], True, math.nan),
    "novelty": ([], None, {}, {"threshold": 1}, 60, dataclasses.asdict(NOVELTY) | {"smell": 1}),
    "novelty.references": ("abc", None, [], [1, 2], [[1]], [[1, 2], [1, 2, 3]], [["a", "b"]], [[1, math.nan]], [[]]),
    "novelty.spreads": ("abc", None, [], [1], [0, 1], [-1, 1], [math.nan, 1], [1, 2, 3]),
    "novelty.threshold": ("abc", None, 0, -1, math.nan, math.inf, [1], True),
    "novelty.false_alarm_rate": ("abc", None, -1, 1.5, math.nan, True),
    "novelty.made_on": ("weather", None, 1, "\x1b[2J"),
    "novelty.cell_px": ("abc", None, 0, 1e9, math.nan),
    "input.scale": (0, -1, "abc", 1e9, 100, 1e-9, math.nan, math.inf, [1, 2], True),
    "input.divisor": (0, -32, "a", 10**9, 1, 1.5, 7, 48),
    "input.longest_side": (0, -5, 10**9, 1, 31, "a"),
    "input.shortest_side": (0, 200_000, None),
    "input.mean": ([1, 2], "abc", None, ["a", "b", "c"], [[1], [2], [3]], [math.nan] * 3),
    "input.std": ([0, 0, 0], [math.nan] * 3, [-1, 1, 1]),
    "input.stretch_below": ("x", -1, 1e9, math.nan),
    **{
        f"settings.{name}": ("abc", -1, 10**12, [1], 1 if isinstance(value, bool) else True, math.nan)
        for name, value in dataclasses.asdict(Settings()).items()
    },
}
"""Values that no field of a description may have."""


@pytest.mark.parametrize(("place", "value"), [(place, value) for place, values in WRONG.items() for value in values])
def test_every_field_is_held_to_its_type_and_range(place: str, value: object, description: dict[str, Any]) -> None:
    *outer, name = place.split(".")
    inner = description[outer[0]] if outer else description
    inner[name] = value
    path = Path("m.x")
    with pytest.raises(ModelFileError, match=r"^m\.x: ") as caught:
        build_described(parse_info(json.dumps(description), path), path)
    assert len(str(caught.value)) < 500
    assert "\x1b" not in str(caught.value)


@pytest.fixture
def description(info: ModelInfo) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(description_of(dataclasses.replace(info, diameters=DIAMETERS, novelty=NOVELTY)))
    return plain


DEEP = {"lists": "[" * 100_000, "objects": '{"a":' * 50_000, "digits": '{"format":' + "1" * 5000 + "}"}


@pytest.mark.parametrize("kind", DEEP)
def test_a_description_that_no_reader_could_hold(kind: str) -> None:
    with pytest.raises(ModelFileError, match=r"^m\.x: the model's description is broken"):
        parse_info(DEEP[kind], Path("m.x"))


@pytest.mark.parametrize(
    "change",
    [{"scale": 1e30}, {"scale": math.nan}, {"longest_side": 16}, {"divisor": 33}, {"std": (0.1, 0.0, 0.1)}],
    ids=str,
)
def test_rules_made_in_python_are_held_to_the_same(change: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(change))):
        InputRules(**change)


def test_whole_numbers_and_lists_are_what_they_stand_for(description: dict[str, Any]) -> None:
    description["input"] |= {"scale": 2, "mean": [0, 0, 1]}
    rules = parse_info(json.dumps(description), Path("m.x")).input
    assert (rules.scale, rules.mean) == (2.0, (0.0, 0.0, 1.0))
    assert isinstance(rules.scale, float)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_named_with_the_reason(what: str, written: Path) -> None:
    damage, reason = BROKEN[what]
    damage(written)
    with pytest.raises(ModelFileError, match=reason) as caught:
        load_model(written)
    assert str(written) in str(caught.value)


def test_a_write_that_fails_leaves_the_file_before_it(
    model: MaskRCNN, info: ModelInfo, written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = written.read_bytes()

    opened = Path.open

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", **rest: Full(path, "w") if "w" in mode else opened(path, mode, **rest)
    )
    with pytest.raises(OSError, match="No space"):
        save_model(written, model, info)
    assert written.read_bytes() == before
    assert [path.name for path in written.parent.iterdir()] == ["model.safetensors"]


def test_a_description_that_cannot_be_written_writes_nothing(model: MaskRCNN, info: ModelInfo, written: Path) -> None:
    before = written.read_bytes()
    with pytest.raises(TypeError):
        save_model(written, model, dataclasses.replace(info, measured={"a path": Path("x")}))
    assert written.read_bytes() == before


def test_unknown_networks_and_settings() -> None:
    with pytest.raises(ModelFileError, match=r"'yolo'.*mask_rcnn_lite"):
        build("yolo", CLASSES)
    with pytest.raises(ModelFileError, match="mood"):
        build(VARIANT, CLASSES, {"mood": 1})


def test_backbone_weights(model: MaskRCNN, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    weights = timm.create_model("tf_efficientnet_lite0").state_dict()
    save_file(weights, tmp_path / "lite0.safetensors")
    fresh = build(VARIANT, CLASSES)
    load_backbone(fresh, tmp_path / "lite0.safetensors")
    scale = weights["bn1.weight"] / (weights["bn1.running_var"] + 1e-3).sqrt()
    expected = weights["conv_stem.weight"] * scale[:, None, None, None]
    torch.testing.assert_close(fresh.backbone.state_dict()["conv_stem.weight"], expected)
    (tmp_path / "broken.safetensors").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"broken\.safetensors"):
        load_backbone(fresh, tmp_path / "broken.safetensors")
    save_file({"w": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match=r"other\.safetensors"):
        load_backbone(fresh, tmp_path / "other.safetensors")


def test_others_may_read_the_file(written: Path) -> None:
    beside = written.with_name("beside")
    beside.touch()
    assert written.stat().st_mode == beside.stat().st_mode
