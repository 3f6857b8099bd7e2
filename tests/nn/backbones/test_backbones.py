"""Our backbones against timm's, with timm's names and random weights."""

import pytest
import timm
import torch
from torch import Tensor, nn

from halfpixel.errors import ArgumentError, ModelFileError
from halfpixel.nn.backbones.backbone import STRIDES
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite, SamePadConv2d
from halfpixel.nn.backbones.resnet import ResNet
from halfpixel.nn.backbones.timm_backbone import TimmBackbone


def wear(model: nn.Module) -> nn.Module:
    """Give every normalisation statistics of its own."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.5, 1.0, generator=generator)
            nn.init.uniform_(module.bias, -0.3, 0.6, generator=generator)
            nn.init.normal_(module.running_mean, 0, 0.2, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)
    return model.eval()


def image(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.std() > 1e-4
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_resnet_equals_timm() -> None:
    torch.manual_seed(0)
    theirs = wear(timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4)))
    ours = ResNet().eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    ours.load_state_dict(state)
    with torch.no_grad():
        for found, expected in zip(ours(image()), theirs(image()), strict=True):
            assert_close(found, expected)


def test_a_smaller_resnet_has_the_promised_shapes() -> None:
    ours = ResNet((1, 1, 1, 1), width=4)
    assert ours.channels == (16, 32, 64, 128)
    found = [tuple(out.shape) for out in ours(image())]
    assert found == [(2, c, 64 // s, 96 // s) for c, s in zip(ours.channels, STRIDES, strict=True)]


@pytest.fixture(scope="module")
def lite() -> nn.Module:
    torch.manual_seed(0)
    return wear(timm.create_model("tf_efficientnet_lite0"))


def test_efficientnet_lite_equals_timm(lite: nn.Module) -> None:
    ours = EfficientNetLite().eval()
    ours.load_imagenet(lite.state_dict())
    with torch.no_grad():
        x, expected = lite.bn1(lite.conv_stem(image())), []
        for stage in lite.blocks[:6]:
            x = stage(x)
            expected.append(x)
        for found, k in zip(ours(image()), (1, 2, 4, 5), strict=True):
            assert_close(found, expected[k])
    assert [out.shape[1] for out in (expected[k] for k in (1, 2, 4, 5))] == list(ours.channels)


@pytest.mark.parametrize("what", ["missing", "misshapen"])
def test_weights_of_another_network_are_refused(lite: nn.Module, what: str) -> None:
    state = lite.state_dict()
    if what == "missing":
        del state["blocks.2.0.bn2.running_var"]
    else:
        state["blocks.2.0.conv_dw.weight"] = state["blocks.2.0.conv_dw.weight"][..., :3, :3]
    with pytest.raises(ModelFileError, match=r"tf_efficientnet_lite0.*blocks\.2\.0"):
        EfficientNetLite(1.0).load_imagenet(state)


def test_a_narrower_lite_and_its_strides() -> None:
    ours = EfficientNetLite(0.25)
    found = [tuple(out.shape[2:]) for out in ours(image())]
    assert found == [(64 // s, 96 // s) for s in STRIDES]
    assert ours.channels == (6, 10, 28, 48)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_depthwise_convolution_is_the_same_in_training_and_out_of_it(kernel: int, stride: int) -> None:
    conv = SamePadConv2d(4, 4, kernel, stride, groups=4)
    x = torch.randn(1, 4, 8, 10)
    out = conv.train()(x)
    assert out.shape == (1, 4, 8 // stride, 10 // stride)
    torch.testing.assert_close(conv.eval()(x), out)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv.train()(x.bfloat16()).dtype == torch.float32


def test_any_convolutional_network_of_timm() -> None:
    torch.manual_seed(0)
    backbone = TimmBackbone("mobilenetv3_small_050").eval()
    with torch.no_grad():
        found = [tuple(out.shape) for out in backbone(image())]
    assert found == [(2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, STRIDES, strict=True)]


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_stages_and_weights_of_a_network_of_timm(name: str) -> None:
    whole, backbone = timm.create_model(name).eval(), TimmBackbone(name).eval()
    backbone.load_imagenet(whole.state_dict())
    with torch.no_grad():
        expected = whole.forward_intermediates(image(), intermediates_only=True)[-1]
        torch.testing.assert_close(backbone(image())[-1], expected)
    stages = backbone.stages()
    assert len(stages) == 1 + len(backbone.channels)
    parts = [module for stage in stages for module in stage]
    assert [id(part) for part in parts] == [id(part) for part in backbone.body.children()]
    with pytest.raises(ModelFileError, match="are missing"):
        backbone.load_imagenet({})
    narrower = {name: tensor[:1] for name, tensor in whole.state_dict().items() if tensor.ndim}
    with pytest.raises(ModelFileError):
        backbone.load_imagenet(narrower)


def test_a_network_in_one_part_does_not_tell_its_stages() -> None:
    backbone = TimmBackbone("resnet18")
    backbone.ends = ["blocks"]
    with pytest.raises(ArgumentError, match="resnet18 does not tell its stages"):
        backbone.stages()


def test_an_unknown_name() -> None:
    with pytest.raises(ArgumentError, match="no backbone called 'resnet5000'"):
        TimmBackbone("resnet5000")


def test_a_network_without_a_pyramid_s_strides() -> None:
    with pytest.raises(ArgumentError, match=r"vit_tiny_patch16_224 gives strides \[16\]"):
        TimmBackbone("vit_tiny_patch16_224")
