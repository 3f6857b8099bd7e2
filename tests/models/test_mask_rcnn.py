"""What is particular to Mask R-CNN; what every model promises is in test_model_contract.py."""

import dataclasses

import pytest
import torch
from networks import CLASSES, annotated, batch_of, enliven, few, scene
from torch import Tensor
from torchvision.ops.poolers import LevelMapper

from halfpixel.models import mask_rcnn
from halfpixel.models.mask_rcnn import MaskRCNN, Settings, mask_rcnn_lite, point_rend_lite
from halfpixel.nn import regions as regions_of_interest
from halfpixel.nn.box_head import BoxHead
from halfpixel.nn.mask_head import MaskHead
from halfpixel.nn.matching import BACKGROUND
from halfpixel.nn.network import Outputs
from halfpixel.nn.regions import crop_regions
from halfpixel.nn.rpn import ScoredAnchors
from halfpixel.ops import boxes
from halfpixel.ops.roi_align import FeatureTable
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.targets import Targets
from halfpixel.zoo.modelfile import build

SIZE = Resized((40, 60), (40, 60))
LIMITS = Limits.of(0.05, 100)


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    torch.manual_seed(0)
    return enliven(mask_rcnn_lite(CLASSES, few(mask_rcnn)).eval(), scene(64, seed=1)[0][None])


