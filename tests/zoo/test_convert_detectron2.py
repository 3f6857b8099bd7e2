"""Detectron2's weights: its names and shapes are written down here, and what it computes with them, step by step.

It cannot be installed beside current versions of torch, so a forward of its published configuration, straight from its
names, is the oracle.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, roi_align

from halfpixel.engine.load import load
from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.structures.images import Limits
from halfpixel.zoo.convert.detectron2 import convert, read

pytestmark = pytest.mark.filterwarnings("ignore:the file does not say how its network was configured")

CLASSES = 3
BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}
BODY = "backbone.bottom_up."
Weights = dict[str, np.ndarray[Any, Any]]


def shapes(kind: str, classes: int = CLASSES) -> dict[str, tuple[int, ...]]:
    """Of `mask_rcnn_R_50_FPN`, `faster_rcnn_R_50_FPN` or `pointrend_rcnn_R_50_FPN`."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(name: str, *shape: int, norm: bool = False) -> None:
        found[f"{name}.weight"] = shape
        if not norm:
            found[f"{name}.bias"] = shape[:1]
            return
        for part in ("weight", "bias", "running_mean", "running_var"):
            found[f"{name}.norm.{part}"] = shape[:1]

    conv(f"{BODY}stem.conv1", 64, 3, 7, 7, norm=True)
    inputs = 64
    for stage, blocks in BLOCKS.items():
        width = 64 * 2 ** (stage - 2)
        for k in range(blocks):
            name = f"{BODY}res{stage}.{k}"
            if k == 0:
                conv(f"{name}.shortcut", 4 * width, inputs, 1, 1, norm=True)
            conv(f"{name}.conv1", width, inputs, 1, 1, norm=True)
            conv(f"{name}.conv2", width, width, 3, 3, norm=True)
            conv(f"{name}.conv3", 4 * width, width, 1, 1, norm=True)
            inputs = 4 * width
        conv(f"backbone.fpn_lateral{stage}", 256, inputs, 1, 1)
        conv(f"backbone.fpn_output{stage}", 256, 256, 3, 3)
    conv("proposal_generator.rpn_head.conv", 256, 256, 3, 3)
    conv("proposal_generator.rpn_head.objectness_logits", 3, 256, 1, 1)
    conv("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1, 1)
    conv("roi_heads.box_head.fc1", 1024, 256 * 49)
    conv("roi_heads.box_head.fc2", 1024, 1024)
    conv("roi_heads.box_predictor.cls_score", classes + 1, 1024)
    conv("roi_heads.box_predictor.bbox_pred", 4 * classes, 1024)
    if kind == "mask_rcnn":
        for k in range(1, 5):
            conv(f"roi_heads.mask_head.mask_fcn{k}", 256, 256, 3, 3)
        found["roi_heads.mask_head.deconv.weight"] = (256, 256, 2, 2)
        found["roi_heads.mask_head.deconv.bias"] = (256,)
        conv("roi_heads.mask_head.predictor", classes, 256, 1, 1)
    if kind == "point_rend":
        conv("roi_heads.mask_head.coarse_head.reduce_spatial_dim_conv", 256, 256, 2, 2)
        conv("roi_heads.mask_head.coarse_head.fc1", 1024, 256 * 49)
        conv("roi_heads.mask_head.coarse_head.fc2", 1024, 1024)
        conv("roi_heads.mask_head.coarse_head.prediction", 49 * classes, 1024)
        for k in range(1, 4):
            conv(f"roi_heads.mask_head.point_head.fc{k}", 256, 256 + classes, 1)
        conv("roi_heads.mask_head.point_head.predictor", classes, 256 + classes, 1)
    return found


def weights(kind: str = "mask_rcnn") -> Weights:
    """Seeded, of sizes that keep activations alive."""
    rng, found = np.random.default_rng(0), {}
    for name, shape in shapes(kind).items():
        if name.endswith("running_var"):
            found[name] = rng.uniform(0.5, 2, shape)
        elif "norm.weight" in name:
            found[name] = rng.uniform(0.2, 1.0, shape)
        elif len(shape) == 1:
            found[name] = 0.1 * rng.standard_normal(shape)
        else:
            found[name] = rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
    found[f"{BODY}stem.conv1.weight"] /= 60  # pixels are up to 255
    for name in found:
        if name.startswith("backbone.fpn"):
            found[name] *= 0.3
        if "cls_score" in name:
            found[name] *= 4
        if "anchor_deltas" in name or "bbox_pred" in name:
            found[name] *= 0.3
    return {name: value.astype(np.float32) for name, value in found.items()}


class Reference:
    """What Detectron2 computes at inference, in float64, from an image in bytes from blue to red."""

    def __init__(self, weights: Weights) -> None:
        self.w = {name: torch.from_numpy(value).double() for name, value in weights.items()}

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"), stride, padding)
        if f"{name}.norm.weight" not in self.w:
            return x
        mean, var, scale, shift = (
            self.w[f"{name}.norm.{one}"].reshape(1, -1, 1, 1)
            for one in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def pyramid(self, x: Tensor) -> list[Tensor]:
        x = F.max_pool2d(self.conv(x, f"{BODY}stem.conv1", 2, 3).relu(), 3, 2, 1)
        outputs: dict[int, Tensor] = {}
        for stage, blocks in BLOCKS.items():
            for k in range(blocks):
                name, stride = f"{BODY}res{stage}.{k}", 2 if stage > 2 and k == 0 else 1
                out = self.conv(x, f"{name}.conv1", stride).relu()
                out = self.conv(self.conv(out, f"{name}.conv2", 1, 1).relu(), f"{name}.conv3")
                x = (out + (self.conv(x, f"{name}.shortcut", stride) if k == 0 else x)).relu()
            outputs[stage] = x
        merged, found = None, []
        for stage in (5, 4, 3, 2):
            lateral = self.conv(outputs[stage], f"backbone.fpn_lateral{stage}")
            merged = lateral if merged is None else lateral + F.interpolate(merged, scale_factor=2, mode="nearest")
            found.insert(0, self.conv(merged, f"backbone.fpn_output{stage}", 1, 1))
        return [*found, F.max_pool2d(found[-1], 1, 2)]

    def proposals(self, pyramid: list[Tensor], size_hw: tuple[int, int]) -> Tensor:
        boxes, scores, levels = [], [], []
        for level, features in enumerate(pyramid):
            head = "proposal_generator.rpn_head."
            hidden = self.conv(features, f"{head}conv", 1, 1).relu()
            logits = self.conv(hidden, f"{head}objectness_logits").permute(0, 2, 3, 1).flatten()
            deltas = self.conv(hidden, f"{head}anchor_deltas").permute(0, 2, 3, 1).reshape(-1, 4)
            side, stride, anchors = 32.0 * 2**level, 4 * 2**level, []
            for row in range(features.shape[2]):
                for column in range(features.shape[3]):
                    for ratio in (0.5, 1.0, 2.0):  # height over width, the area being the side's square
                        w, h, x, y = side / ratio**0.5, side * ratio**0.5, column * stride, row * stride
                        anchors.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            best = logits.topk(min(1000, len(logits))).indices
            decoded = decoded_boxes(deltas[best], torch.tensor(anchors, dtype=torch.float64)[best], (1, 1))
            boxes.append(clipped(decoded, size_hw))
            scores.append(logits[best])
            levels.append(torch.full_like(best, level))
        found = torch.cat(boxes)
        usable = (found[:, 2:] > found[:, :2]).all(1)
        found, score, level_of = found[usable], torch.cat(scores)[usable], torch.cat(levels)[usable]
        return found[batched_nms(found, score, level_of, 0.7)[:1000]]

    def pooled(self, pyramid: list[Tensor], boxes: Tensor, size: int) -> Tensor:
        found = []
        for box in boxes:
            side = ((box[2] - box[0]) * (box[3] - box[1])).sqrt()
            level = int(torch.floor(4 + torch.log2(side / 224 + 1e-8)).clamp(2, 5)) - 2
            found.append(roi_align(pyramid[level], [box[None]], size, 1 / (4 << level), 0, aligned=True))
        return torch.cat(found)

    def detect(self, image_bgr: Tensor, limit: int) -> dict[str, Tensor]:
        mean = torch.tensor([103.53, 116.28, 123.675], dtype=torch.float64).reshape(1, 3, 1, 1)
        size_hw = (image_bgr.shape[2], image_bgr.shape[3])
        pyramid = self.pyramid(image_bgr.double() - mean)
        rois = self.proposals(pyramid, size_hw)
        hidden = self.linear(self.pooled(pyramid, rois, 7).flatten(1), "roi_heads.box_head.fc1").relu()
        hidden = self.linear(hidden, "roi_heads.box_head.fc2").relu()
        scores = self.linear(hidden, "roi_heads.box_predictor.cls_score").softmax(1)[:, :-1]
        deltas = self.linear(hidden, "roi_heads.box_predictor.bbox_pred").reshape(len(rois), -1, 4)
        boxes = clipped(decoded_boxes(deltas, rois[:, None], (10, 5)), size_hw)
        row, label = torch.nonzero(scores > 0.05, as_tuple=True)
        kept = batched_nms(boxes[row, label], scores[row, label], label, 0.5)[:limit]
        row, label = row[kept], label[kept]
        found = {"boxes_xyxy": boxes[row, label], "scores": scores[row, label], "labels": label}
        return found | {"masks": self.masks(pyramid, found["boxes_xyxy"], label)}

    def masks(self, pyramid: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        x = self.pooled(pyramid, boxes, 14)
        for k in range(1, 5):
            x = self.conv(x, f"roi_heads.mask_head.mask_fcn{k}", 1, 1).relu()
        name = "roi_heads.mask_head.deconv"
        x = F.conv_transpose2d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], 2).relu()
        return self.conv(x, "roi_heads.mask_head.predictor")[torch.arange(len(boxes)), labels].sigmoid()


def decoded_boxes(deltas: Tensor, boxes: Tensor, weights: tuple[float, float]) -> Tensor:
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + sides / 2 + deltas[..., :2] / weights[0] * sides
    half = sides * (deltas[..., 2:] / weights[1]).clamp(max=np.log(1000 / 16)).exp() / 2
    return torch.cat([centres - half, centres + half], -1)


def clipped(boxes: Tensor, size_hw: tuple[int, int]) -> Tensor:
    most = torch.tensor([size_hw[1], size_hw[0]] * 2, dtype=boxes.dtype)
    return boxes.clamp(min=0).minimum(most)


def test_a_file_of_the_model_zoo_detects_the_same(tmp_path: Path) -> None:
    given = weights()
    path = tmp_path / "model_final_a54504.pkl"
    path.write_bytes(pickle.dumps({"model": given, "__author__": "Detectron2 Model Zoo"}, 2))
    ours, info = read(path)
    assert (info.licence, info.source) == ("", "weights in Detectron2's naming")  # nobody knows who trained them
    assert info.variant == "mask_rcnn_r50_fpn"
    image = np.random.default_rng(1).integers(0, 256, (1, 3, 128, 160))
    image_bgr = F.interpolate(torch.from_numpy(image).double()[:, :, ::8, ::8], (128, 160), mode="bicubic")
    expected = Reference(given).detect(image_bgr, 20)
    mean, std = (
        torch.tensor(one, dtype=torch.float64).reshape(1, 3, 1, 1) for one in (info.input.mean, info.input.std)
    )
    rgb = (image_bgr.flip(1) / 255 - mean) / std
    with torch.no_grad():
        found = ours.double()(rgb, torch.tensor([[128, 160]]), Limits.of(info.score_threshold, 20))
    assert len(expected["scores"]) > 10
    assert expected["scores"].std() > 0.01
    assert torch.equal(found["labels"], expected["labels"])
    torch.testing.assert_close(found["scores"].double(), expected["scores"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found["boxes_xyxy"].double(), expected["boxes_xyxy"], atol=0.02, rtol=0)
    torch.testing.assert_close(found["masks"].double(), expected["masks"], atol=2e-3, rtol=0)


def test_names_of_faster_rcnn_and_of_point_rend_old_and_new() -> None:
    assert convert(weights("faster_rcnn"))[1].variant == "faster_rcnn_r50_fpn"
    new = weights("point_rend")
    model, info = convert({"model": new, "__author__": "Detectron2 Model Zoo"}, ("a", "b", "c"))
    assert info.variant == "point_rend_r50_fpn"
    old = {
        name.replace("mask_head.coarse_head.fc", "mask_coarse_head.coarse_mask_fc")
        .replace("mask_head.coarse_head", "mask_coarse_head")
        .replace("mask_head.point_head", "mask_point_head"): value
        for name, value in new.items()
    }
    assert old.keys() != new.keys()
    again = convert(old)[0].state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_what_files_hold_besides_weights() -> None:
    given = weights("faster_rcnn")
    for level in range(5):
        half = np.array([[2**0.5, 0.5**0.5], [1, 1], [0.5**0.5, 2**0.5]]) * 16 * 2**level  # width, height
        given[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = np.hstack([-half, half]).astype("f4")
    given["pixel_mean"] = np.array([100, 110, 120], "f4").reshape(3, 1, 1)
    given["pixel_std"] = np.array([51, 51, 102], ">f4").reshape(3, 1, 1)
    info = convert(given)[1]
    assert info.input.mean == pytest.approx((120 / 255, 110 / 255, 100 / 255))
    assert info.input.std == pytest.approx((0.4, 0.2, 0.2))
    given["proposal_generator.anchor_generator.cell_anchors.0"] *= 2
    with pytest.raises(ModelFileError, match=r"cell_anchors\.0 is .* anchors that ours cannot have"):
        convert(given)


def test_statistics_that_were_worked_into_the_weights() -> None:
    given = {name: value for name, value in weights().items() if "running" not in name}
    model, _ = convert(given)
    assert model.state_dict()["backbone.layer1.0.downsample.1.running_var"].eq(1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("roi_heads.mask_head.deconv.bias"), "mask_head.upsample.bias is missing"),
        (lambda s: s.update({"backbone.bottom_up.res4.6.conv1.weight": np.zeros((256, 1024, 1, 1), "f4")}), "layer3.6"),
        (lambda s: s.update({"roi_heads.keypoint_head.conv_fcn1.weight": np.zeros(1, "f4")}), "keypoint_head"),
        (lambda s: s.update({"roi_heads.box_predictor.bbox_pred.bias": np.zeros(4, "f4")}), "1 times for 3 classes"),
        (lambda s: s["proposal_generator.rpn_head.conv.bias"].fill(np.inf), "rpn.convs.0.conv.bias are not finite"),
        (lambda s: s.update({"more": [1, 2]}), "no state dict"),
    ],
)
def test_other_weights_are_refused(change: Any, message: str) -> None:
    given: Any = weights()
    change(given)
    with pytest.raises(ModelFileError, match=message):
        convert({"model": given})


def test_a_training_of_ones_own_has_names_and_a_configuration_to_be_told(tmp_path: Path) -> None:
    torch.save({"model": {k: torch.from_numpy(v) for k, v in weights().items()}, "iteration": 7}, tmp_path / "own.pth")
    with pytest.warns(UserWarning, match=r"does not say how .* as Detectron2's mask_rcnn_R_50_FPN has them"):
        predictor = load(tmp_path / "own.pth", class_names=["bolt", "nut", "ring"])
    assert predictor.class_names == predictor.info.class_names == ("bolt", "nut", "ring")
    predictor.save(tmp_path / "own.safetensors")
    assert load(tmp_path / "own.safetensors").class_names == ("bolt", "nut", "ring")
    renamed = load(tmp_path / "own.safetensors", class_names="abc")
    assert renamed.predict(np.zeros((64, 64, 3), "u1")).class_names == ("a", "b", "c")
    with pytest.raises(ArgumentError, match="2 class names for 3 classes"):
        load(tmp_path / "own.safetensors", class_names=["bolt", "nut"])
    with pytest.raises(ArgumentError, match="there twice"):
        load(tmp_path / "own.safetensors", class_names=["nut", "nut", "nut"])


def test_it_loads_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model_final_280758.pkl"
    path.write_bytes(pickle.dumps({"model": weights("faster_rcnn"), "__author__": "Detectron2 Model Zoo"}))
    predictor = load(path)
    assert predictor.info.licence == ""
    assert predictor.info.detection_limit == 100


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "list.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ModelFileError, match=r"list\.pkl: not a file of Detectron2"):
        read(path)
    path.write_bytes(pickle.dumps({"model": {"a": np.zeros(2)}}))
    with pytest.raises(ModelFileError, match=r"list\.pkl: .*unexpected weights 'a'"):
        read(path)
    with pytest.raises(ArgumentError, match="2 class names for 3 classes"):
        convert(weights("faster_rcnn"), ("a", "b"))
