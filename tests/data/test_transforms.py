"""Augmentation against the same change applied to full canvases."""

import pytest
import torch
from networks import annotated
from torch import Tensor

from halfpixel.data import transforms
from halfpixel.data.transforms import SMALLEST_VISIBLE_PX, View
from halfpixel.structures.instances import Instances
from halfpixel.structures.masks import CropMasks

HEIGHT, WIDTH = 30, 44


def dense_masks(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    masks = []
    for _ in range(n):
        cx, cy, r = (torch.rand(3, generator=generator) * torch.tensor([WIDTH, HEIGHT, 6])).tolist()
        masks.append((x - cx) ** 2 / 2 + (y - cy) ** 2 < (r + 2.5) ** 2)
    return torch.stack(masks)


def view(seed: int = 0) -> View:
    image = torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(9) % 2
    return View(image, annotated(dense_masks(9, seed), labels), annotated(dense_masks(2, seed + 50), labels[:2]))


def dense(objects: Instances) -> Tensor:
    assert objects.masks is not None
    return objects.masks.dense()


def assert_tight(objects: Instances) -> None:
    torch.testing.assert_close(objects.boxes_xyxy, CropMasks.from_dense(dense(objects)).boxes_xyxy())


@pytest.mark.parametrize(
    ("left", "top", "height", "width"), [(0, 0, HEIGHT, WIDTH), (5, 3, 20, 21), (30, 10, 20, 14), (0, 29, 1, 44)]
)
def test_crop_against_slicing(left: int, top: int, height: int, width: int) -> None:
    before = view()
    after = transforms.crop(before, left, top, height, width)
    window = (slice(None), slice(top, top + height), slice(left, left + width))
    assert torch.equal(after.image, before.image[window])
    for one, other in ((before.objects, after.objects), (before.ignored, after.ignored)):
        cut = dense(one)[window]
        visible = cut.sum((1, 2)) >= SMALLEST_VISIBLE_PX
        assert torch.equal(dense(other), cut[visible])
        assert torch.equal(other.labels, one.labels[visible])
        assert other.size_hw == (height, width)
        assert_tight(other)


def test_crop_drops_what_is_outside_and_slivers() -> None:
    masks = torch.zeros(4, HEIGHT, WIDTH, dtype=torch.bool)
    masks[0, 2:5, 2:5] = True  # outside
    masks[1, 12:14, 9:13] = True  # six of its eight pixels are inside
    masks[2, 20:23, 7:11] = True  # a column of three pixels is inside
    masks[3, 20:24, 7:11] = True  # a column of four pixels is inside
    before = View(
        torch.zeros(3, HEIGHT, WIDTH),
        annotated(masks, torch.arange(4) % 2),
        annotated(masks[:0], torch.zeros(0).long()),
    )
    after = transforms.crop(before, 10, 10, 20, 20)
    assert after.objects.boxes_xyxy.tolist() == [[0, 2, 3, 4], [0, 10, 1, 14]]
    assert after.objects.labels.tolist() == [1, 1]


@pytest.mark.parametrize("turns", range(-1, 6))
@pytest.mark.parametrize("mirrored", [False, True])
def test_dihedral_against_dense_flips_and_turns(turns: int, mirrored: bool) -> None:
    before = view(1)
    after = transforms.dihedral(before, turns, mirrored)

    def turned(canvas: Tensor) -> Tensor:
        return torch.rot90(canvas.flip(2) if mirrored else canvas, turns, (1, 2))

    assert torch.equal(after.image, turned(before.image))
    for one, other in ((before.objects, after.objects), (before.ignored, after.ignored)):
        assert torch.equal(dense(other), turned(dense(one)))
        assert other.size_hw == tuple(after.image.shape[1:])
        assert torch.equal(other.labels, one.labels)
        assert_tight(other)


def test_dihedral_after_a_crop_sees_only_the_crop() -> None:
    cropped = transforms.crop(view(2), 11, 7, 18, 25)
    turned = transforms.dihedral(cropped, 1, True)
    assert torch.equal(dense(turned.objects), torch.rot90(dense(cropped.objects).flip(2), 1, (1, 2)))


@pytest.mark.parametrize("size_hw", [(60, 88), (45, 66), (15, 22), (31, 40)])
def test_resize_against_dense_interpolation(size_hw: tuple[int, int]) -> None:
    before = view(3)
    after = transforms.resize(before, size_hw)
    smooth = torch.nn.functional.interpolate(dense(before.objects)[None].float(), size=size_hw, mode="bilinear")[0]
    found = dense(after.objects)
    decided = (smooth - 0.5).abs() > 1e-4
    assert torch.equal(found[decided], (smooth > 0.5)[decided])
    assert found.any(dim=(1, 2)).all()
    assert after.image.shape == (3, *size_hw)
    assert after.objects.size_hw == after.ignored.size_hw == size_hw
    # boxes keep their fractions, and the pixels agree with them to a pixel
    factors = torch.tensor([size_hw[1] / WIDTH, size_hw[0] / HEIGHT]).repeat(2)
    torch.testing.assert_close(after.objects.boxes_xyxy, before.objects.boxes_xyxy * factors)
    tight = CropMasks.from_dense(found).boxes_xyxy()
    assert (tight - after.objects.boxes_xyxy).abs().max() <= 1.0 + max(factors.tolist()) / 2


def test_resize_to_the_same_size_changes_nothing() -> None:
    before = view(4)
    after = transforms.resize(before, (HEIGHT, WIDTH))
    torch.testing.assert_close(after.image, before.image)
    assert torch.equal(dense(after.objects), dense(before.objects))


def test_shrinking_is_antialiased() -> None:
    stripes = torch.zeros(3, HEIGHT, WIDTH)
    stripes[:, :, ::2] = 1
    small = transforms.resize(View(stripes, view().objects, view().ignored), (HEIGHT, WIDTH // 4)).image
    assert (small[..., 1:-1] - 0.5).abs().max() < 0.1


def image(dark: bool = False, grey: bool = False) -> Tensor:
    values = torch.rand(1 if grey else 3, 24, 24, generator=torch.Generator().manual_seed(5))
    return (values * 0.3 if dark else 0.6 + 0.4 * values).expand(3, -1, -1).clone()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_photometric_keeps_the_range_and_greyness(dark: bool, grey: bool) -> None:
    before = image(dark, grey)
    changed = 0
    for seed in range(30):
        after = transforms.photometric(before, torch.Generator().manual_seed(seed))
        assert after.shape == before.shape
        assert after.min() >= 0
        assert after.max() <= 1
        changed += int((after - before).abs().max() > 0.02)
        if grey:
            torch.testing.assert_close(after[0], after[2])
    assert changed > 25


def test_photometric_at_strength_zero_changes_nothing() -> None:
    for seed in range(10):
        before = image(seed % 2 == 0)
        after = transforms.photometric(before, torch.Generator().manual_seed(seed), strength=0.0)
        torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def test_photometric_follows_the_generator() -> None:
    results = [transforms.photometric(image(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_photometric_leaves_its_input_alone() -> None:
    before = image()
    copy = before.clone()
    transforms.photometric(before, torch.Generator().manual_seed(0))
    assert torch.equal(before, copy)
