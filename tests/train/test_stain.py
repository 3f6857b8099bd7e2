"""Fluorescence as a stained section: Beer and Lambert, objects where they were, and nothing but fluorescence."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from halfpixel.data.dataset import Sample, annotated_sample
from halfpixel.data.images.prepare import to_float
from halfpixel.data.synthetic import Cells, touching_cells
from halfpixel.structures.images import InputRules
from halfpixel.train.augment.crops import random_crop
from halfpixel.train.augment.stain import DAB, EOSIN, HAEMATOXYLIN, absorbed, draw_stain, is_fluorescence, stained
from halfpixel.train.augment.texture import clouds, fibres
from halfpixel.train.augment.tissue import clutter, tissue
from halfpixel.train.recipe import Recipe

RULES = InputRules(scale=2.0, mean=(0, 0, 0), std=(1, 1, 1))
PLAIN = Recipe(crop_px=160, photometric=0.0)
STAINED = dataclasses.replace(PLAIN, stain=1.0)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def cells() -> Cells:
    return touching_cells((96, 112), 14, seed=3)


def as_sample(cells: Cells, path: Path, bright: bool = False) -> Sample:
    picture = 255 - cells.picture if bright else cells.picture
    Image.fromarray(picture).save(path)
    assert cells.objects.masks is not None
    return annotated_sample(1, path, cells.objects.masks, cells.objects.labels.tolist(), ("nucleus",))


def rendered(cells: Cells, seed: int) -> tuple[Tensor, Tensor]:
    assert cells.objects.masks is not None
    labels, generator = cells.objects.masks.label_image(), drawn(seed)
    return stained(to_float(cells.picture), labels, draw_stain(generator), generator), labels


def test_absorbances_add_up() -> None:
    """Against a slow version, pixel by pixel and dye by dye."""
    amounts, dyes = torch.rand(3, 4, 5, generator=drawn(0)), torch.tensor([HAEMATOXYLIN, EOSIN, DAB])
    light = 0.5 + 0.5 * torch.rand(3, 4, 5, generator=drawn(1))
    found = absorbed(amounts, dyes, light)
    for y in range(4):
        for x in range(5):
            for channel in range(3):
                passed = float(light[channel, y, x])
                for k in range(3):
                    passed *= 10 ** -(float(amounts[k, y, x]) * float(dyes[k, channel]))
                assert float(found[channel, y, x]) == pytest.approx(passed, rel=1e-5)
    assert torch.equal(absorbed(torch.zeros(3, 4, 5), dyes, light), light)


def test_the_measured_dyes() -> None:
    """Haematoxylin is blue, eosin pink, DAB brown; each vector has length 1 to the published digits."""
    units = torch.stack([torch.eye(3)[:, k, None, None].expand(3, 1, 1) for k in range(3)])
    light = torch.ones(3, 1, 1)
    colours = [absorbed(one, torch.tensor([HAEMATOXYLIN, EOSIN, DAB]), light).ravel() for one in units]
    assert [int(colour.argmax()) for colour in colours] == [2, 0, 0]
    assert [int(colour.argmin()) for colour in colours] == [1, 1, 2]
    for dye in (HAEMATOXYLIN, EOSIN, DAB):
        assert torch.tensor(dye).norm() == pytest.approx(1, abs=0.01)


def test_stains_vary_around_the_measured_dyes() -> None:
    stains = [draw_stain(drawn(seed)) for seed in range(200)]
    dyes = torch.stack([stain.dyes for stain in stains])
    torch.testing.assert_close(dyes.norm(dim=2), torch.ones(200, 5))
    assert (dyes > 0).all()
    brown = torch.tensor([stain.other > 0 for stain in stains])
    assert 30 < brown.sum() < 70  # one way of four
    assert (dyes[brown, 1] @ torch.tensor(DAB) > 0.95).all()
    assert dyes[:, 0].std(0).min() > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_the_same_generator_the_same_picture(cells: Cells, seed: int) -> None:
    first, again, other = (rendered(cells, k)[0] for k in (seed, seed, seed + 100))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (3, 96, 112)
    assert first.min() >= 0
    assert first.max() <= 1


def test_objects_absorb_and_the_picture_is_bright(cells: Cells) -> None:
    darker, colourful, bright = 0, 0, 0
    for seed in range(40):
        picture, labels = rendered(cells, seed)
        darker += bool(picture[:, labels > 0].mean() < picture[:, labels == 0].mean() - 0.05)
        colourful += bool((picture.amax(0) - picture.amin(0)).mean() > 0.03)
        bright += bool(picture.mean() > 0.5)
    assert darker >= 36
    assert colourful == 40
    assert bright >= 32


def test_how_bright_an_object_was_does_not_tell_how_much_dye_it_takes() -> None:
    labels = torch.zeros(120, 120, dtype=torch.int64)
    for k in range(36):
        y, x = 20 * (k // 6) + 4, 20 * (k % 6) + 4
        labels[y : y + 12, x : x + 12] = k + 1
    was = torch.cat([torch.tensor([0.05]), torch.linspace(0.2, 0.9, 36)])
    image, correlations = was[labels].expand(3, -1, -1), []
    for seed in range(10):
        generator = drawn(seed)
        picture = stained(image, labels, draw_stain(generator), generator).mean(0)
        taken = torch.stack([picture[labels == k].mean() for k in range(1, 37)])
        correlations.append(torch.corrcoef(torch.stack([taken, was[1:]]))[0, 1])
    assert abs(float(torch.stack(correlations).mean())) < 0.2


def test_chromatin_is_kept(cells: Cells) -> None:
    """Within an object what was brighter is darker."""
    correlations = []
    for seed in range(10):
        picture, labels = rendered(cells, seed)
        for k in range(1, int(labels.max()) + 1):
            inside = labels == k
            both = torch.stack([picture.mean(0)[inside], to_float(cells.picture)[0][inside]])
            correlations.append(torch.corrcoef(both)[0, 1])
    assert torch.stack(correlations).nanmean() < -0.3


@pytest.mark.parametrize(
    ("labels", "light"),
    [
        (torch.zeros(40, 30, dtype=torch.int32), 0.1),
        (torch.ones(40, 30, dtype=torch.int32), 0.1),
        (torch.ones(1, 1, dtype=torch.int32), 0.0),
        (torch.eye(2, 3, dtype=torch.int32), 0.4),
        (torch.arange(12, dtype=torch.int32).reshape(3, 4), 0.0),
    ],
)
def test_pictures_with_nothing_or_nothing_else(labels: Tensor, light: float) -> None:
    for seed in range(6):
        generator = drawn(seed)
        image = torch.full((3, *labels.shape), light)
        picture = stained(image, labels, draw_stain(generator), generator)
        assert picture.shape == image.shape
        assert picture.isfinite().all()


def test_only_dark_grey_images_are_fluorescence() -> None:
    grey = torch.rand(1, 5, 5, generator=drawn(0)).expand(3, -1, -1)
    assert is_fluorescence(grey, 0.2)
    assert not is_fluorescence(grey, 0.7)
    coloured = grey.clone()
    coloured[1, 2, 2] += 0.01
    assert not is_fluorescence(coloured, 0.2)


def test_nothing_lies_on_objects(cells: Cells) -> None:
    distance = torch.zeros(60, 70)
    distance[:, 30:] = 50.0
    things = clutter(distance, 8.0, drawn(0))
    assert not torch.stack([things.bodies, things.blood, things.patches, things.faint])[..., :30].any()
    assert (things.kept[:, :30] == 1).all()
    drawings = [clutter(torch.full((90, 90), 50.0), 8.0, drawn(seed)) for seed in range(30)]
    for name in things._fields:
        assert any(getattr(one, name).std() > 0 for one in drawings), name


def test_tissue_has_gaps_away_from_objects() -> None:
    distance = torch.full((200, 200), 100.0)
    distance[90:110, 90:110] = 0
    shares = [float((tissue(distance, 10.0, gaps, drawn(5)) < 0.3).float().mean()) for gaps in (0.0, 0.3, 0.6)]
    assert shares[0] < 0.02
    assert shares[1] == pytest.approx(0.3, abs=0.12)
    assert shares[2] == pytest.approx(0.6, abs=0.12)
    assert (tissue(distance, 10.0, 0.6, drawn(5))[95:105, 95:105] > 0.3).all()


def test_textures_are_of_one_size() -> None:
    for grain in (0.3, 4.0, 17.5):
        many = torch.stack([clouds((40, 60), grain, drawn(seed)) for seed in range(60)])
        assert many.mean() == pytest.approx(0, abs=0.15)
        assert many.std() == pytest.approx(1, abs=0.1)
    # neighbours are alike over a grain, and not beyond it
    fine = torch.stack([clouds((64, 64), 8.0, drawn(seed)) for seed in range(60)]).flatten(0, 1)
    near, far = (float((fine[:, :-step] * fine[:, step:]).mean()) for step in (2, 32))
    assert near > 0.8
    assert abs(far) < 0.1
    # lines run along their direction
    lines = fibres(4.0, 10.0, 0.0, torch.zeros(2, 80, 80), drawn(1))
    assert (lines[:, 4:] - lines[:, :-4]).abs().mean() < 0.5 * (lines[4:] - lines[:-4]).abs().mean()


def test_crops_are_stained_and_targets_stay(cells: Cells, tmp_path: Path) -> None:
    sample = as_sample(cells, tmp_path / "dark.png")
    for seed in range(5):
        plain, targets = random_crop(sample, RULES, PLAIN, drawn(seed))
        section, same = random_crop(sample, RULES, STAINED, drawn(seed))
        assert torch.equal(targets.boxes_xyxy, same.boxes_xyxy)
        assert torch.equal(targets.labels, same.labels)
        every = torch.arange(len(targets))
        grids = [one.mask_grids(every, one.boxes_xyxy, 28) for one in (targets, same)]
        assert torch.equal(*grids)
        assert plain.shape == section.shape
        assert section.mean() > plain.mean() + 0.2
        assert torch.equal(section, random_crop(sample, RULES, STAINED, drawn(seed))[0])


def test_bright_images_and_probability_zero_are_untouched(cells: Cells, tmp_path: Path) -> None:
    dark, bright = as_sample(cells, tmp_path / "dark.png"), as_sample(cells, tmp_path / "bright.png", bright=True)
    for seed in range(5):
        assert torch.equal(*(random_crop(bright, RULES, one, drawn(seed))[0] for one in (PLAIN, STAINED)))
        generators = drawn(seed), drawn(seed)
        # with the default nothing is drawn: crops of earlier versions stay what they were
        shown = [
            random_crop(dark, RULES, one, g) for one, g in zip((Recipe(), Recipe(stain=0.0)), generators, strict=True)
        ]
        assert torch.equal(shown[0][0], shown[1][0])
        assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_a_share_of_the_crops(cells: Cells, tmp_path: Path) -> None:
    sample, recipe = as_sample(cells, tmp_path / "dark.png"), dataclasses.replace(PLAIN, crop_px=32, stain=0.25)
    bright = sum(bool(random_crop(sample, RULES, recipe, drawn(seed))[0].mean() > 0.45) for seed in range(200))
    assert bright / 200 == pytest.approx(0.25, abs=0.1)


def test_what_is_pasted_has_the_crop_s_stain(cells: Cells, tmp_path: Path) -> None:
    """Of dark objects on a dark image none stays bright in a stained crop."""
    sample = as_sample(cells, tmp_path / "dark.png")
    donor = as_sample(touching_cells((96, 112), 30, seed=8), tmp_path / "donor.png")
    recipe = dataclasses.replace(STAINED, copy_paste=1.0, mirror=False, quarter_turns=False, zoom=(1.0, 1.0))
    pasted = 0
    for seed in range(8):
        picture, targets = random_crop(sample, RULES, recipe, drawn(seed), [donor])
        _, own = random_crop(sample, RULES, STAINED, drawn(seed))
        pasted += len(targets) > len(own)
        seen = targets.label_map() > 0
        assert picture[:, seen].mean() < picture[:, ~seen].mean()
    assert pasted >= 4


def test_large_images_are_stained_as_they_are_reduced(cells: Cells, tmp_path: Path) -> None:
    sample = as_sample(cells, tmp_path / "dark.png")
    picture, targets = random_crop(sample, InputRules(scale=0.5, mean=(0, 0, 0), std=(1, 1, 1)), STAINED, drawn(2))
    assert picture.shape[1:] == targets.size_hw
    seen = targets.label_map() > 0
    assert picture[:, seen].mean() < picture[:, ~seen].mean()
