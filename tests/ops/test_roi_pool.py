import pytest
import torch
import torchvision

from halfpixel.ops.roi_pool import roi_pool


def random_boxes(n: int, images: int, side: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(n, 2, 2, generator=generator) * 1.6 * side - 0.3 * side  # many reach outside
    index = torch.randint(images, (n, 1), generator=generator).float()
    return torch.cat([index, corners.amin(1), corners.amax(1)], dim=1)


@pytest.mark.parametrize("output_size", [(7, 7), (1, 1), (3, 5)])
@pytest.mark.parametrize("spatial_scale", [1.0, 0.25, 0.37])
def test_equals_torchvision(output_size: tuple[int, int], spatial_scale: float) -> None:
    features = torch.randn(2, 3, 19, 23, generator=torch.Generator().manual_seed(0))
    boxes = random_boxes(60, 2, 22 / spatial_scale, seed=1)
    expected = torchvision.ops.roi_pool(features, boxes, output_size, spatial_scale)
    torch.testing.assert_close(roi_pool(features, boxes, output_size, spatial_scale), expected, rtol=0, atol=0)
    assert expected.abs().sum() > 0


@pytest.mark.parametrize(
    "box",
    [
        (3.2, 4.4, 3.2, 4.4),  # zero size: one cell
        (8.0, 8.0, 2.0, 3.0),  # turned over
        (-50.0, -50.0, -40.0, -40.0),  # wholly outside: zeros
        (100.0, 2.0, 120.0, 9.0),
        (-3.5, -2.5, 4.5, 5.5),  # halves go away from zero
        (0.49999997, 0.5, 6.5, 7.499999),
        (-1e4, -1e4, 1e4, 1e4),
    ],
)
def test_odd_boxes(box: tuple[float, ...]) -> None:
    features = torch.randn(1, 2, 12, 14, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[0.0, *box]])
    expected = torchvision.ops.roi_pool(features, boxes, (4, 4), 1.0)
    torch.testing.assert_close(roi_pool(features, boxes, (4, 4), 1.0), expected, rtol=0, atol=0)


def test_no_boxes() -> None:
    assert roi_pool(torch.rand(1, 5, 8, 8), torch.zeros(0, 5), (7, 6), 1.0).shape == (0, 5, 7, 6)


def test_gradient_equals_torchvision() -> None:
    boxes = random_boxes(12, 1, 10, seed=3)
    gradients = []
    for pool in (roi_pool, torchvision.ops.roi_pool):
        features = torch.randn(1, 2, 11, 11, generator=torch.Generator().manual_seed(4)).requires_grad_()
        pooled = pool(features, boxes, (3, 3), 1.0)
        (pooled * torch.arange(pooled.numel()).reshape(pooled.shape)).sum().backward()
        gradients.append(features.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
