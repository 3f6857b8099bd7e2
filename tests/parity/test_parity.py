"""The same weights give the same detections and the same losses as torchvision."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from parity.compare import Copy, compare, lively_torchvision, run_pair, their_objects
from skimage import data
from torch import Tensor
from torchvision.models.detection import MaskRCNN

from halfpixel.engine.load import from_torchvision
from halfpixel.engine.predictor import Predictor
from halfpixel.nn.matching import BACKGROUND
from halfpixel.structures.images import ImageBatch
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks
from halfpixel.structures.targets import Targets

CLASSES = {"v1": 91, "v2": 4}


def photograph(name: str) -> Tensor:
    pixels = np.asarray(getattr(data, name)())
    return torch.tensor(pixels).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="module", params=[pytest.param("v1", marks=pytest.mark.slow), "v1 frozen", "v2"])
def pair(request: pytest.FixtureRequest) -> tuple[MaskRCNN, Predictor]:
    variant, _, frozen = request.param.partition(" ")
    module = lively_torchvision(
        variant,
        CLASSES[variant],
        photograph("astronaut"),
        seed=0,
        frozen=bool(frozen),
        min_size=160,
        max_size=256,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=150,
        box_score_thresh=0.1,
        box_nms_thresh=0.45,
        box_detections_per_img=40,
    )
    return module, from_torchvision(module)


BATCHES = {
    "square": lambda: [photograph("astronaut")],
    "landscape": lambda: [photograph("coffee")],
    "tall and thin": lambda: [photograph("chelsea")[:, :, 150:250]],
    "enlarged": lambda: [photograph("chelsea")[:, 40:120, 90:190]],
    "two of one size": lambda: [photograph("coffee"), photograph("coffee").flip(2)],
    "two sizes": lambda: [photograph("astronaut"), photograph("coffee")[:, :220]],
}


@pytest.mark.parametrize("batch", BATCHES)
def test_detections(pair: tuple[MaskRCNN, Predictor], batch: str) -> None:
    for result in run_pair(*pair, BATCHES[batch]()):
        assert result.theirs == 40  # lively: the limit is reached
        assert result.faults == []
        assert result.paired >= 36


def test_whole_predictor(pair: tuple[MaskRCNN, Predictor]) -> None:
    """Resizing and normalising included."""
    module, predictor = pair
    pixels = np.asarray(data.coffee())
    (theirs,) = their_objects(module, [photograph("coffee")])
    ours = predictor.on(Copy(predictor.model)).predict(pixels)
    assert len(ours) == len(theirs["boxes"])
    result = compare(theirs, ours, _NoExcuses)
    assert result.faults == []


def test_boxes_alone(pair: tuple[MaskRCNN, Predictor]) -> None:
    """Without its mask head torchvision's network is its Faster R-CNN."""
    module, with_masks = copy.deepcopy(pair[0]), pair[1]
    module.roi_heads.mask_roi_pool = module.roi_heads.mask_head = module.roi_heads.mask_predictor = None
    predictor = from_torchvision(module)
    assert predictor.info.variant == with_masks.info.variant.replace("mask", "faster")
    (theirs,) = their_objects(module, [photograph("coffee")])
    found = predictor.on(Copy(predictor.model)).predict(np.asarray(data.coffee()))
    assert found.masks is None
    assert len(found) == len(theirs["boxes"]) == 40
    distances = torch.cdist(found.boxes_xyxy, theirs["boxes"], p=torch.inf)
    nearest, partner = distances.min(1)
    same = (nearest < 0.05) & (theirs["labels"][partner] - 1 == found.labels)
    assert ((theirs["scores"][partner] - found.scores).abs()[same] < 1e-3).all()
    assert int(same.sum()) >= 38  # but for close calls


class _NoExcuses:
    def explain(self, *_detection: Tensor) -> str | None:
        return None

    def knows(self, *_detection: Tensor) -> bool:
        return False


def test_a_wrong_weight_is_noticed(pair: tuple[MaskRCNN, Predictor]) -> None:
    module, predictor = pair
    bias = predictor.model.box_head.deltas.bias
    with torch.no_grad():
        bias += 0.05
        (result,) = run_pair(module, predictor, [photograph("astronaut")])
        bias -= 0.05
    assert len(result.faults) > 20


def test_policy_is_copied(pair: tuple[MaskRCNN, Predictor]) -> None:
    _, predictor = pair
    settings, info = predictor.model.settings, predictor.info
    assert (settings.alignment, settings.proposals_per_level, settings.proposals) == ("torchvision", 300, 150)
    assert (settings.box_iou, info.score_threshold, info.detection_limit) == (0.45, 0.1, 40)
    assert (info.input.shortest_side, info.input.longest_side) == (160, 256)


