"""PointRend with MMDetection's weights says what MMDetection says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmdet_partner import mmdet_model
from torch import Tensor, nn

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models.mask_rcnn import MaskRCNN, point_rend_r50_fpn
from halfpixel.ops.roi_align import FeatureTable
from halfpixel.ops.rows import images_of
from halfpixel.structures.images import Limits
from halfpixel.zoo.convert.mmdet_point_rend import convert

CONFIG = "point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py"


class Pair:
    """Theirs, and ours made from its weights, both in float64."""

    def __init__(self) -> None:
        self.theirs: Any = mmdet_model(CONFIG)
        self.theirs.float().double()  # as a file holds the weights
        # last layers whose numbers are of the size that trained ones say
        with torch.no_grad():
            self.theirs.roi_head.bbox_head.fc_reg.weight.mul_(1e-4)
        ours, self.info = convert({"meta": {}, "state_dict": self.theirs.state_dict()})
        self.ours: MaskRCNN = ours.double()
        self.image = torch.randn(2, 3, 128, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            self.pyramid = self.theirs.extract_feat(self.image.flip(1))
            self.our_pyramid = self.ours.pyramid(self.ours.backbone(self.image))
        # inside of the images, where both interpolate between cells alone
        self.boxes = torch.tensor(
            [[10.3, 12.1, 50.7, 77.7], [4.0, 5.0, 180.2, 118.9], [60.5, 30.2, 71.9, 41.0]]
        ).double()
        self.index, self.labels = torch.tensor([0, 1, 1]), torch.tensor([0, 17, 79])

    @property
    def rois(self) -> Tensor:
        return torch.cat([self.index[:, None].double(), self.boxes], 1)


@pytest.fixture(scope="module")
def pair() -> Pair:
    return Pair()


pytestmark = pytest.mark.filterwarnings("ignore")


def assert_same(found: Tensor, expected: Tensor, atol: float = 1e-9) -> None:
    assert expected.std() > 1e-3
    torch.testing.assert_close(found.double(), expected, atol=atol * float(expected.abs().max()), rtol=0)


def test_features_and_proposals(pair: Pair) -> None:
    assert pair.info.variant == "point_rend_r50_fpn"
    assert pair.info.licence == ""
    assert len(pair.info.class_names) == 80
    for found, expected in zip(pair.our_pyramid, pair.pyramid, strict=True):
        assert_same(found, expected)
    with torch.no_grad():
        scores, deltas = pair.theirs.rpn_head(pair.pyramid)
        said = pair.ours.rpn(pair.our_pyramid, pair.image)
    sizes = [one.shape[-2:] for one in scores]
    priors = pair.theirs.rpn_head.prior_generator.grid_priors(sizes, device="cpu", dtype=torch.float64)
    for k in range(5):
        assert_same(said.logits[k], scores[k].permute(0, 2, 3, 1).flatten(1), 1e-6)  # it says them in float32
        assert_same(said.deltas[k].flatten(1), deltas[k].permute(0, 2, 3, 1).flatten(1), 1e-6)
        torch.testing.assert_close(said.anchors_xyxy[k].double(), priors[k], atol=1e-4, rtol=0)


def test_boxes(pair: Pair) -> None:
    """Crops are cut by torchvision's operator, since mmcv's is not compiled."""
    from torchvision.ops import roi_align

    level = (
        torch.floor(torch.log2((pair.boxes[:, 2:] - pair.boxes[:, :2]).prod(1).sqrt() / 56 + 1e-6))
        .clamp(0, 3)
        .int()
        .tolist()
    )
    crops = [roi_align(pair.pyramid[n], pair.rois[k : k + 1], 7, 1 / (4 << n), 0, True) for k, n in enumerate(level)]
    with torch.no_grad():
        logits, deltas = pair.theirs.roi_head.bbox_head(torch.cat(crops))
        features = FeatureTable.of(pair.our_pyramid[:4])
        ours = pair.ours._classify(features, pair.boxes, pair.index)
    assert_same(torch.cat([ours[0][:, 1:], ours[0][:, :1]], 1), logits, 1e-6)
    assert_same(ours[1][:, 1:].flatten(1), deltas, 1e-6)
    coder = pair.theirs.roi_head.bbox_head.bbox_coder
    from halfpixel.nn.box_head import BOX_WEIGHTS
    from halfpixel.ops.boxes import decode

    expected = coder.decode(pair.boxes[:, :4], deltas).reshape(3, -1, 4)
    assert_same(decode(ours[1].double(), pair.boxes[:, None], BOX_WEIGHTS)[:, 1:], expected, 1e-6)


def test_coarse_and_refined_masks(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    head, branch = pair.theirs.roi_head, pair.ours.region_masks
    assert branch is not None
    assert branch.points is not None
    with torch.no_grad():
        features = FeatureTable.of(pair.our_pyramid[:4])
        crops = head.mask_roi_extractor(pair.pyramid[:1], pair.rois)
        coarse = head.mask_head(crops)
        ours = branch.logits(features, pair.boxes, pair.index)
        assert_same(ours, coarse, 1e-6)
        ours = coarse  # from here on to the last digit, so that the same points are looked at
        points_of = head.point_head.get_roi_rel_points_test  # they are in float32
        with monkeypatch.context() as patch:
            patch.setattr(
                head.point_head,
                "get_roi_rel_points_test",
                lambda *given, **named: (found := points_of(*given, **named)) and (found[0], found[1].double()),
            )
            expected = head._mask_point_forward_test(pair.pyramid, pair.rois, pair.labels, coarse)
        found = branch.points.refined(ours, pair.labels, pair.boxes, pair.index, features)
    expected = expected[torch.arange(3), pair.labels]
    assert found.shape == expected.shape == (3, 224, 224)
    assert ((expected - nn.functional.interpolate(coarse, 224)[torch.arange(3), pair.labels]).abs() > 0.1).any()
    off = (found.double() - expected).abs() > 1e-5 * expected.abs().max()
    assert off.float().mean() < 1e-3


def test_losses_in_points(pair: Pair) -> None:
    """In given points: what the head says there."""
    branch, head = pair.ours.region_masks, pair.theirs.roi_head
    assert branch is not None
    assert branch.points is not None
    places = torch.rand(3, 196, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 0.9 + 0.05
    with torch.no_grad():
        coarse = head.mask_head(head.mask_roi_extractor(pair.pyramid[:1], pair.rois))
        fine = head._get_fine_grained_point_feats(pair.pyramid, pair.rois, places)
        from mmcv.ops import point_sample

        expected = head.point_head(fine, point_sample(coarse, places))
        found = branch.points._look(places, coarse, pair.boxes, pair.index, FeatureTable.of(pair.our_pyramid[:4]))
    assert_same(found.transpose(1, 2), expected, 1e-6)


def theirs() -> dict[str, Tensor]:
    """Weights under MMDetection's names, for two classes."""
    import re

    found = {}
    for key, tensor in point_rend_r50_fpn(("a", "b")).state_dict().items():
        name = key
        for pattern, other in (
            (r"pyramid\.lateral\.(\d)\.conv", r"neck.lateral_convs.\1.conv"),
            (r"pyramid\.output\.(\d)\.conv", r"neck.fpn_convs.\1.conv"),
            (r"rpn\.convs\.0\.conv", "rpn_head.rpn_conv"),
            (r"rpn\.objectness", "rpn_head.rpn_cls"),
            (r"rpn\.deltas", "rpn_head.rpn_reg"),
            (r"box_head\.fcs", "roi_head.bbox_head.shared_fcs"),
            (r"box_head\.logits", "roi_head.bbox_head.fc_cls"),
            (r"box_head\.deltas", "roi_head.bbox_head.fc_reg"),
            (r"mask_head\.reduce", "roi_head.mask_head.downsample_conv.conv"),
            (r"mask_head\.fcs", "roi_head.mask_head.fcs"),
            (r"mask_head\.logits", "roi_head.mask_head.fc_logits"),
            (r"point_head\.fcs\.(\d)", r"roi_head.point_head.fcs.\1.conv"),
            (r"point_head\.logits", "roi_head.point_head.fc_logits"),
        ):
            name = re.sub(rf"^{pattern}", other, name)
        if "fc_reg" in name:
            tensor = tensor[4:]
        found[name] = tensor[..., None] if name.startswith("roi_head.point_head") and tensor.ndim == 2 else tensor
    return found


