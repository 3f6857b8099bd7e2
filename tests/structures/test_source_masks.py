"""Many masks together against one at a time."""

import dataclasses
import math

import pytest
import torch
from oracles.mask_extent import covers, pixel_centres, visible_extent
from oracles.mask_targets import mask_targets
from torch import Tensor

from halfpixel.ops import affine, crop_stacks
from halfpixel.ops.boxes import expand
from halfpixel.ops.paste import Alignment
from halfpixel.structures.source_masks import SourceMask, extents_of, grids_of

SOURCE_HW, FRAME_HW = (90, 110), (64, 80)

MAPS = {
    "larger": affine.scale(1 / 3, 1 / 3),
    "smaller, mirrored": affine.scale(-1.7, 1.4),
    "a quarter turn": affine.compose(affine.rotate(90), affine.scale(0.7, 0.7)),
    "turned": affine.compose(affine.rotate(25), affine.scale(0.6, 0.6)),
    "turned, smaller": affine.compose(affine.rotate(-100), affine.scale(1.3, 1.3)),
}


def looking(name: str) -> Tensor:
    """From the frame's middle to the image's."""
    return affine.compose(affine.shift(55, 45), MAPS[name], affine.shift(-40, -32))


def blobs(to_source: Tensor, seed: int, count: int = 25) -> list[SourceMask]:
    """Ellipses of 1 to 30 pixels with noise on them all over the image, and one mask without a pixel."""
    generator = torch.Generator().manual_seed(seed)
    masks = [SourceMask(torch.zeros(0, 4, dtype=torch.bool), (3, 5), SOURCE_HW, to_source)]
    for x, y, width, height in torch.rand(count, 4, generator=generator).tolist():
        height, width = 1 + int(30 * height**2), 1 + int(30 * width**2)
        rows, columns = ((torch.arange(side) + 0.5) / side - 0.5 for side in (height, width))
        crop = rows[:, None] ** 2 + columns**2 < 0.25
        crop &= torch.rand(height, width, generator=generator) < 0.95
        offset_xy = int(x * (SOURCE_HW[1] - width)), int(y * (SOURCE_HW[0] - height))
        masks.append(SourceMask(crop, offset_xy, SOURCE_HW, to_source))
    return masks


def scene(name: str) -> list[SourceMask]:
    """Every third mask hidden by one of another image, every sixth by two."""
    masks, others = blobs(looking(name), 0), blobs(affine.compose(looking("turned"), affine.shift(4, 7)), 1)
    for k in range(0, len(masks), 3):
        masks[k] = dataclasses.replace(masks[k], hidden_by=tuple(others[k : k + 1 + (k + 1) % 2]))
    return masks


def one_extent(mask: SourceMask) -> tuple[Tensor, float]:
    """Of the whole crop, each pixel in so many pieces that others' outlines are seen."""
    if mask.crop.numel() == 0:
        return torch.zeros(4, dtype=torch.float64), 0.0
    crop, to_crop = mask.crop, mask.to_crop
    if mask.hidden_by:
        pieces = math.ceil(affine.area_factor(to_crop) ** -0.5)
        crop = crop.repeat_interleave(pieces, 0).repeat_interleave(pieces, 1)
        to_crop = affine.compose(affine.scale(pieces, pieces), to_crop)
        points = affine.apply(affine.invert(to_crop), pixel_centres(crop))
        hidden = [covers(other.crop, affine.apply(other.to_crop, points)) for other in mask.hidden_by]
        crop[crop.clone()] = ~torch.stack(hidden).any(0)
    return visible_extent(crop, to_crop, FRAME_HW)


def one_grid(mask: SourceMask, region: Tensor, size: int, alignment: Alignment) -> Tensor:
    where = mask.offset_xy, region[None], mask.size_hw
    (found,) = mask_targets(mask.crop, *where, size, alignment, to_source=mask.to_source)
    for other in mask.hidden_by:
        found = found * (1 - one_grid(other, region, size, alignment))
    return found


@pytest.fixture(params=[1 << 20, 3000], ids=["together", "in several chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crop_stacks, "CELLS_AT_ONCE", request.param)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("name", MAPS)
def test_extents_are_those_of_one_at_a_time(name: str) -> None:
    masks = scene(name)
    boxes, areas = extents_of(masks, FRAME_HW)
    expected = [one_extent(mask) for mask in masks]
    torch.testing.assert_close(boxes, torch.stack([box for box, _ in expected]).float(), atol=1e-5, rtol=0)
    of_masks = torch.tensor([area for _, area in expected], dtype=torch.float64)
    torch.testing.assert_close(areas, of_masks, atol=1e-9, rtol=0)
    assert (areas == 0).any()  # the empty one, and others out of sight
    assert (areas > 0).sum() >= 5


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("alignment", ["half_pixel", "torchvision"])
@pytest.mark.parametrize("size", [7, 28])
@pytest.mark.parametrize("name", MAPS)
def test_grids_are_those_of_one_at_a_time(name: str, size: int, alignment: Alignment) -> None:
    masks = scene(name)
    seen = extents_of(masks, FRAME_HW)[0]
    regions = torch.cat([expand(seen, 0.2) + 0.37, seen.roll(1, 0) + 1.1])
    masks = masks + masks
    found = grids_of(masks, regions, size, alignment)
    expected = torch.stack([one_grid(*one, size, alignment) for one in zip(masks, regions, strict=True)])
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert expected.sum() > 100
    assert grids_of([], regions[:0], size, alignment).shape == (0, size, size)


def test_a_window_cuts_a_mask() -> None:
    mask = SourceMask(torch.ones(6, 8, dtype=torch.bool), (10, 20), SOURCE_HW, affine.shift(0, 0))
    cut = mask.within(slice(22, 90), slice(0, 13))
    assert (cut.crop.shape, cut.offset_xy) == ((4, 3), (10, 22))
    assert mask.within(slice(0, 20), slice(0, 90)).crop.numel() == 0
    assert mask.within(slice(26, 90), slice(0, 90)).crop.numel() == 0
