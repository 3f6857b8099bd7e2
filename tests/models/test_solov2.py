import dataclasses

import pytest
import torch
from networks import CLASSES, batch_of, scene
from torch import Tensor

from halfpixel.models.solov2 import PLACED, GridOutputs, Settings, SOLOv2, solov2_lite
from halfpixel.structures.images import Limits, Resized

HEIGHT, WIDTH = 960, 1280


def saying(discs_xy: Tensor, radius: float, scores: Tensor | None = None, **settings: object) -> SOLOv2:
    """A network that says these discs, whatever it is shown: one cell of the finest level for each."""
    model = solov2_lite(CLASSES, Settings(**settings)).eval()  # type: ignore[arg-type]
    cells = (HEIGHT // 8, WIDTH // 8)
    logits = [torch.full((1, 2, cells[0] >> k, cells[1] >> k), -20.0) for k in range(3)]
    kernels = [torch.zeros(1, 24 + PLACED, cells[0] >> k, cells[1] >> k) for k in range(3)]
    column, row = (discs_xy // 8).long().unbind(1)
    label = torch.arange(len(discs_xy)) % 2
    wanted = torch.full((len(discs_xy),), 0.9) if scores is None else scores
    logits[0][0, label, row, column] = torch.logit(wanted)
    unit = 32.0
    centres = 8 * torch.stack([column, row], 1) + 4.0
    shift = (discs_xy - centres) / unit
    steep = (unit / radius) ** 2
    # 1 - steep * |x - shift|^2
    kernels[0][0, 24:26, row, column] = (2 * steep * shift).T
    kernels[0][0, 26, row, column] = 1 - steep
    kernels[0][0, 27, row, column] = -steep * shift.square().sum(1)
    said = GridOutputs(logits, kernels, torch.zeros(1, 24, HEIGHT // 4, WIDTH // 4))
    model._say = lambda _: said  # type: ignore[method-assign]
    return model


def find(model: SOLOv2, threshold: float, limit: int) -> object:
    limits = Limits.of(threshold, limit)
    with torch.no_grad():
        outputs = model(torch.zeros(1, 3, HEIGHT, WIDTH), torch.tensor([[HEIGHT, WIDTH]]), limits)
    return model.decode(outputs, [Resized((HEIGHT, WIDTH), (HEIGHT, WIDTH))], limits)[0]


def lattice() -> Tensor:
    """Middles of 1,500 objects that nearly touch."""
    y, x = torch.meshgrid(torch.arange(30) * 30.0 + 21.3, torch.arange(50) * 25.0 + 14.6, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def test_1500_objects_are_found() -> None:
    model = saying(lattice(), 11.0, mask_iou=0.5)
    found = find(model, 0.3, 2000)
    assert len(found) == 1500
    assert not found.saturated
    assert (found.scores > 0.5).all()
    middle = (found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2
    nearest, which = torch.cdist(middle, lattice()).min(1)
    assert nearest.max() < 0.6
    assert len(set(which.tolist())) == 1500
    sides = found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]
    assert ((sides - 22).abs() < 1).all()
    areas = found.masks.areas_px()
    assert ((areas / (torch.pi * 121) - 0.95).abs() < 0.03).all()  # between cells a bowl is flatter


def test_fewer_are_asked_for_than_there_are() -> None:
    found = find(saying(lattice(), 11.0), 0.3, 700)
    assert len(found) == 700
    assert found.saturated


def test_a_second_mask_of_an_object_decays() -> None:
    twice = torch.tensor([[100.0, 100.0], [116.0, 116.0], [300.0, 300.0]])
    # the two cells say the same disc
    model = saying(twice, 20.0, torch.tensor([0.9, 0.8, 0.7]))
    said = model._say(torch.zeros(0))
    said.kernels[0][0, 24:28, 14, 14] = 0
    steep, shift = (32 / 20.0) ** 2, (torch.tensor([100.0, 100.0]) - 116) / 32
    said.kernels[0][0, 24:26, 14, 14], said.kernels[0][0, 26, 14, 14] = 2 * steep * shift, 1 - steep
    said.kernels[0][0, 27, 14, 14] = -steep * float(shift.square().sum())
    said.logits[0][0, :, 14, 14] = torch.tensor([1.4, -20.0])
    found = find(model, 0.05, 100)
    best, second, decayed = found.scores.tolist()
    assert len(found) == 3
    assert best > second > decayed
    assert decayed < 0.2


def test_a_mask_of_many_pixels_in_a_small_image_that_is_padded() -> None:
    """What lies beyond the image counts neither for the box nor for the score."""
    torch.manual_seed(0)
    model = solov2_lite(CLASSES).eval()
    image = scene(96)[0]
    limits = Limits.of(0.0, 20)
    batch = batch_of(image[:, :70, :90])
    changed = dataclasses.replace(batch, tensor=batch.tensor.clone())
    with torch.no_grad():
        first = model(batch.tensor, batch.sizes_hw, limits)
        said = model._say(changed.tensor)
        said.maps[:, :, 18:], said.maps[:, :, :, 23:] = 50.0, -50.0
        model._say = lambda _: said  # type: ignore[method-assign]
        second = model(changed.tensor, changed.sizes_hw, limits)
    for name in ("boxes_xyxy", "scores"):
        torch.testing.assert_close(first[name], second[name])


@pytest.mark.parametrize("reach", [64, 128])
def test_windows_show_what_the_whole_shows(reach: int) -> None:
    torch.manual_seed(0)
    model = solov2_lite(CLASSES).eval()
    maps, centres = torch.randn(24, 40, 60), torch.tensor([[60.0, 72.0], [124.0, 92.0]])
    kernels = torch.cat([torch.randn(2, 24) * 0.1, torch.zeros(2, PLACED), centres, torch.full((2, 1), 20.0)], 1)
    kernels[:, 26] = -3.0  # nothing far away
    size_hw, level = torch.tensor([160, 240]), torch.zeros(2, dtype=torch.int64)
    seen = []
    for one in (reach, None):
        model.levels = (dataclasses.replace(model.levels[0], reach_px=one),)
        seen.append(model._look(maps, kernels, centres, level, size_hw))
    for window, whole in zip(*seen, strict=True):
        torch.testing.assert_close(window, whole, atol=1e-4, rtol=1e-4)


def test_masks_are_trained_on_some_cells_of_a_crowded_level() -> None:
    """Which ones depends on the image's seed; classes are always learnt from all."""
    scenes = [scene(objects=4, seed=seed) for seed in (0, 1)]
    images, targets = batch_of(*(image for image, _ in scenes)), [target for _, target in scenes]

    def losses(seed: int, samples: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = solov2_lite(CLASSES, Settings(mask_samples=samples))
        return model.losses(images, [dataclasses.replace(target, seed=seed) for target in targets])

    every, again, few, same, others = (losses(*told) for told in ((1, 400), (2, 400), (1, 2), (1, 2), (2, 2)))
    for name, value in every.items():
        torch.testing.assert_close(value, again[name])
        torch.testing.assert_close(few[name], same[name])
    torch.testing.assert_close(every["class"], few["class"])
    torch.testing.assert_close(few["class"], others["class"])
    assert not torch.isclose(few["cross_entropy"], others["cross_entropy"], rtol=1e-4)
    assert not torch.isclose(few["cross_entropy"], every["cross_entropy"], rtol=1e-4)
