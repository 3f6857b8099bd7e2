"""Light and stain: in range, reproducible, and nothing at strength zero."""

import pytest
import torch
from torch import Tensor

from halfpixel.train.augment.photometric import _restain, photometric


def image(dark: bool = False, grey: bool = False) -> Tensor:
    values = torch.rand(1 if grey else 3, 24, 24, generator=torch.Generator().manual_seed(5))
    return (values * 0.3 if dark else 0.6 + 0.4 * values).expand(3, -1, -1).clone()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_photometric_keeps_the_range_and_greyness(dark: bool, grey: bool) -> None:
    before = image(dark, grey)
    changed = 0
    for seed in range(30):
        after = photometric(before, torch.Generator().manual_seed(seed))
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
        after = photometric(before, torch.Generator().manual_seed(seed), strength=0.0)
        torch.testing.assert_close(after, before, atol=1e-6, rtol=0)


def test_photometric_follows_the_generator() -> None:
    results = [photometric(image(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_photometric_leaves_its_input_alone() -> None:
    before = image()
    copy = before.clone()
    photometric(before, torch.Generator().manual_seed(0))
    assert torch.equal(before, copy)


def test_stain_is_a_change_of_absorbance() -> None:
    before = image().clamp(min=0.1)
    nothing = torch.zeros(3), torch.zeros(3, 3)
    torch.testing.assert_close(_restain(before, *nothing), before)
    twice_as_much = torch.full((3,), 2.0).log()
    torch.testing.assert_close(_restain(before, twice_as_much, nothing[1]), before**2)
    # what absorbs in the first channel alone begins to absorb in the second
    pure = before.clone()
    pure[1:] = 1
    mixing = torch.zeros(3, 3)
    mixing[1, 0] = 0.5
    mixed = _restain(pure, nothing[0], mixing)
    torch.testing.assert_close(mixed, torch.stack([pure[0], pure[0].sqrt(), pure[2]]))
    white = torch.ones(3, 4, 4)
    assert torch.equal(_restain(white, twice_as_much, mixing), white)