def test_names_without_the_partner() -> None:
    model, info = convert({"meta": {"epoch": 1}, "state_dict": theirs()}, ("cell", "debris"))
    assert info.class_names == ("cell", "debris")
    assert model.settings.early_stride
    assert model.settings.region_sampling == 0
    assert info.input.mean == pytest.approx((123.675 / 255, 116.28 / 255, 103.53 / 255))
    with torch.no_grad():
        found = model(torch.randn(1, 3, 64, 64), torch.tensor([[64, 64]]), Limits.of(0.0, 3))
    assert found["masks"].shape == (3, 224, 224)
    assert images_of([found["masks"]]).shape == (3,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("roi_head.point_head.fc_logits.bias"), "point_head.logits.bias is missing"),
        (
            lambda s: s.pop("roi_head.point_head.fc_logits.weight"),
            "only PointRend is read, not its Mask or Faster R-CNN",
        ),
        (lambda s: s.pop("roi_head.bbox_head.fc_cls.bias"), "box_head.logits.bias is missing"),
        (lambda s: s.update({"roi_head.more": torch.zeros(1)}), "roi_head.more"),
        (lambda s: s.update({"roi_head.bbox_head.fc_reg.bias": torch.zeros(4)}), "1 times for 2 classes"),
        (lambda s: s["rpn_head.rpn_cls.bias"].fill_(torch.nan), "rpn.objectness.bias"),
    ],
)
def test_other_weights_are_refused(change: Any, message: str) -> None:
    state = theirs()
    change(state)
    with pytest.raises(ModelFileError, match=message):
        convert(state)


def test_another_number_of_names() -> None:
    with pytest.raises(ArgumentError, match="3 class names for 2 classes"):
        convert(theirs(), ("a", "b", "c"))