def rows(xyxy: list[tuple[float, float, float, float]], labels: list[int], scores: list[float]) -> Outputs:
    """Outputs of a network that is sure of full masks."""
    return {
        "boxes_xyxy": torch.tensor(xyxy).reshape(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "image_index": torch.zeros(len(xyxy), dtype=torch.int64),
        "masks": torch.ones(len(xyxy), 28, 28),
        "candidates": torch.tensor([[9, len(xyxy)]]),
        "saturated": torch.tensor([False]),
    }


def found_by(model: MaskRCNN, threshold: float, limit: int) -> Outputs:
    image, _ = scene(64, seed=1)
    with torch.no_grad():
        return model(image[None], torch.tensor([[64, 64]]), Limits.of(threshold, limit))


def test_candidates_are_counted_before_the_limits(model: MaskRCNN) -> None:
    twelve, three = found_by(model, 0.02, 12), found_by(model, 0.02, 3)
    assert twelve["saturated"].tolist() == three["saturated"].tolist() == [True]
    assert torch.equal(twelve["candidates"], three["candidates"])
    assert twelve["candidates"][0, 1] > 12
    threshold = float(twelve["scores"][7])  # seven score more
    for limit, saturated in [(12, False), (7, False), (6, True)]:
        outputs = found_by(model, threshold, limit)
        assert int(outputs["candidates"][0, 1]) == 7
        assert outputs["saturated"].tolist() == [saturated]
    (objects,) = model.decode(twelve, [Resized((64, 64), (64, 64))], Limits.of(0.02, 12))
    assert objects.candidates is not None
    assert list(objects.candidates.values()) == twelve["candidates"][0].tolist()
    assert list(objects.candidates) == ["proposals", "detections"]


def test_the_area_decides_how_many_proposals_there_are_and_not_the_limit(
    model: MaskRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    hook = model.box_head.register_forward_pre_hook(lambda _, given: asked.append(len(given[0])))
    for limit in (1, 12, 100_000):
        found_by(model, 0.2, limit)
    monkeypatch.setattr(mask_rcnn, "PUBLISHED", (48, (64, 64)))
    found_by(model, 0.2, 12)
    hook.remove()
    assert asked == [36, 36, 36, 48]


def test_settings_of_older_files_hold_a_limit_that_nothing_follows_from() -> None:
    older = build("mask_rcnn_lite", CLASSES, {"detections": 2000, "proposals": 77})
    assert older.settings == Settings(proposals=77)


def test_with_suppression_by_masks_the_network_gives_twice_as_many(model: MaskRCNN) -> None:
    settings = model.settings
    model.settings = dataclasses.replace(settings, mask_iou=0.9)
    try:
        outputs = found_by(model, 0.0, 5)
        (objects,) = model.decode(outputs, [Resized((64, 64), (64, 64))], Limits.of(0.0, 5))
    finally:
        model.settings = settings
    assert len(outputs["scores"]) == 10
    assert len(objects) == 5
    assert objects.saturated


def test_without_a_mask_head_it_is_faster_rcnn(model: MaskRCNN) -> None:
    head, model.mask_head = model.mask_head, None
    boxes_alone = MaskRCNN(CLASSES, model.backbone, model.pyramid, model.rpn, model.box_head, None, model.settings)
    model.mask_head = head
    with_masks, without = found_by(model, 0.2, 12), found_by(boxes_alone.eval(), 0.2, 12)
    assert with_masks.keys() - without.keys() == {"masks"}
    for name, tensor in without.items():
        torch.testing.assert_close(tensor, with_masks[name])
    (objects,) = boxes_alone.decode(without, [Resized((64, 64), (64, 64))], LIMITS)
    assert objects.masks is None
    assert len(objects) == 12
    image, target = scene(64, seed=1)
    expected = model.losses(batch_of(image), [target])
    terms = boxes_alone.losses(batch_of(image), [target])
    assert expected.keys() - terms.keys() == {"mask"}
    assert all(torch.equal(value, expected[name]) for name, value in terms.items())


def test_each_region_is_cropped_from_the_level_that_suits_it(model: MaskRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = torch.tensor([1.0, 30, 111, 112, 113, 223, 224, 225, 447, 448, 900])
    regions = torch.stack([torch.zeros_like(sides), torch.zeros_like(sides), sides, sides], dim=1)
    seen: list[Tensor] = []

    def spy(features: object, boxes: Tensor, index: Tensor, levels: Tensor, *_: object, **__: object) -> Tensor:
        seen.append(levels)
        return torch.zeros(len(boxes), 80, 7, 7)

    monkeypatch.setattr(regions_of_interest, "roi_align", spy)
    model._crop(
        FeatureTable.of([torch.zeros(1, 80, 4, 4)] * 4), regions, torch.zeros(len(regions), dtype=torch.int64), 7
    )
    assert torch.equal(seen[0], LevelMapper(2, 5)([regions]))
    assert set(seen[0].tolist()) == {0, 1, 2, 3}


def test_masks_come_from_the_channel_of_the_class(model: MaskRCNN) -> None:
    """Biases that make one class's masks full and the other's empty."""
    image, _ = scene(64, seed=1)
    kept = model.mask_head.logits.bias.detach().clone()
    model.mask_head.logits.bias.data = torch.tensor([1e4, -1e4])
    with torch.no_grad():
        outputs = model(image[None], torch.tensor([[64, 64]]), Limits.of(0.02, 12))
    model.mask_head.logits.bias.data = kept
    assert set(outputs["labels"].tolist()) == {0, 1}
    for mask, label in zip(outputs["masks"], outputs["labels"].tolist(), strict=True):
        assert (mask == (1 if label == 0 else 0)).all()


def test_only_the_true_class_s_masks_are_trained(model: MaskRCNN) -> None:
    image, target = scene(64, seed=1)
    only_discs = target[target.labels == 0]
    model.zero_grad()
    model.losses(batch_of(image), [only_discs])["mask"].backward()
    gradient = model.mask_head.logits.weight.grad
    assert gradient is not None
    assert gradient[0].abs().max() > 0
    assert gradient[1].abs().max() == 0
    model.zero_grad()


def test_a_network_that_draws_the_truth_has_no_mask_loss(model: MaskRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    image, target = scene(64, seed=1)
    truths: list[Tensor] = []
    original = Targets.mask_grids

    def spy(targets: Targets, matches: Tensor, regions: Tensor, *how: object) -> Tensor:
        truths.append(original(targets, matches, regions, *how))  # type: ignore[arg-type]
        return truths[-1]

    monkeypatch.setattr(Targets, "mask_grids", spy)
    head, model.mask_head = model.mask_head, FromTruth(truths)  # type: ignore[assignment]
    torch.manual_seed(0)
    with torch.no_grad():
        entropy_alone = model.losses(batch_of(image), [target])["mask"]
    model.mask_head = head
    (truth,) = truths
    assert truth.max() > 0.99
    assert len(truth) >= 4
    p = truth.clamp(1e-6, 1 - 1e-6)
    # what is left is the entropy of the cells that the outline crosses
    expected = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    torch.testing.assert_close(entropy_alone, expected, atol=1e-4, rtol=0)
    assert expected < 0.3


class FromTruth(torch.nn.Module):
    """A mask head that says what it should have said."""

    def __init__(self, truths: list[Tensor]) -> None:
        super().__init__()
        self.truths = truths

    def forward(self, crops: Tensor) -> Tensor:
        truth = self.truths[-1].clamp(1e-6, 1 - 1e-6)
        assert len(truth) == len(crops)
        return (truth / (1 - truth)).log()[:, None].expand(-1, 2, -1, -1)


def test_decoding_pastes_and_scales_exactly(model: MaskRCNN) -> None:
    outputs = rows([(10, 5, 30, 15), (0, 0, 4, 4)], [0, 1], [0.9, 0.8])
    (same,) = model.decode(outputs, [SIZE], LIMITS)
    assert same.masks is not None
    assert same.masks.boxes_xyxy().tolist() == [[10, 5, 30, 15], [0, 0, 4, 4]]
    assert same.masks.areas_px().tolist() == [200, 16]
    (larger,) = model.decode(outputs, [Resized((80, 180), (40, 60))], LIMITS)
    assert larger.masks is not None
    assert larger.boxes_xyxy.tolist() == [[30, 10, 90, 30], [0, 0, 12, 8]]
    assert larger.masks.areas_px().tolist() == [1200, 96]


def test_suppression_by_masks_is_within_a_class(model: MaskRCNN) -> None:
    settings = model.settings
    outputs = rows(
        [(0, 0, 20, 10), (4, 0, 24, 10), (4, 0, 24, 10), (15, 0, 35, 10)], [0, 0, 1, 0], [0.9, 0.8, 0.7, 0.6]
    )
    assert len(model.decode(outputs, [SIZE], LIMITS)[0]) == 4
    model.settings = dataclasses.replace(settings, mask_iou=0.4)
    (objects,) = model.decode(outputs, [SIZE], LIMITS)
    model.settings = settings
    assert objects.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])
    assert objects.labels.tolist() == [0, 1, 0]


def test_objects_without_room_between_regions_are_trained_on_their_own_box(model: MaskRCNN) -> None:
    """An object that no proposal finds is a region itself, so that the heads learn from it."""
    dense = torch.zeros(1, 64, 64, dtype=torch.bool)
    dense[0, 30:32, 40:42] = True
    losses = model.losses(
        batch_of(scene(64, objects=0)[0]), [Targets.from_instances(annotated(dense, torch.tensor([1])))]
    )
    assert losses["mask"] > 0
    assert losses["box"] > 0


def test_new_classes_replace_the_last_layers_only() -> None:
    for head, crops in (
        (BoxHead(8, 3, fcs=(16,)), torch.randn(2, 8, 7, 7)),
        (MaskHead(8, 3, (8,), 8), torch.randn(2, 8, 14, 14)),
    ):
        before = dict(head.named_parameters())
        head.set_classes(5)
        changed = {name for name, parameter in head.named_parameters() if before[name] is not parameter}
        assert changed <= {"logits.weight", "logits.bias", "deltas.weight", "deltas.bias"}
        out = head(crops)
        assert (out[0].shape == (2, 6) and out[1].shape == (2, 6, 4)) if isinstance(out, tuple) else out.shape[1] == 5
    # no crops are fine too
    assert MaskHead(8, 3, (8,), 8)(torch.zeros(0, 8, 14, 14)).shape == (0, 3, 28, 28)


@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
def test_alignment_reaches_every_part(alignment: str) -> None:
    model = mask_rcnn_lite(CLASSES, few(mask_rcnn, alignment=alignment))
    assert model.rpn.alignment == alignment
    (objects,) = model.decode(rows([(10.9, 10.9, 20.9, 20.9)], [0], [0.9]), [SIZE], LIMITS)
    assert objects.masks is not None
    assert objects.masks.soft is not None
    assert objects.masks.soft.alignment == alignment
    assert (objects.masks.boxes_xyxy()[0, 0] == 11) == (alignment == "half_pixel")


def test_regions_are_chosen_by_the_targets_seeds_alone(model: MaskRCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in a batch of two as in two of one, whatever the global generator does."""
    scenes = [scene(64, seed=seed) for seed in (1, 2)]
    targets = [dataclasses.replace(target, seed=7 + k) for k, (_, target) in enumerate(scenes)]
    chosen: list[list[list[int]]] = []
    sample = model.sample_rois

    def spy(matches: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        found = sample(torch.full((400,), BACKGROUND), generator)  # of any matches: proposals differ in the last digits
        chosen[-1].append(found[1].tolist())
        return sample(matches, generator)

    monkeypatch.setattr(model, "sample_rois", spy)
    for batch in ((0, 1), (0,), (1,)):
        torch.manual_seed(len(chosen))
        chosen.append([])
        model.losses(batch_of(*(scenes[k][0] for k in batch)), [targets[k] for k in batch])
    assert chosen[0] == chosen[1] + chosen[2]
    assert chosen[0][0] != chosen[0][1]


def test_masks_reach_beyond_a_box_by_the_margin() -> None:
    torch.manual_seed(0)
    model = mask_rcnn_lite(CLASSES, few(mask_rcnn, mask_margin=0.25)).eval()
    (objects,) = model.decode(rows([(20.0, 10.0, 40.0, 30.0)], [0], [0.9]), [SIZE], LIMITS)
    assert objects.masks is not None
    assert objects.masks.boxes_xyxy().tolist() == [[15, 5, 45, 35]]
    assert objects.boxes_xyxy.tolist() == [[15, 5, 45, 35]]
    nothing = rows([(20.0, 10.0, 40.0, 30.0)], [0], [0.9]) | {"masks": torch.zeros(1, 28, 28)}
    assert model.decode(nothing, [SIZE], LIMITS)[0].boxes_xyxy.tolist() == [[20, 10, 40, 30]]


def test_masks_are_trained_on_boxes_with_their_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = mask_rcnn_lite(CLASSES, few(mask_rcnn, mask_margin=0.25))
    image, target = scene(64, seed=1)
    asked: list[Tensor] = []
    real = Targets.mask_grids

    def spy(self: Targets, matches: Tensor, regions: Tensor, *rest: object) -> Tensor:
        asked.append(regions)
        return real(self, matches, regions, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Targets, "mask_grids", spy)
    model.losses(batch_of(image), [target])
    own = boxes.expand(target.boxes_xyxy, 0.25)  # annotated boxes are among the regions
    assert all(any(torch.allclose(box, one, atol=1e-4) for one in asked[0]) for box in own)


def test_a_point_head_changes_masks_and_nothing_else(model: MaskRCNN) -> None:
    """The same weights: without points masks are what the mask head says, with them most cells are that, enlarged."""
    settings = model.settings
    pointed = point_rend_lite(CLASSES, settings).eval()
    missing, unexpected = pointed.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("point_head.") for name in missing)
    plain, refined = found_by(model, 0.05, 12), found_by(pointed, 0.05, 12)
    for name in plain.keys() - {"masks"}:
        assert torch.equal(plain[name], refined[name])
    image, _ = scene(64, seed=1)
    assert model.mask_head is not None
    with torch.no_grad():
        features = FeatureTable.of(model.pyramid(model.backbone(image[None])))
        regions = boxes.expand(plain["boxes_xyxy"], settings.mask_margin)
        crops = crop_regions(features, regions, plain["image_index"], 14, 2, True)
        logits = model.mask_head(crops)[torch.arange(len(regions)), plain["labels"]]
    assert torch.equal(plain["masks"], logits.sigmoid())
    for _ in range(2):
        logits = torch.nn.functional.interpolate(logits[:, None], scale_factor=2, mode="bilinear")[:, 0]
    assert refined["masks"].shape == (len(regions), 112, 112)
    same = (refined["masks"] - logits.sigmoid()).abs() < 1e-5
    assert 0.4 < same.float().mean() < 1


@pytest.mark.parametrize("early", [False, True])
def test_where_blocks_take_their_stride(early: bool) -> None:
    settings = dataclasses.replace(mask_rcnn.Settings(), early_stride=early)
    with torch.device("meta"):
        backbone = mask_rcnn.mask_rcnn_r50_fpn(CLASSES, settings).backbone
    block = backbone.get_submodule("layer3.0")
    strides = [block.get_submodule(name).stride for name in ("conv1", "conv2", "conv3")]
    assert strides == ([(2, 2), (1, 1), (1, 1)] if early else [(1, 1), (2, 2), (1, 1)])


@pytest.mark.parametrize(("limit", "saturated"), [(2000, False), (1500, False), (1000, True)])
def test_of_1500_objects_none_is_lost_silently(limit: int, saturated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that proposes 1,500 squares, half of each class, is sure of them and draws all of each."""
    y, x = torch.meshgrid(torch.arange(30) * 20.0 + 2, torch.arange(50) * 20.0 + 3, indexing="ij")
    corners = torch.stack([x.flatten(), y.flatten()], 1)
    squares = torch.cat([corners, corners + 16], 1)
    model = mask_rcnn_lite(CLASSES).eval()
    scored = ScoredAnchors([squares], [torch.full((1, 1500), 5.0)], [torch.zeros(1, 1500, 4)])
    monkeypatch.setattr(model.rpn, "forward", lambda *_: scored)
    sure = torch.tensor([-9.0, 9.0, -9.0])
    said = lambda crops: (sure.expand(len(crops), 3), torch.zeros(len(crops), 3, 4))  # noqa: E731
    monkeypatch.setattr(model.box_head, "forward", said)
    monkeypatch.setattr(model.mask_head, "forward", lambda crops: torch.full((len(crops), 2, 28, 28), 9.0))
    size, limits = Resized((640, 1024), (640, 1024)), Limits.of(0.5, limit)
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, 640, 1024), torch.tensor([[640, 1024]]), limits)
    (found,) = model.decode(outputs, [size], limits)
    assert len(found) == min(limit, 1500)
    assert found.saturated == saturated
    nearest = torch.cdist(found.boxes_xyxy, squares).min(1)
    assert len(set(nearest.indices.tolist())) == len(found)
    assert nearest.values.max() < 6  # widened by the margin, as nothing ends the masks
