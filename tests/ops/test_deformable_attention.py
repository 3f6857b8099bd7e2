"""Deformable attention against a slow loop, in bags and on grids."""

import pytest
import torch
from oracles.deformable_attention import attend_slowly
from torch import Tensor

from halfpixel.ops import deformable_attention as module
from halfpixel.ops.deformable_attention import deformable_attention

SHAPES = [(5, 8), (3, 4), (1, 2)]


def given(images: int = 2, queries: int = 6, heads: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cells = sum(height * width for height, width in SHAPES)
    values = torch.randn(images, cells, heads, 4, generator=generator, dtype=torch.float64)
    locations = 1.6 * torch.rand(images, queries, heads, 3, 2, 2, generator=generator, dtype=torch.float64) - 0.3
    weights = torch.rand(images, queries, heads, 3, 2, generator=generator, dtype=torch.float64)
    return values, locations, weights


@pytest.fixture(params=["bags", "few bags at a time", "grids"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "grids":
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    elif request.param == "few bags at a time":
        monkeypatch.setattr(module, "CORNERS_AT_ONCE", 4 * 2 * 3 * 3 * 2 * 2 + 1)


@pytest.mark.usefixtures("way")
def test_every_query_gathers_what_the_loop_does() -> None:
    values, locations, weights = given()
    locations[0, 0, 0, 0] = torch.tensor([[0.0, 0.0], [1.0, 1.0]])  # corners: a quarter of them is there
    locations[0, 0, 1, 0] = torch.tensor([[9.0, -9.0], [1e9, 0.5]])  # far outside
    found = deformable_attention(values, SHAPES, locations, weights)
    assert found.shape == (2, 6, 12)
    for image in range(2):
        for query in range(6):
            expected = attend_slowly(values, SHAPES, locations, weights, image, query)
            torch.testing.assert_close(found[image, query], torch.tensor(expected, dtype=torch.float64))


def test_gradients_reach_values_places_and_weights() -> None:
    values, locations, weights = (one.requires_grad_() for one in given(queries=2, heads=2))
    assert torch.autograd.gradcheck(
        lambda *them: deformable_attention(them[0], SHAPES, them[1], them[2]), (values, locations, weights)
    )


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_place_shows(broken: float) -> None:
    values, locations, weights = given()
    locations[1, 3, 0, 1, 0, 0] = broken
    found = deformable_attention(values, SHAPES, locations, weights)
    assert found[1, 3, :4].isnan().all()
    assert found[0].isfinite().all()
    assert found[1, :3].isfinite().all()


def test_the_type_of_the_values_is_kept() -> None:
    values, locations, weights = given()
    half = deformable_attention(values.bfloat16(), SHAPES, locations.float(), weights.float())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(
        half.double(), deformable_attention(values, SHAPES, locations, weights), atol=0.06, rtol=0.02
    )