def test_losses(pair: tuple[MaskRCNN, Predictor], monkeypatch: pytest.MonkeyPatch) -> None:
    """All five terms, with the same sampled anchors and regions."""
    module, predictor = pair
    model = predictor.model
    images = [photograph("coffee"), photograph("coffee").flip(2)]
    targets = [_objects(seed, images[0].shape[1:]) for seed in (1, 2)]

    def theirs_sample(matches: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [_every_other(m) for m in matches]
        return [p for p, _ in pairs], [n for _, n in pairs]

    module.train()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()
    monkeypatch.setattr(module.rpn, "fg_bg_sampler", theirs_sample)
    monkeypatch.setattr(module.roi_heads, "fg_bg_sampler", theirs_sample)
    regions: list[Tensor] = []
    propose = module.rpn.filter_proposals

    def keep(*arguments: object) -> tuple[list[Tensor], list[Tensor]]:
        boxes, scores = propose(*arguments)
        regions.extend(boxes)
        return boxes, scores

    monkeypatch.setattr(module.rpn, "filter_proposals", keep)
    expected = module(images, [dict(t) for t in targets])
    resized, their_targets = module.transform(images, [dict(t) for t in targets])
    module.eval()

    def ours_sample(matches: Tensor, _generator: torch.Generator) -> tuple[Tensor, Tensor]:
        positive, negative = _every_other(torch.where(matches >= 0, 1, torch.where(matches == BACKGROUND, 0, -1)))
        return torch.nonzero(positive).ravel(), torch.nonzero(negative).ravel()

    monkeypatch.setattr(model.rpn, "sample", ours_sample)
    monkeypatch.setattr(model, "sample_rois", ours_sample)
    monkeypatch.setattr(model.rpn, "propose", lambda *_: (regions, torch.tensor([len(r) for r in regions])))
    sizes = torch.tensor(resized.image_sizes)
    losses = model.losses(ImageBatch(resized.tensors, sizes), [_targets(t, predictor) for t in their_targets])
    names = {
        "rpn_objectness": "loss_objectness",
        "rpn_box": "loss_rpn_box_reg",
        "class": "loss_classifier",
        "box": "loss_box_reg",
        "mask": "loss_mask",
    }
    assert set(losses) == set(names)
    for ours, theirs in names.items():
        value = float(losses[ours].detach())
        assert value > 0.01
        assert value == pytest.approx(float(expected[theirs].detach()), rel=1e-4), ours


def _every_other(labels: Tensor) -> tuple[Tensor, Tensor]:
    """A fixed choice: every third positive, every 40th negative, as masks."""
    chosen = []
    for value, step in ((1, 3), (0, 40)):
        mask = torch.zeros_like(labels, dtype=torch.bool)
        mask[torch.nonzero(labels >= 1 if value else labels == 0).ravel()[::step]] = True
        chosen.append(mask)
    return chosen[0], chosen[1]


def _objects(seed: int, size_hw: torch.Size) -> dict[str, Tensor]:
    """Ellipses of many sizes, some cut by the edge."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size_hw[0]) + 0.5, torch.arange(size_hw[1]) + 0.5, indexing="ij")
    masks = []
    for _ in range(8):
        cy, cx, ry, rx = torch.rand(4, generator=generator).tolist()
        inside = ((y / size_hw[0] - cy) / (0.05 + 0.2 * ry)) ** 2 + ((x / size_hw[1] - cx) / (0.05 + 0.2 * rx)) ** 2
        masks.append(inside < 1)
    dense = torch.stack(masks)
    labels = torch.randint(1, 4, (8,), generator=generator)
    return {"boxes": CropMasks.from_dense(dense).boxes_xyxy(), "labels": labels, "masks": dense.to(torch.uint8)}


def _targets(theirs: dict[str, Tensor], predictor: Predictor) -> Targets:
    """Torchvision's resized targets as ours: its masks pixel for pixel, its boxes as they are."""
    masks = CropMasks.from_dense(theirs["masks"].bool())
    objects = Instances(
        size_hw=masks.size_hw,
        boxes_xyxy=theirs["boxes"],
        scores=torch.ones(len(theirs["boxes"])),
        labels=theirs["labels"] - 1,
        class_names=predictor.class_names,
        masks=masks,
    )
    return Targets.from_instances(objects)
