"""One image through one map, against slicing, turning, resizing and scikit-image."""

import numpy as np
import pytest
import torch
from skimage.transform import AffineTransform, warp
from torch import Tensor

from halfpixel.ops import affine
from halfpixel.train.augment.warp import resample, shrink

HEIGHT, WIDTH = 30, 44


def image(seed: int = 0) -> Tensor:
    return torch.rand(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def smooth() -> Tensor:
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    return torch.stack([(x / 9).sin() + (y / 7).cos(), x / WIDTH, (x * y).sqrt() / 20])


def seen(picture: Tensor, to_source: Tensor, frame_hw: tuple[int, int]) -> Tensor:
    """All steps, as a caller takes them."""
    rows, columns = affine.source_window(to_source, frame_hw, (picture.shape[1], picture.shape[2]))
    start = affine.shift(-columns.start, -rows.start)
    return resample(*shrink(picture[:, rows, columns], affine.compose(start, to_source)), frame_hw)


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (5, 3), (-4, 2), (30, -20), (40, 28), (-39, 0)])
def test_whole_pixels_are_copied_exactly(dx: int, dy: int) -> None:
    padded = torch.nn.functional.pad(image(), (60, 60, 60, 60))
    frame_hw = (21, 40)
    expected = padded[:, 60 + dy : 60 + dy + 21, 60 + dx : 60 + dx + 40]
    assert torch.equal(seen(image(), affine.shift(dx, dy), frame_hw), expected)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_mirrors_and_quarter_turns(turns: int, mirrored: bool) -> None:
    frame_hw = (WIDTH, HEIGHT) if turns % 2 else (HEIGHT, WIDTH)
    to_source = affine.compose(
        affine.shift(WIDTH / 2, HEIGHT / 2),
        affine.scale(-1 if mirrored else 1, 1),
        affine.rotate(90 * turns),
        affine.shift(-frame_hw[1] / 2, -frame_hw[0] / 2),
    )
    expected = torch.rot90(image().flip(2) if mirrored else image(), turns, (1, 2))
    torch.testing.assert_close(seen(image(), to_source, frame_hw), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size_hw", [(60, 88), (45, 66), (31, 40), (15, 22), (7, 11)])
def test_the_whole_image_resized(size_hw: tuple[int, int]) -> None:
    found = seen(image(), affine.scale(WIDTH / size_hw[1], HEIGHT / size_hw[0]), size_hw)
    expected = torch.nn.functional.interpolate(image()[None], size=size_hw, mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_crop_enlarged_knows_the_pixels_around_it() -> None:
    whole = torch.nn.functional.interpolate(image()[None], scale_factor=3, mode="bilinear")[0]
    to_source = affine.compose(affine.shift(10, 5), affine.scale(1 / 3, 1 / 3))
    torch.testing.assert_close(seen(image(), to_source, (33, 48)), whole[:, 15:48, 30:78], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("angle", "zoom"), [(30, 1.0), (-77, 1.6), (200, 1.0)])
def test_against_scikit_image(angle: float, zoom: float) -> None:
    frame_hw = (26, 35)
    to_source = affine.compose(
        affine.shift(20, 13), affine.rotate(angle), affine.scale(1 / zoom, 1 / zoom), affine.shift(-17.5, -13)
    )
    found = seen(smooth(), to_source, frame_hw)
    # scikit-image counts from the first pixel's centre
    centred = affine.compose(affine.shift(-0.5, -0.5), to_source, affine.shift(0.5, 0.5)).numpy()
    matrix = AffineTransform(matrix=np.vstack([centred, [0, 0, 1]]))
    for ours, channel in zip(found, smooth(), strict=True):
        theirs = torch.from_numpy(warp(channel.numpy(), matrix, output_shape=frame_hw, order=1, cval=np.nan))
        known = theirs.isfinite()
        assert known.float().mean() > 0.5
        torch.testing.assert_close(ours[known], theirs[known].float(), atol=1e-4, rtol=0)


def test_nothing_is_seen_outside_of_the_image() -> None:
    to_source = affine.compose(affine.shift(20, 13), affine.rotate(45), affine.shift(-40, -40))
    found = seen(image() + 1, to_source, (80, 80))
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    points = affine.apply(to_source, torch.stack([x, y], -1))
    inside = ((points >= 0) & (points <= torch.tensor([WIDTH, HEIGHT]))).all(-1)
    assert (found[:, ~inside] == 0).all()
    assert (found[:, inside] >= 1).all()
    assert inside.any()
    assert not inside.all()


@pytest.mark.parametrize("angle", [0, 90, 30])
def test_shrinking_is_antialiased(angle: float) -> None:
    stripes = torch.zeros(3, 64, 64)
    stripes[:, :, ::2] = 1
    to_source = affine.compose(affine.shift(32, 32), affine.rotate(angle), affine.scale(4, 4), affine.shift(-6, -6))
    assert (seen(stripes, to_source, (12, 12))[:, 3:-3, 3:-3] - 0.5).abs().max() < 0.1


def test_only_the_window_is_touched() -> None:
    huge = torch.full((1, 1, 1), torch.nan).expand(1, 30_000, 30_000)  # one number in memory
    rows, columns = affine.source_window(affine.shift(20_000.5, 7_000.25), (8, 9), (30_000, 30_000))
    assert (rows.stop - rows.start, columns.stop - columns.start) == (9, 10)
    assert huge[:, rows, columns].shape == (1, 9, 10)
