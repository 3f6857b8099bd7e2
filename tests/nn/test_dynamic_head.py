"""The small networks that draw masks against a loop; the head's boxes and points by hand."""

import pytest
import torch
from torch import Tensor

from halfpixel.nn.dynamic_head import KERNEL, MAPS, NUMBERS, DynamicHead, dynamic_logits
from halfpixel.ops.assemble import assemble

STRIDE = 4


def kernels(n: int, seed: int = 0) -> Tensor:
    """Numbers, points in an input of 64 x 48 px, units."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(n, NUMBERS, generator=generator, dtype=torch.float64)
    place = torch.rand(n, 2, generator=generator, dtype=torch.float64) * torch.tensor([64.0, 48.0])
    unit = torch.tensor([32.0, 64.0, 128.0], dtype=torch.float64)[torch.arange(n) % 3, None]
    return torch.cat([numbers, place, unit], 1)


def logit_slowly(cell: list[float], kernel: list[float], x: float, y: float) -> float:
    """What the small network says of one cell, whose place is (x, y), in pixels of the input."""
    numbers, (px, py, unit) = kernel[:NUMBERS], kernel[NUMBERS:]
    values = [(px - x) / unit, (py - y) / unit, *cell]
    at, biases_at = 0, NUMBERS - 8 - 8 - 1
    for outputs in (8, 8, 1):
        next_values = []
        for k in range(outputs):
            weights = numbers[at : at + len(values)]
            at += len(values)
            next_values.append(sum(w * v for w, v in zip(weights, values, strict=True)) + numbers[biases_at + k])
        biases_at += outputs
        values = [max(v, 0.0) for v in next_values] if outputs > 1 else next_values
    return values[0]


@pytest.mark.parametrize("cell_point", [0.5, 0.0])
def test_the_small_networks_equal_a_loop(cell_point: float) -> None:
    assert (NUMBERS, KERNEL) == (169, 172)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(5, MAPS, 3, 4, generator=generator, dtype=torch.float64)
    first_xy = torch.randint(0, 9, (5, 2), generator=generator)
    some = kernels(5)
    found = dynamic_logits(features, some, first_xy, STRIDE, cell_point)
    assert found.shape == (5, 3, 4)
    for n in range(5):
        for i in range(3):
            for j in range(4):
                x, y = (
                    (float(first_xy[n, 0]) + j + cell_point) * STRIDE,
                    (first_xy[n, 1].item() + i + cell_point) * STRIDE,
                )
                expected = logit_slowly(features[n, :, i, j].tolist(), some[n].tolist(), x, y)
                assert found[n, i, j].item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_window_says_what_the_whole_maps_say() -> None:
    maps = torch.randn(1, MAPS, 12, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    some = kernels(6)
    whole = dynamic_logits(maps.expand(6, -1, -1, -1), some, torch.zeros(6, 2, dtype=torch.int64), STRIDE, 0.5)
    part = dynamic_logits(maps[:, :, 3:9, 5:12].expand(6, -1, -1, -1), some, torch.tensor([[5, 3]] * 6), STRIDE, 0.5)
    torch.testing.assert_close(part, whole[:, 3:9, 5:12])
    everything = torch.tensor([[0.0, 0, 64, 48]], dtype=torch.float64).expand(6, 4)
    apply = lambda *given: dynamic_logits(*given, STRIDE, 0.5)  # noqa: E731
    found = assemble(maps, some, torch.zeros(6, dtype=torch.int64), everything, STRIDE, apply, finer=1.0)
    torch.testing.assert_close(torch.stack(found), whole)


def test_a_kernel_alone_can_draw_a_half_plane_from_its_point() -> None:
    """With the first weight alone the logit is how far left of its point a cell is, in units."""
    numbers = torch.zeros(1, NUMBERS)
    numbers[0, [0, 80, 144]] = 1.0  # x to the first hidden channel, on to the first, and out
    some = torch.cat([numbers, torch.tensor([[30.0, 10.0, 16.0]])], 1)
    logits = dynamic_logits(torch.zeros(1, MAPS, 2, 16), some, torch.zeros(1, 2, dtype=torch.int64), STRIDE, 0.5)
    x = (torch.arange(16) + 0.5) * STRIDE
    torch.testing.assert_close(logits[0, 1], ((30 - x) / 16).clamp(min=0))


def head(cell_point: float = 0.5) -> DynamicHead:
    torch.manual_seed(0)
    return DynamicHead(16, 3, (8, 16), cell_point).eval()


@pytest.mark.parametrize("cell_point", [0.5, 0.0])
def test_boxes_reach_from_points_by_strides(cell_point: float) -> None:
    model = head(cell_point)
    for layer in model.distances:
        torch.nn.init.zeros_(layer.weight)
        layer.bias.data = torch.tensor([0.5, 1.0, 2.0, -3.0])  # left, up, right, down: cut off below zero
    pyramid = [torch.randn(1, 16, 4, 6), torch.randn(1, 16, 2, 3)]
    with torch.no_grad():
        said = model(pyramid)
    expected, points = [], []
    for stride, (rows, columns) in ((8, (4, 6)), (16, (2, 3))):
        for i in range(rows):
            for j in range(columns):
                x, y = (j + cell_point) * stride, (i + cell_point) * stride
                points.append([x, y, 8.0 * stride])
                expected.append([x - 0.5 * stride, y - stride, x + 2 * stride, y])
    torch.testing.assert_close(said.boxes_xyxy[0], torch.tensor(expected))
    with torch.no_grad():
        kernels = said.kernels(0, torch.arange(len(points)))
    torch.testing.assert_close(kernels[:, NUMBERS:], torch.tensor(points))
    torch.testing.assert_close(said.points_xy, torch.tensor(points)[:, :2])
    assert said.strides.tolist() == [8.0] * 24 + [16.0] * 6
    assert said.maps.shape == (1, MAPS, 4, 6)


def test_levels_share_convolutions_of_class_and_box_and_nothing_else() -> None:
    names = [name for name, _ in head().named_parameters()]
    assert [name for name in names if name.startswith("tower.0")] == [
        "tower.0.conv.weight",
        *(f"tower.0.norms.{k}.{part}" for k in range(2) for part in ("weight", "bias")),
    ]
    for name in ("kernel_towers", "filters", "distances", "logits"):
        assert {one.split(".")[1] for one in names if one.startswith(name)} == {"0", "1"}


def test_each_point_has_the_numbers_of_its_own_level() -> None:
    model = head()
    pyramid = [torch.randn(2, 16, 4, 6), torch.randn(2, 16, 2, 3)]
    with torch.no_grad():
        kernels = model(pyramid).kernels(1, torch.tensor([29, 7, 24]))
        fine, coarse = (
            layer(tower(x))[1].flatten(1).T
            for layer, tower, x in zip(model.filters, model.kernel_towers, pyramid, strict=True)
        )
        nothing = model(pyramid).kernels(0, torch.tensor([], dtype=torch.int64))
    torch.testing.assert_close(kernels[:, :NUMBERS], torch.stack([coarse[5], fine[7], coarse[0]]))
    assert nothing.shape == (0, KERNEL)


def test_half_precision_keeps_coordinates() -> None:
    model = head().bfloat16()
    pyramid = [torch.randn(1, 16, 4, 600).bfloat16(), torch.randn(1, 16, 2, 300).bfloat16()]
    with torch.no_grad():
        said = model(pyramid)
        kernels = said.kernels(0, torch.tensor([599, 2999]))
    assert said.points_xy[599].tolist() == kernels[0, NUMBERS:-1].tolist() == [4796.0, 4.0]
    assert kernels.dtype == said.boxes_xyxy.dtype == said.logits.dtype == torch.float32


def test_in_training_points_are_asked_alone() -> None:
    """What they say, and every gradient, is that of all points' features."""
    model = head()
    pyramid = [torch.randn(2, 16, *size_hw, requires_grad=True) for size_hw in ((4, 6), (2, 3))]
    image, points = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([29, 7, 24, 0, 23])
    inputs = [*pyramid, *model.kernel_towers.parameters(), *model.filters.parameters()]
    kernels, gradients = [], []
    for training in (True, False):
        kernels.append(model.train(training)(pyramid).kernels(image, points))
        gradients.append(torch.autograd.grad(kernels[-1].square().sum(), inputs))
    torch.testing.assert_close(*kernels)
    torch.testing.assert_close(*gradients)
    assert all(one.any() for one in gradients[0])
