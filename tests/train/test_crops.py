"""What a network is shown in training."""

import dataclasses
from pathlib import Path

import pytest
import torch
from test_loop import RECIPE, write_dataset
from torch import Tensor

from halfpixel.data.combine import combine_datasets
from halfpixel.data.dataset import Dataset
from halfpixel.data.formats.coco import read_coco
from halfpixel.data.images.prepare import normalise, to_float
from halfpixel.data.images.rgb8 import read_image
from halfpixel.errors import AnnotationError, ArgumentError
from halfpixel.structures.diameters import TrainedDiameters, equivalent_diameters, typical_diameter
from halfpixel.structures.images import InputRules
from halfpixel.structures.masks import CropMasks, SoftMasks
from halfpixel.structures.targets import Targets
from halfpixel.train.augment import crops
from halfpixel.train.augment.crops import Batches, random_crop
from halfpixel.train.object_sizes import KnownSizes

RULES = InputRules(scale=2.0)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return read_coco(write_dataset(tmp_path))


def test_a_run_can_be_taken_up_at_any_step(dataset: Dataset) -> None:
    whole = [Batches(dataset, RULES, RECIPE)[step] for step in range(5)]
    for first in (0, 2, 4):
        images, targets, samples = Batches(dataset, RULES, RECIPE)[first]
        assert torch.equal(images.tensor, whole[first][0].tensor)
        assert torch.equal(images.sizes_hw, whole[first][0].sizes_hw)
        assert [sample.image_id for sample in samples] == [sample.image_id for sample in whole[first][2]]
        for one, other in zip(targets, whole[first][1], strict=True):
            assert torch.equal(one.boxes_xyxy, other.boxes_xyxy)
            assert one.seed == other.seed
    assert not torch.equal(whole[0][0].tensor, whole[1][0].tensor)


def test_each_pass_shows_every_image_once_in_a_new_order(dataset: Dataset) -> None:
    recipe = dataclasses.replace(RECIPE, images_per_step=3)
    passes = [
        [s.image_id for s in samples] for _, _, samples in map(Batches(dataset, RULES, recipe).__getitem__, range(6))
    ]
    assert all(sorted(order) == [0, 1, 2] for order in passes)
    assert len({tuple(order) for order in passes}) > 2


def test_another_seed_shows_something_else(dataset: Dataset) -> None:
    tensors = [Batches(dataset, RULES, dataclasses.replace(RECIPE, seed=seed))[0][0].tensor for seed in (1, 2)]
    assert not torch.equal(tensors[0], tensors[1])


def painted(targets: Targets) -> Tensor:
    """Canvases `[n, h, w]` of what the targets' grids say."""
    grids = targets.mask_grids(torch.arange(len(targets)), targets.boxes_xyxy, 28)
    soft = SoftMasks(grids.unbind(), targets.boxes_xyxy, "half_pixel")
    return CropMasks.from_soft(soft, targets.size_hw).dense()


def assert_agree(image: Tensor, targets: Targets) -> int:
    """Objects are brighter than what is around them; how many there are."""
    assert targets.size_hw == tuple(image.shape[1:])
    boxes = targets.boxes_xyxy
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    dense = painted(targets)
    background = image.mean(0)[~dense.any(0) & (image != 0).any(0)]
    for mask in dense[dense.sum((1, 2)) > 20]:
        assert image.mean(0)[mask].mean() > background.mean() + 1.5
    return len(dense)


@pytest.mark.parametrize("copy_paste", [0.0, 1.0])
def test_pixels_and_annotations_agree_when_turned_and_pasted(dataset: Dataset, copy_paste: float) -> None:
    recipe = dataclasses.replace(RECIPE, photometric=0.0, rotation=40.0, copy_paste=copy_paste)
    plain = dataclasses.replace(recipe, copy_paste=0.0)
    seen, pasted = 0, 0
    for seed in range(12):
        shown = [
            random_crop(dataset.samples[0], RULES, one, torch.Generator().manual_seed(seed), dataset.samples[1:2])
            for one in (recipe, plain)
        ]
        seen += assert_agree(*shown[0])
        pasted += len(shown[0][1]) - len(shown[1][1])
        assert torch.equal(shown[0][0], shown[1][0]) == (len(shown[0][1]) == len(shown[1][1])) or copy_paste
    assert seen > 15
    assert (pasted > 5) == bool(copy_paste)


