"""RoIAlign against a slow loop and against torchvision."""

import pytest
import torch
import torchvision
from oracles.roi_align import roi_align_slowly
from torch import Tensor

from halfpixel.ops import roi_align as module
from halfpixel.ops.roi_align import roi_align

STRIDES = (4, 8, 16)
IMAGE_HW = (96, 128)

ODD_BOXES = [
    (0.0, 0.0, 128.0, 96.0),  # everything
    (-20.0, -10.0, 30.0, 40.0),  # partly outside
    (110.0, 80.0, 200.0, 190.0),
    (-301.0, -302.0, 503.0, 504.0),  # around everything
    (200.0, 200.0, 260.0, 230.0),  # wholly outside
    (-90.0, 5.0, -60.0, 40.0),
    (33.3, 21.7, 33.3, 21.7),  # of zero size
    (33.3, 21.7, 60.0, 21.7),  # of zero height
    (60.0, 50.0, 20.0, 10.0),  # turned over
    (60.0, 10.0, 20.0, 50.0),  # turned over in x
    (40.0, 40.0, 41.0, 41.5),  # smaller than a cell
    (8.0, 16.0, 64.0, 48.0),  # on cell borders
    (126.0, 94.0, 128.0, 96.0),  # in the last cell
]


def pyramid(images: int = 2, channels: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = [(IMAGE_HW[0] // s, IMAGE_HW[1] // s) for s in STRIDES]
    return [torch.randn(images, channels, *hw, generator=generator, dtype=torch.float64).to(dtype) for hw in sides]


def regions(n: int = 24, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, the images they are on and the levels they are cropped from, in no order."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(n, 2, 2, generator=generator, dtype=torch.float64) * torch.tensor([150.0, 110.0]) - 10
    boxes = torch.cat([torch.cat([corners.amin(1), corners.amax(1)], 1), torch.tensor(ODD_BOXES).double()])
    index = torch.randint(2, (len(boxes),), generator=generator)
    levels = torch.randint(len(STRIDES), (len(boxes),), generator=generator)
    return boxes.to(dtype), index, levels


def without_turned_over(boxes: Tensor, index: Tensor, levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Adaptive sampling of a box with negative sides makes torchvision fail; ours gives zeros, as the loop does."""
    proper = (boxes[:, 2:] >= boxes[:, :2]).all(dim=1)
    return boxes[proper], index[proper], levels[proper]


def by_torchvision(
    features: list[Tensor], boxes: Tensor, index: Tensor, levels: Tensor, size: int, sampling: int, aligned: bool
) -> Tensor:
    rois = torch.cat([index[:, None].to(boxes), boxes], dim=1).to(features[0].dtype)
    crops = features[0].new_zeros(len(boxes), features[0].shape[1], size, size)
    for level, (values, stride) in enumerate(zip(features, STRIDES, strict=True)):
        here = torch.nonzero(levels == level).ravel()
        found = torchvision.ops.roi_align(values, rois[here], size, 1 / stride, sampling or -1, aligned)
        crops = crops.index_put((here,), found)
    return crops


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 1, 2, 3])
def test_equals_the_slow_loop(sampling: int, aligned: bool) -> None:
    features = pyramid(channels=1)
    boxes, index, levels = regions(8)
    found = roi_align(features, boxes, index, levels, STRIDES, 3, sampling, aligned)
    slow = [
        [roi_align_slowly(features[level][image, 0].tolist(), tuple(box), STRIDES[level], 3, sampling, aligned)]
        for box, image, level in zip(boxes.tolist(), index.tolist(), levels.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(slow, dtype=torch.float64), atol=1e-9, rtol=0)
    assert found.abs().amax(dim=(1, 2, 3)).count_nonzero() > 10


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("size", [1, 7])
def test_equals_torchvision_over_levels_and_images(size: int, sampling: int, aligned: bool) -> None:
    features, (boxes, index, levels) = pyramid(), without_turned_over(*regions()) if sampling == 0 else regions()
    assert set(levels.tolist()) == {0, 1, 2}
    assert set(index.tolist()) == {0, 1}
    found = roi_align(features, boxes, index, levels, STRIDES, size, sampling, aligned)
    expected = by_torchvision(features, boxes, index, levels, size, sampling, aligned)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_adaptive_sampling_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    features, (boxes, index, levels) = pyramid(), regions()
    whole = roi_align(features, boxes, index, levels, STRIDES, 4, 0)
    monkeypatch.setattr(module, "SAMPLES_AT_ONCE", 1)
    torch.testing.assert_close(roi_align(features, boxes, index, levels, STRIDES, 4, 0), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_gradcheck(sampling: int, aligned: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    features = [torch.randn(2, 2, side, side, generator=generator).double().requires_grad_() for side in (4, 2)]
    boxes = torch.tensor([[1.0, 2.0, 13.0, 11.5], [-3.0, 4.0, 7.0, 19.0], [5.0, 5.0, 5.0, 5.0]]).double()
    index, levels = torch.tensor([1, 0, 1]), torch.tensor([0, 1, 0])

    def crop(*maps: Tensor) -> Tensor:
        return roi_align(maps, boxes, index, levels, (4, 8), 2, sampling, aligned)

    assert torch.autograd.gradcheck(crop, features)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
def test_gradient_equals_torchvision(sampling: int, aligned: bool) -> None:
    boxes, index, levels = without_turned_over(*regions()) if sampling == 0 else regions()
    gradients = []
    for function in ("ours", "torchvision"):
        features = [values.requires_grad_() for values in pyramid()]
        if function == "ours":
            crops = roi_align(features, boxes, index, levels, STRIDES, 3, sampling, aligned)
        else:
            crops = by_torchvision(features, boxes, index, levels, 3, sampling, aligned)
        crops.backward(torch.randn(crops.shape, generator=torch.Generator().manual_seed(3), dtype=crops.dtype))
        gradients.append([values.grad for values in features])
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-10, rtol=0)
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[0])


@pytest.mark.parametrize("sampling", [0, 2])
def test_no_boxes(sampling: int) -> None:
    features = [values.requires_grad_() for values in pyramid()]
    none = torch.zeros(0, dtype=torch.int64)
    crops = roi_align(features, torch.zeros(0, 4).double(), none, none, STRIDES, 7, sampling)
    assert crops.shape == (0, 3, 7, 7)
    crops.sum().backward()
    assert features[0].grad is not None
    assert not features[0].grad.any()


@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("aligned", [True, False])
def test_maps_of_one_cell(sampling: int, aligned: bool) -> None:
    features = [torch.tensor([[[[3.0]]]]).double()]
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [-3.0, 1.0, 9.0, 2.0], [30.0, 0.0, 40.0, 4.0]]).double()
    zero = torch.zeros(3, dtype=torch.int64)
    found = roi_align(features, boxes, zero, zero, (4,), 2, sampling, aligned)
    rois = torch.cat([zero[:, None].double(), boxes], 1)
    expected = torchvision.ops.roi_align(features[0], rois, 2, 0.25, sampling or -1, aligned)
    torch.testing.assert_close(found, expected)
    assert (found[0] == 3).all()
    assert (found[2] == 0).all()


def test_half_precision_is_close_because_only_the_features_are_rounded() -> None:
    boxes, index, levels = regions(dtype=torch.float32)
    exact = roi_align(pyramid(), boxes.double(), index, levels, STRIDES, 7, 2)
    rounded = roi_align(pyramid(dtype=torch.bfloat16), boxes, index, levels, STRIDES, 7, 2)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), exact, atol=0.03, rtol=0.02)


def test_a_shift_by_whole_cells_shifts_the_crop() -> None:
    """What quantised pooling cannot promise at fractions of a cell, and alignment makes true of the centre too."""
    ramp = torch.arange(16, dtype=torch.float64).expand(1, 1, 16, 16).contiguous()
    boxes = torch.tensor([[8.0, 8.0, 16.0, 16.0], [9.3, 8.0, 17.3, 16.0]]).double()
    zero = torch.zeros(2, dtype=torch.int64)
    crops = roi_align([ramp], boxes, zero, zero, (4,), 1)
    # the ramp's value at a pixel x is x / 4 - 1/2: at the centre of the first box 12 / 4 - 1/2
    torch.testing.assert_close(crops.ravel(), torch.tensor([2.5, 2.5 + 1.3 / 4], dtype=torch.float64))


def test_gradients_of_many_overlapping_boxes_add_up_in_half_precision() -> None:
    """Each of a thousand boxes adds its share to the same cells: in bfloat16 most of the sum would be lost."""
    features = torch.ones(1, 2, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    n = 1000
    boxes, zeros = torch.tensor([[8.0, 8.0, 24.0, 24.0]]).repeat(n, 1), torch.zeros(n, dtype=torch.int64)
    roi_align([features], boxes, zeros, zeros, (4,), 4).float().sum().backward()
    assert features.grad is not None
    assert float(features.grad.float().sum()) == pytest.approx(n * 2 * 16, rel=0.01)
