"""What RT-DETR's number of queries follows, and its stages of training."""

import dataclasses
from pathlib import Path

import pytest
import torch
from networks import CLASSES, batch_of, enliven, scene
from torch import Tensor, nn

from halfpixel.models import rt_detr
from halfpixel.models.rt_detr import RTDETR, Settings, rt_detr_lite
from halfpixel.structures.images import Limits, Resized
from halfpixel.structures.instances import Instances
from halfpixel.train.start import with_settings
from halfpixel.zoo.modelfile import ModelInfo, load_model, save_model, settings_of

COLUMNS, ROWS, SPACING = 50, 30, 24
HEIGHT, WIDTH = ROWS * SPACING + 16, COLUMNS * SPACING + 16
SIDE = 16.0
"""Of a first box on the finest map, which has stride 4."""


class Marks(nn.Module):
    """Stands for backbone and encoder: one channel of the finest map marks the cells of objects."""

    def __init__(self, centres_xy: Tensor, strengths: Tensor) -> None:
        super().__init__()
        self.cells, self.strengths = (centres_xy // 4).long(), strengths

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[2:]
        maps = [torch.zeros(len(images), 96, height // stride, width // stride) for stride in (4, 8, 16)]
        maps[0][:, 0, self.cells[:, 1], self.cells[:, 0]] = 50.0
        maps[0][:, 1, self.cells[:, 1], self.cells[:, 0]] = self.strengths
        return maps


def lattice() -> Tensor:
    y, x = torch.meshgrid(
        torch.arange(ROWS) * float(SPACING) + 18, torch.arange(COLUMNS) * float(SPACING) + 18, indexing="ij"
    )
    return torch.stack([x.flatten(), y.flatten()], 1)


@torch.no_grad()
def seeing(centres_xy: Tensor, **settings: object) -> RTDETR:
    """A network that finds what is marked: selection and decoder are its own, with weights that change nothing."""
    model = rt_detr_lite(CLASSES, Settings(**settings)).eval()  # type: ignore[arg-type]
    model.backbone = Marks(centres_xy, torch.linspace(0, 20, len(centres_xy)))  # type: ignore[assignment]
    model.encoder = nn.Identity()  # type: ignore[assignment]
    for layer in [*model.selection.inputs, model.selection.output]:
        layer.weight.copy_(torch.eye(96).reshape(layer.weight.shape))
    for part in model.decoder.layers:
        for layer in (part.among.out, part.around.out, part.feed.project):
            nn.init.zeros_(layer.weight)
    for deltas in [model.selection.deltas, *model.decoder.deltas]:
        nn.init.zeros_(deltas.output.weight)
    for logits in [model.selection.logits, *model.decoder.logits]:
        nn.init.zeros_(logits.weight)
        logits.weight[0, :2] = torch.tensor([1.0, 0.2])
        logits.bias.copy_(torch.tensor([-5.0, -9.0]))
    assert model.masks is not None
    for layer in (model.masks.maps, model.masks.kernels.output):
        nn.init.zeros_(layer.weight)
        nn.init.ones_(layer.bias)
    return model


def find(model: RTDETR, limit: int) -> Instances:
    limits = Limits.of(0.3, limit)
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, HEIGHT, WIDTH), torch.tensor([[HEIGHT, WIDTH]]), limits)
    return model.decode(outputs, [Resized((HEIGHT, WIDTH), (HEIGHT, WIDTH))], limits)[0]


def test_1500_objects_are_found() -> None:
    found = find(seeing(lattice(), queries=700), 100_000)  # 1,529 on this area
    assert len(found) == 1500
    assert not found.saturated
    assert found.candidates == {"detections": 1500}
    centres = (found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2
    nearest = torch.cdist(centres, lattice(), compute_mode="donot_use_mm_for_euclid_dist").min(1)
    assert len(set(nearest.indices.tolist())) == 1500
    assert nearest.values.max() < 1e-3
    assert found.masks is not None
    assert found.masks.areas_px().tolist() == [SIDE**2] * 1500


@pytest.mark.parametrize("limit", [20, 1000, 100_000])
def test_the_limit_decides_nothing_but_how_many_are_kept(limit: int) -> None:
    found = find(seeing(lattice()), limit)
    assert len(found) == min(limit, 1500)
    assert found.saturated  # there are no more queries than objects
    assert found.candidates == {"detections": 1500}


@pytest.mark.parametrize(
    ("sides", "coordinates", "queries"),
    [
        ((64, 64), "image", 1500),
        ((640, 640), "cells", 1500),
        ((1280, 640), "image", 1500),
        ((1920, 1920), "cells", 2700),
        ((1920, 1920), "image", 2700),
    ],
)
def test_the_area_decides_how_many_queries_there_are(sides: tuple[int, int], coordinates: str, queries: int) -> None:
    model = rt_detr_lite(CLASSES, Settings(coordinates=coordinates))  # type: ignore[arg-type]
    assert model.queries(torch.empty(1, 3, *sides)) == queries


def test_more_queries_may_be_wanted_than_there_are_cells() -> None:
    model = enliven(rt_detr_lite(CLASSES, Settings()).eval(), batch_of(scene(64)[0]).tensor)
    with torch.no_grad():
        outputs = model(scene(64)[0][None], torch.tensor([[64, 64]]), Limits.of(0.0, 10_000))
    assert 100 < len(outputs["scores"]) <= 256 + 64 + 16
    assert outputs["saturated"].all()  # every query scores more than nothing


def test_in_training_there_are_more_queries_than_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = []

    def assign_several(cost: Tensor, times: int) -> tuple[Tensor, Tensor]:
        found = right(cost, times)
        assert found[1].bincount(minlength=cost.shape[1]).max() <= times
        pairs.append((cost.shape[0], len(found[0])))
        return found

    right = rt_detr.assign_several
    monkeypatch.setattr(rt_detr, "assign_several", assign_several)
    scenes = [scene(objects=n, seed=n) for n in (4, 1)]
    model = rt_detr_lite(CLASSES, Settings(queries=2, selected_for_each=3))
    model.losses(batch_of(*(image for image, _ in scenes)), [target for _, target in scenes])
    assert pairs == [(6, 6)] + [(6, 4)] * 3 + [(6, 3)] + [(6, 1)] * 3  # of the selection and three layers


def test_queries_in_crowds_are_nobodys_fault() -> None:
    torch.manual_seed(0)
    image, target = scene(objects=0)
    model = rt_detr_lite(CLASSES, Settings())
    crowd = dataclasses.replace(target, ignored_xyxy=torch.tensor([[-500.0, -500.0, 700.0, 700.0]]))
    with torch.no_grad():
        plain, ignored = (model.losses(batch_of(image), [one])["class"] for one in (target, crowd))
    assert plain > 0
    assert ignored == 0


def test_boxes_first_and_masks_later(tmp_path: Path) -> None:
    images = batch_of(scene()[0])
    boxes = with_settings(rt_detr_lite(CLASSES), "rt_detr_lite", {"masks": False})
    assert set(boxes.losses(images, [scene()[1]])) == {"class", "box", "iou"}
    enliven(boxes.eval(), images.tensor)
    save_model(tmp_path / "boxes.safetensors", boxes, ModelInfo("rt_detr_lite", CLASSES, settings=settings_of(boxes)))
    loaded, info = load_model(tmp_path / "boxes.safetensors")
    masks = with_settings(loaded, info.variant, {"masks": True})
    assert masks.settings == dataclasses.replace(boxes.settings, masks=True)
    assert set(masks.losses(images, [scene()[1]])) == {"class", "box", "iou", "mask", "dice"}
    with torch.no_grad():
        given = images.tensor, images.sizes_hw, Limits.of(0.2, 50)
        before, after = boxes(*given), masks.eval()(*given)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert set(after) - set(before) == {"kernels", "maps"}


def test_a_box_does_not_depend_on_the_size_of_the_image() -> None:
    """Only attention and the edges see what lies further away."""
    model = rt_detr_lite(CLASSES, Settings()).eval()
    references, delta = model.decoder.references, torch.tensor([[0.3, -0.2, 0.4, -0.5]])
    found, told = [], []
    for side in (128, 512):
        anchors, usable = references.anchors([(side // 4, side // 4)], torch.zeros(()))
        assert usable.all()
        cell = (side // 4) * 10 + 7
        found.append(side * references.refine(anchors[cell][None], delta)[0])
        told.append(references.positions(anchors[cell], (side, side)))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(told[0], told[1], atol=1e-4, rtol=0)
    near = references.positions(anchors[cell] + torch.tensor([5 / 512, 0, 0, 0]), (512, 512))
    assert (near - told[1]).square().sum() > 1  # nuclei that touch are told apart
    expected = [30 + 0.3 * 16, 42 - 0.2 * 16, 16 * 2.718281828**0.4, 16 * 2.718281828**-0.5]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-3)
