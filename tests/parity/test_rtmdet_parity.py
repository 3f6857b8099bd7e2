"""The same weights say the same as in MMDetection's RTMDet-Ins. Only where it is installed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from mmdet_partner import build, enliven, needs_mmdetection
from skimage import data
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from halfpixel.models.rtmdet import RTMDet
from halfpixel.nn.dynamic_assignment import assign
from halfpixel.nn.dynamic_head import KERNEL, NUMBERS
from halfpixel.structures.images import Limits, Resized
from halfpixel.zoo.convert.mmdet_rtmdet import RENAMES, convert, variant_of
from halfpixel.zoo.convert.state_dicts import translated
from halfpixel.zoo.modelfile import build as build_ours

pytestmark = [needs_mmdetection, pytest.mark.filterwarnings("ignore")]

CLASSES = 5
CONFIGS = {f"rtmdet_ins_{v}": f"rtmdet/rtmdet-ins_{v}_8xb{16 if v == 'x' else 32}-300e_coco.py"
           for v in ("tiny", "s", "m", "l", "x")}  # fmt: skip

SPREADS = {
    **{f"rtm_cls.{k}": (-2.0, 2.0) for k in range(3)},
    **{f"rtm_reg.{k}": (1.5, 0.7) for k in range(3)},
    **{f"rtm_kernel.{k}": (0.0, 0.5) for k in range(3)},
    "mask_head.projection": (0.0, 4.0),
}


def photograph() -> Tensor:
    """Normalised, `[1, 3, h, w]`, red first; sides are multiples of 32."""
    pixels = torch.tensor(np.asarray(data.coffee())).permute(2, 0, 1).double() / 255
    pixels = nn.functional.interpolate(pixels[None], size=(192, 288), mode="bilinear")
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None]


class Pair:
    """Theirs, and ours made from its weights, both in float64."""

    def __init__(self, variant: str) -> None:
        torch.manual_seed(0)
        theirs = build(CONFIGS[variant], num_classes=CLASSES)
        for name, layer in theirs.named_modules():
            if name.endswith("attention.fc"):  # of one number a channel there are no statistics
                nn.init.normal_(layer.weight, std=2 * layer.weight.shape[1] ** -0.5)
        self.theirs: Any = enliven(theirs, photograph().flip(1), SPREADS).float().double()  # as a file holds them
        model, self.info = convert(self.theirs.state_dict())
        assert isinstance(model, RTMDet)
        self.ours = model.double()
        with torch.no_grad():
            self.pyramid = self.theirs.extract_feat(photograph().flip(1))
            self.said = self.theirs.bbox_head(self.pyramid)


@pytest.fixture(scope="module", params=["rtmdet_ins_tiny", "rtmdet_ins_s"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def test_features(pair: Pair) -> None:
    assert pair.info.variant in CONFIGS
    with torch.no_grad():
        ours = pair.ours.neck(pair.ours.backbone(photograph()))
    for found, expected in zip(ours, pair.pyramid, strict=True):
        assert expected.std() > 0.05
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_what_the_head_says(pair: Pair) -> None:
    with torch.no_grad():
        said = pair.ours._said(photograph())
    logits, distances, kernels, maps = pair.said
    rows = [torch.cat([one.flatten(2).transpose(1, 2) for one in each], 1) for each in (logits, distances, kernels)]
    torch.testing.assert_close(said.logits, rows[0], rtol=1e-9, atol=1e-9)
    priors = torch.cat(priors_of(pair))
    low, high = priors[:, :2] - rows[1][0, :, :2], priors[:, :2] + rows[1][0, :, 2:]
    torch.testing.assert_close(said.boxes_xyxy[0], torch.cat([low, high], 1), rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        kernels = said.kernels(0, torch.arange(rows[2].shape[1]))
    torch.testing.assert_close(kernels[:, :NUMBERS], rows[2][0], rtol=1e-9, atol=1e-9)
    assert kernels.shape[1] == KERNEL
    torch.testing.assert_close(said.maps, maps, rtol=1e-9, atol=1e-9)


def priors_of(pair: Pair) -> list[Tensor]:
    """Point and stride of each cell, of each level."""
    sizes = [one.shape[-2:] for one in pair.said[0]]
    generator = pair.theirs.bbox_head.prior_generator
    levels: list[Tensor] = generator.grid_priors(sizes, dtype=torch.float64, device="cpu", with_stride=True)
    return levels


def test_masks_on_the_whole_map(pair: Pair) -> None:
    with torch.no_grad():
        said = pair.ours._said(photograph())
        chosen = torch.arange(3, len(said.points_xy), 37)  # of every level
        kernels = said.kernels(0, chosen)
        maps = said.maps.expand(len(chosen), -1, -1, -1)
        ours = pair.ours.apply_kernels(maps, kernels, torch.zeros(len(chosen), 2, dtype=torch.int64))
        priors = torch.cat(priors_of(pair))[chosen]
        head, maps = pair.theirs.bbox_head, pair.said[3][0]
        generator = head.prior_generator.single_level_grid_priors
        # it would make coordinates in float32
        head.prior_generator.single_level_grid_priors = lambda *a, **k: generator(*a, **k | {"dtype": torch.float64})
        theirs = head._mask_predict_by_feat_single(maps, kernels[:, :NUMBERS], priors)
        head.prior_generator.single_level_grid_priors = generator
    assert theirs.std() > 1
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_detections(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the suppression that its configuration asks for; its masks are cut to their boxes for this."""

    def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, config: Any) -> tuple[Tensor, Tensor]:
        kept = batched_nms(boxes, scores, labels, config["iou_threshold"])
        return torch.cat([boxes[kept], scores[kept, None]], 1), kept

    module = importlib.import_module("mmdet.models.dense_heads.rtmdet_ins_head")
    monkeypatch.setattr(module, "batched_nms", suppress)
    height, width = photograph().shape[2:]
    meta = {"img_shape": (height, width), "ori_shape": (height, width), "scale_factor": (1.0, 1.0)}
    said = [[one.float() for one in each] for each in pair.said[:3]]
    with torch.no_grad():
        (theirs,) = pair.theirs.bbox_head.predict_by_feat(*said, pair.said[3].float(), batch_img_metas=[meta])
        ours_32 = pair.ours.float()
        limits = Limits.of(pair.info.score_threshold, pair.info.detection_limit)
        outputs = ours_32(photograph().float(), torch.tensor([[height, width]]), limits)
        (found,) = ours_32.decode(outputs, [Resized((height, width), (height, width))], limits)
        pair.ours.double()
    assert len(found) == len(theirs.scores) == 100
    assert found.masks is not None
    overlaps = box_iou(found.boxes_xyxy, theirs.bboxes) * (found.labels[:, None] == theirs.labels)
    best, partner = overlaps.max(1)
    assert (best > 0.999).sum() >= 98  # ranks at the limit may be exchanged
    differing, total = 0, 0
    for k in torch.nonzero(best > 0.999).ravel().tolist():
        torch.testing.assert_close(found.scores[k], theirs.scores[partner[k]], atol=1e-4, rtol=0)
        x0, y0, x1, y1 = found.boxes_xyxy[k].tolist()
        rows, columns = slice(int(np.ceil(y0)), int(y1)), slice(int(np.ceil(x0)), int(x1))
        ours = found.masks[k : k + 1].dense()[0, rows, columns]
        expected = theirs.masks[partner[k], rows, columns]
        differing += int((ours != expected).sum())
        total += expected.numel()
    assert total > 10_000
    assert differing < 0.01 * total


