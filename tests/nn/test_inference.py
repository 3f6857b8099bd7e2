"""The copies that predict against the networks they are made from."""

import pytest
import torch
from torch import Tensor, nn

from halfpixel.nn import inference
from halfpixel.nn.backbones import EfficientNetLite, InvertedResidual, ResNet
from halfpixel.nn.conv_blocks import ConvBlock, FrozenBatchNorm2d, conv_stack
from halfpixel.nn.fpn import FeaturePyramid
from halfpixel.nn.inference import CpuConv2d, folded, for_inference

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
    assert any(isinstance(module, CpuConv2d) for module in faster.modules())
    x = image()
    with torch.inference_mode():
        given = x.to(dtype).contiguous(memory_format=torch.channels_last)
        for found, expected in zip(faster(given), model(x), strict=True):
            assert found.dtype == dtype
            assert close(found, expected, share)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_maps_that_a_backbone_gives_are_not_overwritten_by_later_stages() -> None:
    faster = for_inference(resnet(), CPU, torch.float32)
    with torch.inference_mode():
        x = faster.maxpool(torch.relu(faster.conv1(image())))
        first = faster.layer1(x)
        kept = first.clone()
        faster.layer2(first)
    assert torch.equal(first, kept)


def test_wide_layers_go_by_winograd_where_the_map_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINOGRAD_CHANNELS", 8)
    seen: list[tuple[int, ...]] = []
    original = inference.winograd_conv2d

    def watched(x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(tuple(x.shape[2:]))
        return original(x, kernels, bias)

    monkeypatch.setattr(inference, "winograd_conv2d", watched)
    torch.manual_seed(0)
    pyramid = FeaturePyramid((8, 8), 8, coarser=False).eval()
    maps = [torch.randn(1, 8, 40, 60), torch.randn(1, 8, 7, 7)]
    faster = for_inference(pyramid, CPU, torch.float32)
    with torch.inference_mode():
        for found, expected in zip(faster(maps), pyramid(maps), strict=True):
            assert close(found, expected, 1e-5)
    assert seen == [(40, 60)]


def test_half_precision_never_goes_by_winograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINOGRAD_CHANNELS", 8)
    monkeypatch.delattr(inference, "winograd_conv2d")
    stack = conv_stack(8, (8,)).eval()
    x = torch.randn(1, 8, 40, 60, dtype=torch.bfloat16)
    with torch.inference_mode():
        assert for_inference(stack, CPU, torch.bfloat16)(x).shape == x.shape


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("expansion", [1, 6])
@pytest.mark.parametrize("rows", [1, 3, 8])
def test_strips_give_the_whole_to_the_bit(
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
        monkeypatch.setattr("halfpixel.nn.backbones.CACHE_BYTES", rows * 4 * expansion * 12 * 4 * stride)
        strips: list[int] = []
        original = block._strip
        monkeypatch.setattr(block, "_strip", lambda x, a, b: strips.append(b - a) or original(x, a, b))
        in_strips = block(x)
    assert sum(strips) == 20
    assert max(strips) == rows * stride
    torch.testing.assert_close(in_strips, whole, rtol=1e-6, atol=1e-6)


def test_training_sees_no_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfpixel.nn.backbones.CACHE_BYTES", 1)
    net = EfficientNetLite(0.25, outputs=(1,))
    monkeypatch.setattr(InvertedResidual, "_strip", None)
    net(image())[0].sum().backward()
    assert net.conv_stem.weight.grad is not None
