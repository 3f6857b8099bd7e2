"""How many candidates are looked at."""

import pytest
import torch

from halfpixel.nn.candidates import candidates_in


@pytest.mark.parametrize(
    ("sides", "expected"),
    [((800, 1344), 250), ((32, 64), 250), ((1600, 1344), 400), ((1600, 2688), 800), ((1024, 1344), 256)],
)
def test_a_larger_input_has_more_in_proportion_to_its_area(sides: tuple[int, int], expected: int) -> None:
    for images in (1, 3):
        assert candidates_in(torch.empty(images, 3, *sides, device="meta"), 250, 200, (800, 1344)) == expected