def test_assignment(pair: Pair) -> None:
    instances = importlib.import_module("mmengine.structures").InstanceData
    generator = torch.Generator().manual_seed(0)
    points = torch.cat(priors_of(pair))
    low = torch.rand(12, 2, generator=generator, dtype=torch.float64) * torch.tensor([200.0, 120.0])
    objects = torch.cat([low, low + 10 + 60 * torch.rand(12, 2, generator=generator, dtype=torch.float64)], 1)
    labels = torch.arange(12) % CLASSES
    with torch.no_grad():
        said = pair.ours._said(photograph())
    logits, boxes = said.logits[0].float(), said.boxes_xyxy[0].float()  # it takes no others
    points, objects = points.float(), objects.float()
    centres = (objects[:, :2] + objects[:, 2:]) / 2
    ours = assign(logits, boxes, points[:, :2], points[:, 2], objects, centres, labels)
    tasks = importlib.import_module("mmdet.registry").TASK_UTILS
    assigner = tasks.build({"type": "DynamicSoftLabelAssigner", "topk": 13})
    theirs = assigner.assign(
        instances(bboxes=boxes, scores=logits, priors=points), instances(bboxes=objects, labels=labels)
    )
    expected = torch.nonzero(theirs.gt_inds > 0).ravel()
    assert len(expected) > 20
    assert torch.equal(ours.points, expected)
    assert torch.equal(ours.objects, theirs.gt_inds[expected] - 1)
    torch.testing.assert_close(ours.overlaps, theirs.max_overlaps[expected].to(ours.overlaps), atol=1e-6, rtol=0)


@pytest.mark.parametrize("variant", CONFIGS)
def test_names_and_shapes(variant: str) -> None:
    """Without filling them: every weight of ours has one there, of its shape, and the other way round."""
    theirs = build(CONFIGS[variant], "meta", num_classes=CLASSES).state_dict()
    shapes = {name: torch.empty(tensor.shape).fill_(0) for name, tensor in theirs.items() if tensor.ndim < 2}
    shapes |= {name: torch.zeros(1).expand(tensor.shape) for name, tensor in theirs.items() if tensor.ndim >= 2}
    assert variant_of(shapes) == variant
    with torch.device("meta"):
        ours = build_ours(variant, tuple("abcde")).state_dict()
    found = translated(shapes, RENAMES, "it")
    assert {name: one.shape for name, one in found.items()} == {name: one.shape for name, one in ours.items()}
