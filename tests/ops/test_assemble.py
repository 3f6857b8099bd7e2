"""Kernels inside boxes against maps of every object as large as the image."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from halfpixel.ops.assemble import VALUES_AT_ONCE, assemble, assemble_on, linear_kernels

STRIDE = 4


def boxes(n: int, width: float, height: float, largest: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(n, 2, generator=generator) * torch.tensor([width, height])
    half = (torch.rand(n, 2, generator=generator) ** 3 * largest + 0.5) / 2
    limit = torch.tensor([width, height, width, height])
    return torch.minimum(torch.cat([centres - half, centres + half], 1).clamp(min=0), limit)


def coordinates(features: Tensor, kernels: Tensor, first_xy: Tensor) -> Tensor:
    """A kernel that bends, and sees where it is."""
    x = first_xy[:, 0, None] + torch.arange(features.shape[3])
    y = first_xy[:, 1, None] + torch.arange(features.shape[2])
    bent = linear_kernels(features, kernels[:, :-2], first_xy).relu()
    return bent + kernels[:, -2, None, None] * x[:, None] / 9 + kernels[:, -1, None, None] * y[:, :, None] / 9


def dense(maps: Tensor, kernels: Tensor, apply: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Logits of every object on all of its image's maps, `[n, h, w]`."""
    return apply(maps, kernels, torch.zeros(len(maps), 2, dtype=torch.int64))


def sampled(logits: Tensor, box: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Bilinear, point by point, the edge going on."""
    height, width = logits.shape
    found = torch.zeros(grid_hw)
    for i in range(grid_hw[0]):
        for j in range(grid_hw[1]):
            y = (box[1] + (i + 0.5) / grid_hw[0] * (box[3] - box[1])) / STRIDE - 0.5
            x = (box[0] + (j + 0.5) / grid_hw[1] * (box[2] - box[0])) / STRIDE - 0.5
            y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
            top = logits[y0, x0] * (1 - (x - x0)) + logits[y0, x1] * (x - x0)
            low = logits[y1, x0] * (1 - (x - x0)) + logits[y1, x1] * (x - x0)
            found[i, j] = top * (1 - (y - y0)) + low * (y - y0)
    return found


@pytest.mark.parametrize(("apply", "extra"), [(linear_kernels, 0), (coordinates, 2)])
def test_equals_what_dense_maps_show_in_the_box(apply: Callable[[Tensor, Tensor, Tensor], Tensor], extra: int) -> None:
    torch.manual_seed(0)
    maps, image_index = torch.randn(2, 5, 23, 31), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 0])
    kernels, boxes_xyxy = torch.randn(9, 5 + extra), boxes(9, 31 * STRIDE, 23 * STRIDE, 90)
    boxes_xyxy[3] = torch.tensor([0.0, 0.0, 31 * STRIDE, 23 * STRIDE])  # all of it
    boxes_xyxy[5] = torch.tensor([-9.0, 70.0, 20.0, 99.0])  # beyond the edge
    found = assemble(maps, kernels, image_index, boxes_xyxy, STRIDE, apply)
    everywhere = dense(maps[image_index], kernels, apply)
    for logits, whole, box in zip(found, everywhere, boxes_xyxy, strict=True):
        torch.testing.assert_close(logits, sampled(whole, box, tuple(logits.shape)), atol=1e-4, rtol=1e-4)


def test_grids_are_finer_than_the_maps() -> None:
    boxes_xyxy = torch.tensor([[10.0, 10, 20, 50], [8, 8, 11, 11], [0, 0, 1600, 1600]])
    grids = assemble(torch.randn(1, 3, 400, 400), torch.randn(3, 3), torch.zeros(3, dtype=torch.int64), boxes_xyxy, 4.0)
    for logits, box in zip(grids, boxes_xyxy, strict=True):
        cells_hw = (box[3] - box[1]) / STRIDE, (box[2] - box[0]) / STRIDE
        for side, cells in zip(logits.shape, cells_hw, strict=True):
            assert side >= cells * (2 if cells < 128 else 1)
    assert grids[2].shape == (400, 400)


def test_grids_of_one_size_for_training() -> None:
    torch.manual_seed(1)
    maps, image_index = torch.randn(2, 4, 16, 20, requires_grad=True), torch.tensor([1, 0, 1, 1, 0])
    kernels, boxes_xyxy = torch.randn(5, 4, requires_grad=True), boxes(5, 80, 64, 60, seed=2)
    grids = assemble_on(14, maps, kernels, image_index, boxes_xyxy, STRIDE)
    everywhere = dense(maps[image_index], kernels, linear_kernels)
    expected = torch.stack([sampled(w, box, (14, 14)) for w, box in zip(everywhere, boxes_xyxy, strict=True)])
    torch.testing.assert_close(grids, expected, atol=1e-4, rtol=1e-4)
    grids.square().sum().backward()
    assert maps.grad is not None
    assert kernels.grad is not None
    assert (kernels.grad.abs().amax(1) > 0).all()
    assert assemble_on(14, maps, kernels[:0], image_index[:0], boxes_xyxy[:0], STRIDE).shape == (0, 14, 14)


def test_nothing_to_assemble() -> None:
    assert assemble(torch.randn(1, 3, 8, 8), torch.zeros(0, 3), torch.zeros(0).long(), torch.zeros(0, 4), 4.0) == []


class Largest(TorchDispatchMode):
    """Watches the largest tensor that is made."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out._base is None and not any(out is one for one in args):
            self.values = max(self.values, out.numel())
        return out


@pytest.mark.parametrize("n", [100, 1000])
def test_memory_does_not_grow_with_the_objects(n: int) -> None:
    """On an image of 12 megapixels: nothing made is larger than a chunk, however many objects there are."""
    maps, boxes_xyxy = torch.randn(1, 8, 750, 1000), boxes(n, 4000, 3000, 300)
    with Largest() as largest:
        assemble(maps, torch.randn(n, 8), torch.zeros(n, dtype=torch.int64), boxes_xyxy, STRIDE)
    assert 0 < largest.values <= VALUES_AT_ONCE < n * 750 * 1000


def test_many_are_worked_through_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    maps, kernels, boxes_xyxy = torch.randn(1, 3, 40, 40), torch.randn(40, 3), boxes(40, 160, 160, 80)
    given = maps, kernels, torch.zeros(40, dtype=torch.int64), boxes_xyxy, 4.0
    whole = assemble(*given)
    monkeypatch.setattr("halfpixel.ops.assemble.VALUES_AT_ONCE", 300)
    for one, chunked in zip(whole, assemble(*given), strict=True):
        torch.testing.assert_close(one, chunked, atol=1e-5, rtol=1e-5)
