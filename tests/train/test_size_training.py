"""Teaching a network how large objects are."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_loop import write_dataset
from torch import nn

from halfpixel.data.dataset import Dataset, annotated_sample
from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.rgb8 import read_image
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.size_finder import SizeFinder
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.nn.size_network import CELL_PX, N_BINS, SizeNetwork, bin_diameters
from halfpixel.outputs.synthetic_cells import write_cells
from halfpixel.structures.diameters import SizeFinderInfo, equivalent_diameters, typical_diameter
from halfpixel.structures.masks import CropMasks
from halfpixel.train import size_training
from halfpixel.train.size_training import SizeRecipe, cell_shares, size_loss, train_size_network, without_norms

FEW = SizeRecipe(steps=2, crops=2)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_dataset(tmp_path))


def shares_one_by_one(octaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What covers the cells of one image, pixel by pixel."""
    rows, columns = (side // CELL_PX for side in octaves.shape)
    shares, known = np.zeros((1 + N_BINS, rows, columns)), np.zeros((rows, columns))
    centres = np.log2(bin_diameters().double().numpy())
    for (y, x), octave in np.ndenumerate(octaves):
        cell = y // CELL_PX, x // CELL_PX
        if np.isnan(octave):
            continue
        known[cell] += 1
        if not centres[0] - 1 / 8 <= octave <= centres[-1] + 1 / 8:
            shares[(0, *cell)] += 1
            continue
        for k, centre in enumerate(centres):
            inside = min(max(octave, centres[0]), centres[-1])
            shares[(1 + k, *cell)] += max(0, 1 - 4 * abs(inside - centre))
    return shares / np.maximum(known, 1e-6), known / CELL_PX**2


def test_shares_of_cells() -> None:
    rng = np.random.default_rng(0)
    octaves = np.full((2, 24, 32), -np.inf, dtype=np.float32)
    for _ in range(40):
        k, y, x = rng.integers(0, (2, 24, 32))
        octaves[k, y : y + rng.integers(2, 9), x : x + rng.integers(2, 9)] = rng.choice(
            [math.nan, *rng.uniform(1.5, 5.5, 8)]
        )
    shares, known = cell_shares(torch.from_numpy(octaves))
    for k in range(2):
        expected, expected_known = shares_one_by_one(octaves[k])
        np.testing.assert_allclose(known[k], expected_known, atol=1e-6)
        np.testing.assert_allclose(shares[k], expected, atol=1e-5)
    assert 0 < float(known.min()) < 1


def test_what_is_not_known_teaches_nothing() -> None:
    logits = torch.zeros(1, 1 + N_BINS, 1, 2)
    targets = torch.zeros_like(logits)
    targets[:, 3] = 1
    known = torch.tensor([[[1.0, 0.0]]])
    assert float(size_loss(logits, targets, known)) == pytest.approx(math.log(1 + N_BINS))
    logits[..., 0, 1] = torch.randn(1 + N_BINS)
    assert float(size_loss(logits, targets, known)) == pytest.approx(math.log(1 + N_BINS))


def test_objects_are_where_they_are_in_the_crop(tmp_path: Path) -> None:
    """Bright discs on black: wherever a crop is much covered it is bright, at every size."""
    y, x = np.mgrid[:96, :128]
    discs = np.stack([(y - b) ** 2 + (x - a) ** 2 <= 15**2 for a, b in ((30, 30), (95, 60))])
    picture = np.repeat((discs.any(0) * 200).astype(np.uint8)[..., None], 3, axis=2)
    from PIL import Image

    Image.fromarray(picture).save(tmp_path / "discs.png")
    masks = CropMasks.from_dense(torch.from_numpy(discs))
    sample = annotated_sample(1, tmp_path / "discs.png", masks, [0, 0], ("disc",))
    scene = size_training._Scene.of(sample, 0.0)
    assert float(scene.octaves.max()) == pytest.approx(math.log2(float(equivalent_diameters([discs[0].sum()])[0])))
    correlations, enlarged = [], []
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        image, octaves = size_training._random_crop(scene, generator)
        assert image.shape == (3, 128, 128)
        covered = octaves.isfinite()
        if 0.02 < float(covered.float().mean()) < 0.98:
            inside, outside = image[:, covered].mean(), image[:, ~covered].mean()
            correlations.append(float(inside - outside))
            enlarged.append(float(octaves.max()) - float(scene.octaves.max()))
    assert len(correlations) > 20
    assert min(correlations) > 0.2
    assert min(enlarged) < -1
    assert max(enlarged) > 1


def test_folded_it_computes_the_same() -> None:
    torch.manual_seed(0)
    network = SizeNetwork(nn.BatchNorm2d)
    images = torch.rand(4, 3, 64, 64)
    for _ in range(5):
        network(images)  # statistics of their own
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    with torch.no_grad():
        expected, found = network.eval()(images), without_norms(network)(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_same_again(dataset: Dataset) -> None:
    torch.set_num_threads(1)
    told: list[tuple[int, float]] = []
    one = train_size_network(dataset, FEW, lambda step, loss: told.append((step, loss)))
    again = train_size_network(dataset, FEW)
    other = train_size_network(dataset, dataclasses.replace(FEW, seed=1))
    assert [step for step, _ in told] == [1, 2]
    assert not one.training
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values(), strict=True))
    assert not torch.equal(one.logits.weight, other.logits.weight)


def test_nothing_to_learn_from(dataset: Dataset) -> None:
    with pytest.raises(AnnotationError, match="there are no images to learn sizes from"):
        train_size_network(dataclasses.replace(dataset, samples=()), FEW)
    with pytest.raises(AnnotationError, match="no image has the attribute 'stain' to balance by"):
        train_size_network(dataset, dataclasses.replace(FEW, balance="stain"))
    with pytest.raises(ArgumentError, match="steps"):
        SizeRecipe(steps=0)


@pytest.mark.slow
def test_it_learns_the_sizes_of_generated_cells(tmp_path: Path) -> None:
    pictures = [touching_cells((144, 192), 8 + seed, touching=0.5, seed=seed) for seed in range(8)]
    dataset = read_coco(write_cells(tmp_path / "cells", pictures))
    network = train_size_network(dataset, SizeRecipe(steps=400, crops=8))
    finder = SizeFinder(network, SizeFinderInfo(0.3))
    errors = []
    for sample in dataset.samples:
        assert sample.objects.masks is not None
        true = typical_diameter(equivalent_diameters(sample.objects.masks.areas_px()))
        found = finder.diameter_px(read_image(sample.path))
        assert true is not None
        assert found is not None
        errors.append(abs(math.log2(found / true)))
    assert np.median(errors) < 0.3
