"""The copies that predict against the networks they are made from."""

import pytest
import torch
from torch import Tensor, nn

from halfpixel.engine.backends import cpu_blocks
from halfpixel.engine.backends.cpu_blocks import FusedConv2d, FusedSiluConv, RowBlockInvertedResidual, use_cpu_blocks
from halfpixel.engine.backends.eager import for_inference
from halfpixel.engine.backends.folding import folded
from halfpixel.nn.backbones.cspnext import SiluConv
from halfpixel.nn.backbones.efficientnet_lite import EfficientNetLite, InvertedResidual
from halfpixel.nn.backbones.resnet import ResNet
from halfpixel.nn.conv_blocks import ConvBlock, FrozenBatchNorm2d, conv_stack
from halfpixel.nn.fpn import FeaturePyramid

CPU = torch.device("cpu")


def worn(model: nn.Module) -> nn.Module:
    """Statistics and scales that a network might have learnt."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.3, 1.2),
                (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.2, 2.0),
            ):
                tensor.data.uniform_(low, high, generator=generator)
    return model.eval()


def image(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(1))


def resnet() -> ResNet:
    torch.manual_seed(0)
    model = ResNet((2, 2, 2, 2), width=8)
    worn(model)
    return model


def close(found: Tensor, expected: Tensor, share: float) -> bool:
    assert found.shape == expected.shape
    return bool((found.float() - expected).abs().max() < share * expected.abs().max())


def test_a_folded_network_has_no_normalisation_and_computes_the_same() -> None:
    model = resnet()
    faster = folded(model)
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in faster.modules())
    assert any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())
    with torch.inference_mode():
        for found, expected in zip(faster(image()), model(image()), strict=True):
            assert close(found, expected, 1e-5)


def test_normalised_blocks_are_folded_too() -> None:
    torch.manual_seed(0)
    stack = worn(nn.Sequential(*conv_stack(3, (8, 4), FrozenBatchNorm2d), ConvBlock(4, 6, 1, FrozenBatchNorm2d, False)))
    with torch.inference_mode():
        assert close(folded(stack)(image()), stack(image()), 1e-5)
        assert stack(image()).min() < 0


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
def test_the_copy_computes_the_same(dtype: torch.dtype, share: float) -> None:
    model = resnet()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    faster = for_inference(model, CPU, dtype)
    fused = any(isinstance(module, FusedConv2d) for module in faster.modules())
    assert fused == (dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    x = image()
    with torch.inference_mode():
        given = x.to(dtype).contiguous(memory_format=torch.channels_last)
        for found, expected in zip(faster(given), model(x), strict=True):
            assert found.dtype == dtype
            assert close(found, expected, share)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("norm", [None, FrozenBatchNorm2d])
def test_convolutions_with_their_silu_compute_the_same(norm: type[FrozenBatchNorm2d] | None) -> None:
    torch.manual_seed(0)
    model = worn(nn.Sequential(SiluConv(3, 8, 3, norm, stride=2), SiluConv(8, 8, 5, norm, groups=8)))
    faster = for_inference(model, CPU, torch.float32)
    assert any(isinstance(module, FusedSiluConv) for module in faster.modules())
    with torch.inference_mode():
        expected = model(image())
        assert expected.min() < 0
        assert close(faster(image().contiguous(memory_format=torch.channels_last)), expected, 1e-5)


def test_the_maps_that_a_backbone_gives_are_not_overwritten_by_later_stages() -> None:
    faster = for_inference(resnet(), CPU, torch.float32)
    with torch.inference_mode():
        x = faster.maxpool(faster.stem(image()))
        first = faster.layer1(x)
        kept = first.clone()
        faster.layer2(first)
    assert torch.equal(first, kept)


def test_a_pyramid_s_shortcuts_are_added_in_place() -> None:
    torch.manual_seed(0)
    pyramid = FeaturePyramid((8, 8), 8, coarser=False).eval()
    maps = [torch.randn(1, 8, 40, 60), torch.randn(1, 8, 20, 30)]
    kept = [one.clone() for one in maps]
    faster = for_inference(pyramid, CPU, torch.float32)
    with torch.inference_mode():
        for found, expected in zip(faster(maps), pyramid(maps), strict=True):
            assert close(found, expected, 1e-5)
    assert all(torch.equal(a, b) for a, b in zip(maps, kept, strict=True))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("expansion", [1, 6])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_row_blocks_give_the_whole_to_the_bit(
    kernel: int, stride: int, expansion: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    block = InvertedResidual(4, 4 if stride == 1 else 6, kernel, stride, expansion).eval()
    for conv in (block.conv_pw, block.conv_dw):
        assert conv.bias is not None
        nn.init.uniform_(conv.bias, 0.2, 1)  # what is not zero beyond the edge would show
    x = torch.randn(2, 4, 20, 12).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        whole = block(x)
        use_cpu_blocks(block, torch.float32)
        assert type(block) is RowBlockInvertedResidual
        monkeypatch.setattr(cpu_blocks, "CACHE_BYTES", rows * 4 * expansion * 12 * 4 * stride)
        heights: list[int] = []
        original = block.row_block
        monkeypatch.setattr(block, "row_block", lambda x, a, b: heights.append(b - a) or original(x, a, b))
        in_blocks = block(x)
    assert sum(heights) == 20
    assert max(heights) == rows * stride
    torch.testing.assert_close(in_blocks, whole, rtol=1e-6, atol=1e-6)


def test_the_network_itself_stays_as_it_is() -> None:
    net = EfficientNetLite(0.25, outputs=(1,))
    faster = for_inference(net, CPU, torch.float32)
    assert any(type(module) is RowBlockInvertedResidual for module in faster.modules())
    assert all(type(module).__module__.startswith(("halfpixel.nn", "torch.nn")) for module in net.modules())
