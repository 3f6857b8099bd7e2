"""SOLOv2 with MMDetection's weights says what MMDetection says."""

import dataclasses

import pytest
import torch
from mmdet_partner import mmdet_model
from torch import Tensor

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.models.solov2 import solov2_light_r50
from halfpixel.structures.images import Limits
from halfpixel.zoo.convert.mmdet_solov2 import RENAMES, convert

CONFIGS = {
    "solov2_r50": "solov2/solov2_r50_fpn_1x_coco.py",
    "solov2_light_r50": "solov2/solov2-light_r50_fpn_ms-3x_coco.py",
}


def theirs(classes: int = 2) -> dict[str, Tensor]:
    """Weights of the light network under MMDetection's names, as its published files have them."""
    names = tuple(f"class {k}" for k in range(classes))
    return {original(key): tensor for key, tensor in solov2_light_r50(names).state_dict().items()}


def original(key: str) -> str:
    """MMDetection's name of one of our weights, written out by hand."""
    import re

    for pattern, name in (
        (r"pyramid\.lateral\.(\d)\.conv", r"neck.lateral_convs.\1.conv"),
        (r"pyramid\.output\.(\d)\.conv", r"neck.fpn_convs.\1.conv"),
        (r"head\.class_convs\.(\d)\.conv", r"mask_head.cls_convs.\1.conv"),
        (r"head\.class_convs\.(\d)\.norm", r"mask_head.cls_convs.\1.gn"),
        (r"head\.kernel_convs\.(\d)\.conv", r"mask_head.kernel_convs.\1.conv"),
        (r"head\.kernel_convs\.(\d)\.norm", r"mask_head.kernel_convs.\1.gn"),
        (r"head\.logits", r"mask_head.conv_cls"),
        (r"head\.kernels", r"mask_head.conv_kernel"),
        (r"mask_features\.levels\.(\d)\.(\d)\.conv", r"mask_head.mask_feature_head.convs_all_levels.\1.conv\2.conv"),
        (r"mask_features\.levels\.(\d)\.(\d)\.norm", r"mask_head.mask_feature_head.convs_all_levels.\1.conv\2.gn"),
        (r"mask_features\.maps\.conv", r"mask_head.mask_feature_head.conv_pred.conv"),
        (r"mask_features\.maps\.norm", r"mask_head.mask_feature_head.conv_pred.gn"),
    ):
        key = re.sub(pattern, name, key)
    return key


@pytest.mark.parametrize("variant", CONFIGS)
@pytest.mark.filterwarnings("ignore")
def test_equals_mmdetection(variant: str) -> None:
    partner = mmdet_model(CONFIGS[variant])
    ours, info = convert({"meta": {}, "state_dict": partner.state_dict()})
    ours = ours.double()
    assert info.variant == variant
    assert info.licence == ""
    images = torch.randn(1, 3, 128, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        kernels, logits, maps = partner.mask_head(partner.extract_feat(images))
        said = ours._say(images)
    assert maps.std() > 0.1
    for a, b in zip([*kernels, *logits, maps], [*said.kernels, *said.logits, said.maps], strict=True):
        assert b.dtype == torch.float32
        assert (a - b).abs().max() < 1e-5 * a.abs().max()


@pytest.mark.filterwarnings("ignore")
def test_finds_what_mmdetection_finds() -> None:
    partner = mmdet_model(CONFIGS["solov2_light_r50"]).float()
    ours, info = convert(partner.state_dict())
    images = torch.randn(1, 3, 96, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        # few, well apart scores: suppression must not hang on rounding
        kernels, logits, maps = partner.mask_head(partner.extract_feat(images))
        meta = {"img_shape": (96, 128), "ori_shape": (96, 128), "scale_factor": (1.0, 1.0), "pad_shape": (96, 128)}
        expected = partner.mask_head.predict_by_feat(kernels, logits, maps, [meta])[0]
        found = ours(images, torch.tensor([[96, 128]]), Limits.of(info.score_threshold, 1000))
    assert len(expected.scores) > 5
    assert len(found["scores"]) >= len(expected.scores)
    best = expected.scores[:5].tolist()
    assert best == pytest.approx(found["scores"][:5].tolist(), abs=0.03)


def test_published_names_convert() -> None:
    model, info = convert({"meta": {"epoch": 1}, "state_dict": theirs()}, ("cell", "debris"))
    assert info.variant == "solov2_light_r50"
    assert info.class_names == ("cell", "debris")
    assert info.input.shortest_side == 448
    assert dataclasses.asdict(model.settings) == info.settings
    assert len(RENAMES) == len({pattern for pattern, _ in RENAMES})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("mask_head.conv_kernel.bias"), "head.kernels.bias is missing"),
        (lambda s: s.update({"mask_head.more.weight": torch.zeros(1)}), "mask_head.more.weight"),
        (lambda s: s.update({"mask_head.conv_kernel.bias": torch.zeros(7)}), r"head.kernels.bias is \[7\]"),
        (lambda s: s["mask_head.conv_kernel.bias"].fill_(torch.nan), "head.kernels.bias"),
        (lambda s: s.pop("mask_head.conv_cls.bias"), "class predictor"),
    ],
)
def test_other_weights_are_refused(change: object, message: str) -> None:
    state = theirs()
    change(state)  # type: ignore[operator]
    with pytest.raises(ModelFileError, match=message):
        convert(state)


def test_another_number_of_names() -> None:
    with pytest.raises(ArgumentError, match="3 class names for 2 classes"):
        convert(theirs(), ("a", "b", "c"))
