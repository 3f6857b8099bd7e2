import json

import pytest
import torch

from halfpixel.errors import ArgumentError
from halfpixel.structures.field_check import from_plain
from halfpixel.structures.images import ImageBatch, InputRules, Limits

SIZES = [(3, 5), (32, 33), (64, 1)]


@pytest.mark.parametrize(("divisor", "padded_hw"), [(32, (64, 64)), (1, (64, 33)), (128, (128, 128)), (7, (70, 35))])
def test_images_stand_at_the_top_left_with_zeros_around(divisor: int, padded_hw: tuple[int, int]) -> None:
    images = [torch.rand(3, *size) + 1 for size in SIZES]
    batch = ImageBatch.pad(images, divisor)
    assert len(batch) == 3
    assert batch.tensor.shape == (3, 3, *padded_hw)
    assert batch.sizes_hw.tolist() == [list(size) for size in SIZES]
    for padded, image in zip(batch.tensor, images, strict=True):
        height, width = image.shape[1:]
        assert torch.equal(padded[:, :height, :width], image)
        assert padded.count_nonzero() == image.numel()


def test_a_size_that_fits_is_not_padded() -> None:
    image = torch.rand(3, 64, 96)
    assert torch.equal(ImageBatch.pad([image]).tensor, image[None])


def test_the_number_format_is_kept() -> None:
    assert ImageBatch.pad([torch.zeros(3, 4, 4, dtype=torch.float64)]).tensor.dtype == torch.float64


def test_padding_copies() -> None:
    image = torch.rand(3, 32, 32)
    batch = ImageBatch.pad([image])
    batch.tensor.zero_()
    assert image.any()


def test_limits_are_tensors() -> None:
    limits = Limits.of(0.5, 1000)
    assert limits.score_threshold.item() == 0.5
    assert limits.score_threshold.dtype == torch.float32
    assert limits.detections.item() == 1000
    assert limits.detections.dtype == torch.int64


def test_input_rules_default_to_torchvision_s() -> None:
    rules = InputRules()
    assert (rules.shortest_side, rules.longest_side, rules.divisor, rules.scale) == (800, 1333, 32, None)
    assert rules.mean == (0.485, 0.456, 0.406)
    assert rules.std == (0.229, 0.224, 0.225)


def test_older_versions_read_what_concerns_them() -> None:
    """A field that only some networks need is written for those alone."""
    plain = InputRules().to_plain()
    assert {"exact_hw", "stretch"} & set(plain) == set()
    assert from_plain(InputRules, plain) == InputRules()
    exact = InputRules(exact_hw=(64, 96), stretch=True)
    assert from_plain(InputRules, json.loads(json.dumps(exact.to_plain()))) == exact
    for wrong in ((0, 64), (64,), (64, 1 << 20), "ab"):
        with pytest.raises(ArgumentError, match="exact_hw"):
            from_plain(InputRules, {"exact_hw": wrong})
