import torch
import torchvision
from torch import Tensor, nn

from halfpixel.nn.conv_blocks import FrozenBatchNorm2d
from halfpixel.nn.fpn import FeaturePyramid

INPUTS = (3, 5, 7, 9)


def maps(height: int = 32, width: int = 48) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, height >> k, width >> k, generator=generator) for k, c in enumerate(INPUTS)]


def test_shapes() -> None:
    outputs = FeaturePyramid(INPUTS, 6)(maps())
    assert [tuple(out.shape) for out in outputs] == [(2, 6, 32 >> k, 48 >> k) for k in range(5)]
    torch.testing.assert_close(outputs[4], outputs[3][:, :, ::2, ::2])
    assert len(FeaturePyramid(INPUTS, 6, coarser=False)(maps())) == 4


def test_a_coarse_map_reaches_finer_ones_by_nearest_cells() -> None:
    pyramid = FeaturePyramid((1, 1), 1, coarser=False)
    for block in (*pyramid.lateral, *pyramid.output):
        nn.init.zeros_(block.conv.weight)
        block.conv.weight.data[0, 0, block.conv.kernel_size[0] // 2, block.conv.kernel_size[0] // 2] = 1
    fine, coarse = torch.zeros(1, 1, 4, 4), torch.arange(4.0).reshape(1, 1, 2, 2)
    merged, top = pyramid([fine, coarse])
    torch.testing.assert_close(merged[0, 0], coarse[0, 0].repeat_interleave(2, 0).repeat_interleave(2, 1))
    torch.testing.assert_close(top, coarse)


def test_equals_torchvision() -> None:
    """Odd sides included, where a coarse map is not half of the finer one."""
    ours = FeaturePyramid(INPUTS, 6)
    theirs = torchvision.ops.FeaturePyramidNetwork(
        list(INPUTS), 6, extra_blocks=torchvision.ops.feature_pyramid_network.LastLevelMaxPool()
    )
    for kind, mine in (("inner", ours.lateral), ("layer", ours.output)):
        for block, other in zip(mine, getattr(theirs, f"{kind}_blocks"), strict=True):
            nn.init.normal_(block.conv.bias)
            other[0].load_state_dict(block.conv.state_dict())
    odd = [torch.randn(1, c, *hw) for c, hw in zip(INPUTS, [(25, 33), (13, 17), (7, 9), (4, 5)], strict=True)]
    expected = theirs({str(k): x for k, x in enumerate(odd)})
    torch.testing.assert_close(ours(odd), list(expected.values()), atol=1e-5, rtol=1e-5)


def test_normalised_blocks() -> None:
    pyramid = FeaturePyramid(INPUTS, 6, FrozenBatchNorm2d)
    assert all(isinstance(block.norm, FrozenBatchNorm2d) for block in (*pyramid.lateral, *pyramid.output))
