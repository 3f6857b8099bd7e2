"""What the network that finds sizes looks like from outside."""

import pytest
import torch

from halfpixel.nn.size_network import N_BINS, SizeNetwork, bin_diameters


def test_a_cell_is_eight_pixels_wide() -> None:
    logits = SizeNetwork()(torch.rand(2, 3, 40, 64))
    assert logits.shape == (2, 1 + N_BINS, 5, 8)
    assert bool(logits.isfinite().all())


def test_diameters_are_three_octaves() -> None:
    diameters = bin_diameters()
    assert (float(diameters[0]), float(diameters[4]), float(diameters[-1])) == pytest.approx((4, 8, 32))


def test_it_is_small_and_sees_no_farther_than_its_field() -> None:
    torch.manual_seed(0)
    network = SizeNetwork().eval()
    assert sum(one.numel() for one in network.parameters()) < 60_000
    images = torch.rand(1, 3, 128, 256)
    changed = images.clone()
    changed[..., 160:] = 0
    with torch.no_grad():
        one, other = network(images), network(changed)
    assert torch.equal(one[..., :14], other[..., :14])  # 48 pixels from there
    assert not torch.equal(one[..., 19], other[..., 19])


def test_normalisations_are_for_training() -> None:
    names = set(SizeNetwork().state_dict())
    assert names == {name for name in SizeNetwork(torch.nn.BatchNorm2d).state_dict() if ".norm." not in name} | {
        name for name in names if name.endswith(".bias")
    }
