import math

import pytest

from halfpixel.errors import ArgumentError
from halfpixel.measure.pixel_size import agree


@pytest.mark.parametrize(
    ("given", "of_file", "um"), [(None, None, None), (0.5, None, 0.5), (None, 0.25, 0.25), (0.5, 0.25, 0.5)]
)
def test_what_is_given_goes_first(given: float | None, of_file: float | None, um: float | None) -> None:
    assert agree(given, of_file).um == um


def test_only_a_disagreement_is_warned_about() -> None:
    assert (
        agree(0.5, 0.5).warning
        == agree(0.5, 0.504).warning
        == agree(0.5, None).warning
        == agree(None, 0.5).warning
        == ""
    )
    for given in (0.506, 0.494):
        assert agree(given, 0.5).warning == (
            f"the pixel size given, {given} micrometres, is used; the file's metadata say 0.5"
        )


@pytest.mark.parametrize("size", [0.0199, 20.1, 500])
def test_an_unlikely_size_needs_force(size: float) -> None:
    with pytest.raises(ArgumentError, match=r"outside of 0.02 to 20; .* `force`"):
        agree(size, None)
    with pytest.raises(ArgumentError, match="the file's pixel size"):
        agree(None, size)
    assert agree(size, None, force=True) == agree(None, size, force=True) == (size, "")


def test_the_range_includes_its_ends() -> None:
    assert agree(0.02, None).um == 0.02
    assert agree(20, None).um == 20


@pytest.mark.parametrize("size", [0, -1, math.nan, math.inf])
def test_no_size_at_all_is_refused_even_with_force(size: float) -> None:
    with pytest.raises(ArgumentError, match="positive number"):
        agree(size, None, force=True)


@pytest.mark.parametrize("size", [1e-308, 1e-6, 1e13, 1e300])
def test_what_no_pixel_can_have_is_refused_even_with_force(size: float) -> None:
    with pytest.raises(ArgumentError, match="no size that a pixel can have"):
        agree(size, None, force=True)