def test_rotation_mirror_and_quarter_turns_can_be_left_out(dataset: Dataset) -> None:
    """Then it is a plain crop of the resized image."""
    recipe = dataclasses.replace(RECIPE, zoom=(1.0, 1.0), photometric=0.0, mirror=False, quarter_turns=False)
    rules = InputRules(scale=1.0)
    whole = normalise(to_float(read_image(dataset.samples[0].path)), rules)
    recipe = dataclasses.replace(recipe, crop_px=24)
    for seed in range(5):
        image, targets = random_crop(dataset.samples[0], rules, recipe, torch.Generator().manual_seed(seed))
        places = whole.unfold(1, 24, 1).unfold(2, 24, 1)
        assert (places == image[:, None, None]).all(dim=(0, 3, 4)).sum() == 1
        assert_agree(image, targets)


def test_processes_share_a_batch(dataset: Dataset) -> None:
    recipe = dataclasses.replace(RECIPE, images_per_step=4, copy_paste=0.5, rotation=10.0)
    whole = Batches(dataset, RULES, recipe)[3]
    parts = [Batches(dataset, RULES, recipe, rank, 2)[3] for rank in range(2)]
    assert torch.equal(torch.cat([images.tensor for images, _, _ in parts]), whole[0].tensor)
    assert [t.seed for _, targets, _ in parts for t in targets] == [t.seed for t in whole[1]]
    assert len({t.seed for t in whole[1]}) == 4
    assert [s.image_id for _, _, samples in parts for s in samples] == [s.image_id for s in whole[2]]
    with pytest.raises(ArgumentError, match=r"images_per_step.*4.*3"):
        Batches(dataset, RULES, recipe, 0, 3)


def test_batches_are_padded_to_the_crop(dataset: Dataset) -> None:
    for crop_px, side in ((64, 64), (70, 96), (300, 320)):
        images, _, _ = Batches(dataset, RULES, dataclasses.replace(RECIPE, crop_px=crop_px))[0]
        assert images.tensor.shape == (2, 3, side, side)
        assert (images.sizes_hw <= crop_px).all()


def test_objects_are_pasted_from_images_of_the_same_kind(dataset: Dataset) -> None:
    kinds = ("dark", "bright", "dark")
    samples = tuple(
        dataclasses.replace(s, attributes={"kind": kind}) for s, kind in zip(dataset.samples, kinds, strict=True)
    )
    data = dataclasses.replace(dataset, samples=samples)
    recipe = dataclasses.replace(RECIPE, copy_paste=1.0)
    assert [s.image_id for s in crops._donors(data, samples[0], recipe)] == [1, 2]
    assert [s.image_id for s in crops._donors(data, samples[0], dataclasses.replace(recipe, balance="kind"))] == [2]
    assert not crops._donors(data, samples[0], RECIPE)


def test_pixels_and_annotations_agree(dataset: Dataset) -> None:
    """Objects are brighter than what is around them, whatever was cropped, turned, mirrored and scaled."""
    recipe = dataclasses.replace(RECIPE, photometric=0.0)
    seen = 0
    for seed in range(12):
        image, targets = random_crop(dataset.samples[0], RULES, recipe, torch.Generator().manual_seed(seed))
        assert image.shape[1] <= recipe.crop_px
        assert image.shape[2] <= recipe.crop_px
        seen += assert_agree(image, targets)
    assert seen > 15


