"""What is particular to RTMDet; what every model promises is in test_model_contract.py."""

import dataclasses

import pytest
import torch
from networks import CLASSES, annotated, batch_of, enliven, few, scene
from torch import Tensor

from halfpixel.models import rtmdet
from halfpixel.models.rtmdet import RTMDet, rtmdet_ins_tiny, rtmdet_lite
from halfpixel.nn.dynamic_head import KERNEL, NUMBERS, PointOutputs
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.structures.targets import Targets

SIDE, STRIDE = 640, 4
CELLS = SIDE // STRIDE


@pytest.fixture(scope="module")
def model() -> RTMDet:
    torch.manual_seed(0)
    return enliven(rtmdet_lite(CLASSES, few(rtmdet)).eval(), scene(64, seed=1)[0][None])


def disc_kernels(points_xy: Tensor, radius: float) -> Tensor:
    """Small networks that draw an octagon around their point: the sum of distances along x, y and both diagonals."""
    numbers = torch.zeros(len(points_xy), NUMBERS)
    directions = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]])
    directions = directions / directions.norm(dim=1, keepdim=True)
    first = torch.zeros(8, 10)
    first[:, :2] = directions
    numbers[:, :80] = first.flatten()
    numbers[:, 80:144] = torch.eye(8).flatten()
    numbers[:, 144:152] = -200.0
    numbers[:, -1] = 200 * 2.6 * radius / 32
    return torch.cat([numbers, points_xy, torch.full((len(points_xy), 1), 32.0)], 1)


def crowd(objects: int) -> tuple[PointOutputs, Tensor]:
    """What a network would say that is sure of so many small objects, each of which two points answer for."""
    grid = torch.cartesian_prod(torch.arange(40), torch.arange(40))[torch.randperm(1600)[:objects]]
    cells = grid * 4 + 1
    points = torch.cartesian_prod(torch.arange(CELLS), torch.arange(CELLS)).flip(1) * STRIDE + STRIDE / 2.0
    rows = cells[:, 1] * CELLS + cells[:, 0]
    centres = points[rows]
    logits = torch.full((1, CELLS**2, 2), -9.0)
    boxes_xyxy = torch.cat([points - 1, points + 1], 1)
    kernels = disc_kernels(points, 5.0)
    for shift, score in ((0, 3.0), (1, 1.0)):  # the right neighbour says the same object, less surely
        logits[0, rows + shift, torch.arange(objects) % 2] = score + 0.5 * torch.rand(objects)
        boxes_xyxy[rows + shift] = torch.cat([centres - 5, centres + 5], 1)
        kernels[rows + shift, NUMBERS : NUMBERS + 2] = centres
    strides = torch.full((CELLS**2,), float(STRIDE))
    return PointOutputs(
        logits, boxes_xyxy[None], lambda _, chosen: kernels[chosen], torch.zeros(1, 8, CELLS, CELLS), points, strides
    ), centres


def found_by(model: RTMDet, said: PointOutputs, limit: int, monkeypatch: pytest.MonkeyPatch) -> Instances:
    monkeypatch.setattr(model, "_said", lambda _: said)
    limits = Limits.of(0.3, limit)
    outputs = model(torch.zeros(1, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE]]), limits)
    (objects,) = model.decode(outputs, [Resized((SIDE, SIDE), (SIDE, SIDE))], limits)
    return objects


@pytest.mark.parametrize("build", [rtmdet_lite, rtmdet_ins_tiny])
def test_of_1500_objects_none_is_lost_silently(build: object, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = build(CLASSES)  # type: ignore[operator]
    network.map_stride, network.finer_masks = STRIDE, 2.0
    said, centres = crowd(1500)
    objects = found_by(network, said, 2000, monkeypatch)
    assert len(objects) == 1500
    assert not objects.saturated
    middles = (objects.boxes_xyxy[:, :2] + objects.boxes_xyxy[:, 2:]) / 2
    assert torch.cdist(middles, centres).min(0).values.max() < 1  # each is there
    assert objects.masks is not None
    areas = objects.masks.areas_px()
    assert ((areas > 60) & (areas < 100)).all()
    fewer = found_by(network, said, 1000, monkeypatch)
    assert len(fewer) == 1000
    assert fewer.saturated
    exact = found_by(network, said, 1500, monkeypatch)
    assert len(exact) == 1500
    assert not exact.saturated


def test_candidates_that_are_not_compared_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = rtmdet_lite(CLASSES, dataclasses.replace(rtmdet_lite(CLASSES).settings, considered=1000))
    said, _ = crowd(1500)
    for side, compared in [(SIDE, 1000), (SIDE // 2, 4000)]:  # in proportion to the area
        monkeypatch.setattr(rtmdet, "PUBLISHED_HW", (side, side))
        found = found_by(network, said, 100_000, monkeypatch)
        assert found.saturated == (compared < 1500)
        assert len(found) == min(compared, 1500)


def test_a_mask_is_drawn_around_its_point(model: RTMDet, monkeypatch: pytest.MonkeyPatch) -> None:
    said, centres = crowd(1)
    objects = found_by(model, said, 5, monkeypatch)
    assert len(objects) == 1
    assert objects.masks is not None
    (mask,) = objects.masks.dense()
    y, x = torch.nonzero(mask).T + 0.5
    middle = torch.stack([x.mean(), y.mean()])
    assert (middle - centres[0]).abs().max() < 0.3
    assert ((x - centres[0, 0]).abs().max() < 6) & ((y - centres[0, 1]).abs().max() < 6)


def test_nan_is_told(model: RTMDet, monkeypatch: pytest.MonkeyPatch) -> None:
    said, _ = crowd(3)
    said.logits[0, 5, 0] = torch.nan
    monkeypatch.setattr(model, "_said", lambda _: said)
    outputs = model(torch.zeros(1, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE]]), Limits.of(0.3, 10))
    assert outputs["candidates"].tolist() == [[-1]]


def test_crowd_regions_count_as_nothing(model: RTMDet) -> None:
    """What lies in them changes no term, but where an object is."""
    image, target = scene(64, seed=1)
    everywhere = dataclasses.replace(target, ignored_xyxy=torch.tensor([[0.0, 0, 64, 64]]))
    with torch.no_grad():
        usual, ignoring = (model.losses(batch_of(image), [one]) for one in (target, everywhere))
    assert ignoring["class"] < usual["class"]
    assert torch.equal(ignoring["box"], usual["box"])
    assert torch.equal(ignoring["mask"], usual["mask"])
    nothing = annotated(torch.zeros(0, 64, 64, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))
    empty = Targets.from_instances(nothing, torch.tensor([[0.0, 0, 64, 64]]))
    with torch.no_grad():
        assert all(float(one) == 0 for one in model.losses(batch_of(image), [empty]).values())


def test_kernels_know_their_point(model: RTMDet) -> None:
    image, _ = scene(64, seed=1)
    with torch.no_grad():
        outputs = model(image[None], torch.tensor([[64, 64]]), Limits.of(0.02, 20))
    assert outputs["kernels"].shape == (20, KERNEL)
    place = outputs["kernels"][:, NUMBERS:]
    assert set(place[:, 2].tolist()) <= {32.0, 64.0, 128.0}
    low, high = outputs["boxes_xyxy"][:, :2], outputs["boxes_xyxy"][:, 2:]
    assert ((place[:, :2] >= low - 1e-4) & (place[:, :2] <= high + 1e-4)).all()
