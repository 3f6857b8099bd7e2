"""YOLACT with others' weights says what their networks say: MMDetection's own, and the authors' as the paper tells."""

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from mmdet_partner import mmdet_model
from torch import Tensor, nn
from torchvision.models import resnet50

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models import yolact
from halfpixel.models.yolact import YOLACT, Settings
from halfpixel.nn.box_head import BOX_WEIGHTS
from halfpixel.ops import boxes
from halfpixel.ops.assemble import linear_kernels
from halfpixel.zoo.convert import mmdet_yolact, original_yolact
from halfpixel.zoo.modelfile import ModelInfo

Convert = Callable[..., tuple[YOLACT, ModelInfo]]


class Original(nn.Module):
    """The authors' network with its names: ResNet-50 at 550 pixels, three classes and the background."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.backbone = nn.Module()
        theirs = resnet50(weights=None)
        self.backbone.conv1, self.backbone.bn1 = theirs.conv1, theirs.bn1
        self.backbone.layers = nn.ModuleList([theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4])
        self.fpn = nn.Module()
        self.fpn.lat_layers = nn.ModuleList(nn.Conv2d(c, 256, 1) for c in (2048, 1024, 512))
        self.fpn.pred_layers = nn.ModuleList(nn.Conv2d(256, 256, 3, padding=1) for _ in range(3))
        self.fpn.downsample_layers = nn.ModuleList(nn.Conv2d(256, 256, 3, stride=2, padding=1) for _ in range(2))
        widths = [(256, 256, 3)] * 3 + [None, (256, 256, 3), (256, 32, 1)]  # with a ReLU after each
        layers: list[nn.Module] = []
        for width in widths:
            upsample = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            layers += [nn.Conv2d(*width, padding=width[2] // 2) if width else upsample, nn.ReLU()]
        self.proto_net = nn.Sequential(*layers)
        shared = nn.Module()
        shared.upfeature = nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU())
        shared.bbox_layer = nn.Conv2d(256, 3 * 4, 3, padding=1)
        shared.conf_layer = nn.Conv2d(256, 3 * (1 + classes), 3, padding=1)
        shared.mask_layer = nn.Conv2d(256, 3 * 32, 3, padding=1)
        self.prediction_layers = nn.ModuleList([shared])
        self.semantic_seg_conv = nn.Conv2d(256, classes, 1)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        x = nn.functional.max_pool2d(self.backbone.bn1(self.backbone.conv1(x)).relu(), 3, 2, 1)
        maps = [x := layer(x) for layer in self.backbone.layers]
        found: list[Tensor] = []
        above = torch.zeros(())
        for lateral, output, one in zip(self.fpn.lat_layers, self.fpn.pred_layers, reversed(maps[1:]), strict=True):
            if above.ndim:
                above = nn.functional.interpolate(above, one.shape[2:], mode="bilinear", align_corners=False)
            above = above + lateral(one)
            found.insert(0, output(above).relu())
        for layer in self.fpn.downsample_layers:
            found.append(layer(found[-1]))
        return found

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of all anchors class probabilities, boxes in pixels and coefficients; the prototypes."""
        pyramid, shared = self.pyramid(x), self.prediction_layers[0]
        scores, found, coefficients = [], [], []
        for features, cells, scale in zip(pyramid, (69, 35, 18, 9, 5), (24, 48, 96, 192, 384), strict=True):
            hidden = shared.upfeature(features)
            scores.append(shared.conf_layer(hidden).permute(0, 2, 3, 1).reshape(-1, 4).softmax(1))
            coefficients.append(shared.mask_layer(hidden).permute(0, 2, 3, 1).reshape(-1, 32).tanh())
            deltas = shared.bbox_layer(hidden).permute(0, 2, 3, 1).reshape(*features.shape[2:], 3, 4)
            for i in range(features.shape[2]):
                for j in range(features.shape[3]):
                    for k, ratio in enumerate((1, 1 / 2, 2)):
                        side = scale * ratio**0.5  # squares, for all three shapes
                        dx, dy, dw, dh = deltas[i, j, k]
                        cx = (j + 0.5) * 550 / cells + 0.1 * dx * side
                        cy = (i + 0.5) * 550 / cells + 0.1 * dy * side
                        w, h = side * (0.2 * dw).exp(), side * (0.2 * dh).exp()
                        found.append(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
        return torch.cat(scores), torch.stack(found), torch.cat(coefficients), self.proto_net(pyramid[0])


def lively(model: nn.Module) -> nn.Module:
    """Every weight and statistic random."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.ndim > 1:
            tensor.normal_(std=1.5 / tensor[0].numel() ** 0.5)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3).add_(1.0 if name.endswith("weight") else 0.0)
    return model.double().eval()


def calm(layers: Mapping[nn.Module, float], speak: Callable[[], object]) -> None:
    """Rescale layers until what they say has a useful spread: not more than a box's sides, not the ends of a tanh."""
    heard: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    hooks = [
        layer.register_forward_hook(lambda layer, _, said: heard[layer].append(said.flatten())) for layer in layers
    ]
    with torch.no_grad():
        speak()
        for layer, spread in layers.items():
            factor = spread / torch.cat(heard[layer]).std()
            for tensor in (layer.weight, layer.bias):
                tensor.mul_(factor)
    for hook in hooks:
        hook.remove()


def images() -> Tensor:
    return torch.randn(1, 3, 128, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def said_by(model: YOLACT) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `Original.forward`; anchors in the order of the cells' shapes here."""
    model = model.double()
    pyramid = model._features(images())
    said = model.head(pyramid)
    decoded = boxes.decode(said.deltas[0].double(), model._anchors(pyramid, images()).double(), BOX_WEIGHTS)
    return said.logits[0].softmax(1), decoded, said.coefficients[0], model.protonet(pyramid[0])


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.01
    assert (ours - theirs).abs().max() < 1e-6 * theirs.abs().max()


def reordered(theirs: Tensor) -> Tensor:
    """The authors' anchors in our order of shapes."""
    return theirs.unflatten(0, (-1, 3))[:, [2, 0, 1]].flatten(0, 1)


def test_equals_the_authors_network() -> None:
    theirs = lively(Original())
    head = theirs.prediction_layers[0]
    calmed = {head.conf_layer: 2.0, head.bbox_layer: 1.0, head.mask_layer: 0.7, theirs.proto_net[10]: 1.0}
    calm(calmed, lambda: theirs(images()))
    ours, info = original_yolact.convert(theirs.state_dict())
    assert (info.variant, info.licence) == ("yolact_r50", "")
    assert info.class_names == ("class 1", "class 2", "class 3")
    with torch.no_grad():
        scores, found, coefficients, maps = theirs(images())
        our_scores, our_boxes, our_coefficients, our_maps = said_by(ours)
        semantic = theirs.semantic_seg_conv(theirs.pyramid(images())[0])
        our_semantic = ours.semantic(ours._features(images())[0])
    assert_near(our_scores, reordered(scores))
    assert_near(our_boxes, reordered(found))
    assert_near(our_coefficients, reordered(coefficients))
    assert_near(our_maps, maps)
    assert_near(our_semantic, semantic)


@pytest.mark.filterwarnings("ignore")
def test_equals_mmdetection() -> None:
    theirs = mmdet_model("yolact/yolact_r50_1xb8-55e_coco.py")
    head, none = theirs.bbox_head, type("Positive", (), {"coeffs": torch.zeros(1, 32).double()})()
    calmed = {head.conv_cls: 2.0, head.conv_reg: 1.0, head.conv_coeff: 0.7, theirs.mask_head.protonet[10]: 1.0}
    calm(calmed, lambda: (head(theirs.extract_feat(images())), theirs.mask_head(theirs.extract_feat(images()), [none])))
    ours, info = mmdet_yolact.convert({"meta": {}, "state_dict": theirs.state_dict()})
    assert (info.variant, info.licence) == ("yolact_r50", "")
    assert info.class_names[:2] == ("person", "bicycle")
    with torch.no_grad():
        pyramid = theirs.extract_feat(images())
        logits, deltas, coefficients = (
            torch.cat([one[0].permute(1, 2, 0).reshape(-1, one.shape[1] // 3) for one in said])
            for said in theirs.bbox_head(pyramid)
        )
        priors = theirs.bbox_head.prior_generator.grid_priors(
            [one.shape[2:] for one in pyramid], dtype=torch.float64, device="cpu"
        )
        decoded = theirs.bbox_head.bbox_coder.decode(torch.cat(priors), deltas)
        our_pyramid = ours.double()._features(images())
        scores, our_boxes, our_coefficients, maps = said_by(ours)
        positive = type("Positive", (), {"coeffs": coefficients[:40]})()
        masks = theirs.mask_head(pyramid, [positive])[0][0].permute(2, 0, 1)
        our_masks = linear_kernels(maps.repeat(40, 1, 1, 1), our_coefficients[:40], torch.zeros(40, 2).long()).sigmoid()
        semantic = theirs.mask_head.segm_branch(pyramid[0])
    for a, b in zip(our_pyramid, pyramid, strict=True):
        assert_near(a, b)
    assert_near(scores, torch.cat([logits[:, -1:], logits[:, :-1]], 1).softmax(1))
    assert_near(our_boxes, decoded)
    assert_near(our_coefficients, coefficients)
    assert_near(our_masks, masks)
    assert_near(ours.semantic(our_pyramid[0]), semantic)
    assert 0.1 < masks.gt(0.5).double().mean() < 0.9


def by_mmdetection(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our weights under the names of MMDetection's published file, which is of its version 2."""
    names = (
        (r"pyramid\.merged\.lateral\.(\d)", r"neck.lateral_convs.\1"),
        (r"pyramid\.merged\.output\.(\d)", r"neck.fpn_convs.\1"),
        (r"pyramid\.coarser\.0", r"neck.fpn_convs.3.conv"),
        (r"pyramid\.coarser\.1", r"neck.fpn_convs.4.conv"),
        (r"head\.convs\.0", r"bbox_head.head_convs.0"),
        (r"head\.logits", r"bbox_head.conv_cls"),
        (r"head\.deltas", r"bbox_head.conv_reg"),
        (r"head\.coefficients", r"bbox_head.conv_coeff"),
        *((rf"protonet\.coarse\.{k}\.conv", rf"mask_head.protonet.{2 * k}") for k in range(3)),
        (r"protonet\.fine\.0\.conv", r"mask_head.protonet.8"),
        (r"protonet\.maps", r"mask_head.protonet.10"),
        (r"semantic", r"segm_head.segm_conv"),
    )
    renamed = {}
    for key, tensor in state.items():
        for ours, theirs in names:
            key = re.sub(f"^{ours}", theirs, key)
        renamed[key] = tensor.clone()
    return renamed


@pytest.fixture(scope="module")
def deep() -> dict[str, Tensor]:
    """MMDetection's names for ResNet-101 and two classes."""
    return by_mmdetection(yolact.yolact_r101(("a", "b"), Settings(pyramid="mmdet")).state_dict())


def test_resnet101_and_class_names(deep: dict[str, Tensor]) -> None:
    model, info = mmdet_yolact.convert(deep, ("cell", "debris"))
    assert info.variant == "yolact_r101"
    assert info.class_names == model.class_names == ("cell", "debris")
    assert Settings(**info.settings) == model.settings == Settings(pyramid="mmdet", anchor_side=550)
    weight = deep["bbox_head.conv_cls.weight"].unflatten(0, (3, 3))
    assert torch.equal(model.head.logits.weight.unflatten(0, (3, 3)), weight[:, [2, 0, 1]])
    with pytest.raises(ArgumentError, match="3 class names for 2 classes"):
        mmdet_yolact.convert(deep, ("a", "b", "c"))


def test_old_files_of_the_authors_hold_some_weights_twice() -> None:
    state = {key: tensor.float() for key, tensor in Original().state_dict().items()}
    more = {"backbone.layer1.0.conv1.weight": torch.zeros(1), "fpn.downsample_layers.2.bias": torch.zeros(1)}
    model, _ = original_yolact.convert(state | more)
    assert model.settings.square_anchors
    rectangles, info = original_yolact.convert(state, square_anchors=False)
    assert not rectangles.settings.square_anchors
    assert not info.settings["square_anchors"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("neck.fpn_convs.4.conv.bias"), "pyramid.coarser.1.bias is missing"),
        (lambda s: s.pop("bbox_head.conv_cls.bias"), "head.logits.bias is missing"),
        (lambda s: s.update({"bbox_head.more.weight": torch.zeros(1)}), "bbox_head.more.weight"),
        (
            lambda s: s.update({"bbox_head.conv_reg.bias": torch.zeros(15)}),
            r"head.deltas.bias is \[15\], expected \[12",
        ),
        (lambda s: s.update({"bbox_head.conv_reg.bias": torch.zeros(13)}), r"head.deltas.bias has 13 rows"),
        (lambda s: s.update({"mask_head.protonet.10.bias": torch.zeros(16)}), r"protonet.maps.bias is \[16\]"),
        (lambda s: s.update({"mask_head.protonet.8.bias": torch.full((256,), torch.nan)}), "protonet.fine.0.conv.bias"),
    ],
)
def test_other_weights_are_refused(
    deep: dict[str, Tensor], change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    state = dict(deep)
    change(state)
    with pytest.raises(ModelFileError, match=message):
        mmdet_yolact.convert(state)


def test_other_networks_are_refused() -> None:
    state = {key: tensor.float() for key, tensor in Original().state_dict().items()}
    for convert, given in ((mmdet_yolact.convert, state), (original_yolact.convert, {"maskiou_net.0.weight": state})):
        with pytest.raises(ModelFileError):
            convert(given)
    with pytest.raises(ModelFileError, match=r"maskiou_net\.0\.weight"):  # YOLACT++
        original_yolact.convert(state | {"maskiou_net.0.weight": torch.zeros(8, 1, 3, 3)})