def test_the_same_generator_the_same_crop(dataset: Dataset) -> None:
    shown = [random_crop(dataset.samples[0], RULES, RECIPE, torch.Generator().manual_seed(s))[0] for s in (3, 3)]
    assert torch.equal(*shown)


def test_images_are_shown_at_known_sizes(dataset: Dataset) -> None:
    """What is pasted, too: objects in crops are as large as the model is to see them, whatever they are in the file."""
    recipe = dataclasses.replace(RECIPE, zoom=(1, 1), crop_px=400, copy_paste=1.0)
    rules = dataclasses.replace(RULES, scale=4.0)
    wanted = TrainedDiameters(10.0, 10.0, 10.0)
    sizes = KnownSizes(dataset, rules, wanted, tolerance=1.1)
    for step in range(4):
        _, found, samples = Batches(dataset, rules, recipe, sizes=sizes)[step]
        for sample, targets in zip(samples, found, strict=True):
            assert sample.objects.masks is not None
            of_image = typical_diameter(equivalent_diameters(sample.objects.masks.areas_px().numpy()))
            factor = rules.scale if of_image is None else 10 / of_image
            assert factor is not None
            assert max(targets.size_hw) == pytest.approx(max(sample.size_hw) * factor, abs=1)
    assert sizes.scale(dataclasses.replace(dataset.samples[0], path=Path("unknown.png"))) is None


def test_a_small_image_is_shown_whole(dataset: Dataset) -> None:
    recipe = dataclasses.replace(RECIPE, crop_px=512, zoom=(1.0, 1.0), photometric=0.0)
    image, targets = random_crop(dataset.samples[1], RULES, recipe, torch.Generator().manual_seed(0))
    assert sorted(image.shape[1:]) == [80, 104]
    assert len(targets) == 3


def test_images_of_a_rare_kind_are_drawn_more_often(dataset: Dataset) -> None:
    kinds = [dataclasses.replace(dataset.samples[0], image_id=k, attributes={"kind": "abb"[k > 0]}) for k in range(5)]
    data = dataclasses.replace(dataset, samples=tuple(kinds))
    found = Batches(data, RULES, dataclasses.replace(RECIPE, balance="kind"))
    drawn = [found._sample(number).attributes["kind"] for number in range(3000)]
    # one of a and four of b: the square roots are 1 and 2
    assert drawn.count("a") / len(drawn) == pytest.approx(1 / 3, abs=0.03)
    with pytest.raises(AnnotationError, match="'colour'"):
        Batches(data, RULES, dataclasses.replace(RECIPE, balance="colour"))


def test_images_without_the_attribute_are_of_their_data_set_s_kind(dataset: Dataset, tmp_path: Path) -> None:
    """Two modalities of the first data set, and a second one that states none: three kinds."""
    for name in ("other", "third"):
        (tmp_path / name).mkdir()
    kinds = [{"modality": "dark"}, {"modality": "dark"}, {"modality": "bright"}]
    first = dataclasses.replace(
        dataset,
        samples=tuple(dataclasses.replace(s, attributes=kind) for s, kind in zip(dataset.samples, kinds, strict=True)),
    )
    data = combine_datasets([first, *(read_coco(write_dataset(tmp_path / name)) for name in ("other", "third"))])

    def weights(attribute: str) -> list[float]:
        return [float(w) for w in Batches(data, RULES, dataclasses.replace(RECIPE, balance=attribute)).weights]

    assert weights("modality") == pytest.approx([2**-0.5, 2**-0.5, 1, *[3**-0.5] * 6])
    assert weights("source") == pytest.approx([3**-0.5] * 9)
    recipe = dataclasses.replace(RECIPE, copy_paste=1.0, balance="modality")
    assert [s.image_id for s in crops._donors(data, data.samples[0], recipe)] == [2]
    assert [s.image_id for s in crops._donors(data, data.samples[4], recipe)] == [4, 6]
    with pytest.raises(AnnotationError, match="'source'"):
        Batches(dataset, RULES, dataclasses.replace(RECIPE, balance="source"))
