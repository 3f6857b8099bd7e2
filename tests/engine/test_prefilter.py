"""Where a first pass lets the network look."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from halfpixel import load, open_backend
from halfpixel.data.synthetic import touching_cells
from halfpixel.engine.predictor import Predictor
from halfpixel.engine.prefilter import AROUND, CELL_PX, Prefilter, regions_of
from halfpixel.engine.tiles import Box
from halfpixel.errors import ArgumentError
from halfpixel.models.unet import unet_lite
from halfpixel.structures.images import InputRules
from halfpixel.structures.instances import Instances
from halfpixel.zoo.modelfile import ModelInfo

NOTHING = Instances((1, 1), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), ("a",))


class Painted(Prefilter):
    """Takes brightness for what the U-Net would say."""

    def __init__(self) -> None:
        super().__init__(unet_lite(("a",)), ModelInfo("unet_lite", ("a",), InputRules()), torch.device("cpu"))

    def foreground(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        height, width = (max(round(side / 2), 1) for side in pixels.shape[:2])
        image = torch.from_numpy(pixels[..., 0].astype(np.float32) / 255)[None, None]
        return torch.nn.functional.interpolate(image, (height, width), mode="area")[0, 0]


def field(size_hw: tuple[int, int], *points_xy: tuple[int, int]) -> npt.NDArray[np.uint8]:
    picture = np.zeros((*size_hw, 3), np.uint8)
    for x, y in points_xy:
        picture[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = 255
    return picture


@pytest.mark.parametrize("size_hw", [(2000, 3000), (1999, 3001), (1985, 2975)])
def test_all_that_was_seen_lies_well_inside_of_a_region(size_hw: tuple[int, int]) -> None:
    rng = np.random.default_rng(size_hw[1])
    points = [(int(rng.integers(size_hw[1])), int(rng.integers(size_hw[0]))) for _ in range(6)]
    points += [(0, 0), (size_hw[1] - 1, size_hw[0] - 1)]
    looked: list[Sequence[Box]] = []

    def network(regions: Sequence[Box]) -> Instances:
        looked.append(regions)
        return NOTHING

    _, passed = Painted().look(field(size_hw, *points), network)
    assert passed is not None
    assert passed.regions_xyxy == tuple(looked[0])
    assert passed.area_px < 0.5 * size_hw[0] * size_hw[1]
    around = AROUND * CELL_PX
    for x, y in points:
        low = max(x - around, 0), max(y - around, 0)
        high = min(x + around, size_hw[1]), min(y + around, size_hw[0])
        assert any(r[0] <= low[0] and r[1] <= low[1] and r[2] >= high[0] and r[3] >= high[1] for r in looked[0])
    covered = np.zeros(size_hw, np.uint8)
    for x0, y0, x1, y1 in looked[0]:
        assert 0 <= x0 < x1 <= size_hw[1]
        assert 0 <= y0 < y1 <= size_hw[0]
        covered[y0:y1, x0:x1] += 1
    assert covered.max() == 1


def test_boxes_that_overlap_are_joined() -> None:
    something = torch.zeros(500, 500, dtype=torch.bool)
    something[20, 20:300] = something[20:300, 20] = True  # an angle: its box holds the speck within
    something[150, 150] = True
    assert len(regions_of(something, (1000, 1000))) == 1


def test_where_too_much_was_seen_nothing_is_decided() -> None:
    objects, passed = Painted().look(np.full((400, 400, 3), 255, np.uint8), lambda _: pytest.fail("not asked for"))
    assert objects is None
    assert passed is None


def test_an_empty_field() -> None:
    objects, passed = Painted().look(field((1000, 1000)), lambda _: NOTHING)
    assert objects is not None
    assert len(objects) == 0
    assert passed is not None
    assert passed.regions_xyxy == ()
    assert passed.seconds_saved is None


def test_the_time_saved_is_judged_by_area(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 3.0])
    monkeypatch.setattr("halfpixel.engine.prefilter.time.perf_counter", lambda: next(times))
    _, passed = Painted().look(field((3200, 3200), (1600, 1600)), lambda _: NOTHING)
    assert passed is not None
    assert passed.seconds == 3.0
    share = passed.area_px / 3200**2
    assert passed.seconds_saved == pytest.approx(2.0 / share - 3.0)


@pytest.fixture(scope="module")
def nuclei() -> Predictor:
    return load("nuclei")


def test_the_network_finds_the_same_where_it_looks(nuclei: Predictor) -> None:
    cells = touching_cells((300, 700), 12, regions_xyxy=[(520.0, 80.0, 640.0, 200.0)], seed=3)
    exact = nuclei.on(open_backend(nuclei, "torch", "fp32"))  # what differs is not to be rounding
    looked = Predictor(nuclei.model, nuclei.info, prefilter=Painted(), backend=exact.backend).predict(cells.picture)
    whole = exact.predict(cells.picture)
    assert whole.prefilter is None
    assert looked.prefilter is not None
    assert looked.prefilter.area_px < 0.5 * 300 * 700
    assert len(looked) == len(whole) == 12
    torch.testing.assert_close(looked.boxes_xyxy, whole.boxes_xyxy, atol=2.5, rtol=0)


def test_a_detector_is_no_first_pass(nuclei: Predictor) -> None:
    with pytest.raises(ArgumentError, match="says what every pixel shows, not a mask_rcnn_lite"):
        nuclei.with_prefilter(nuclei)


def test_regions_of_other_sizes_need_a_scale(nuclei: Predictor) -> None:
    fitted = Predictor(nuclei.model, replace(nuclei.info, input=InputRules()))
    unet = Predictor(unet_lite(("nucleus",)), ModelInfo("unet_lite", ("nucleus",), InputRules(scale=1.0)))
    with pytest.raises(ArgumentError, match="trained with a scale"):
        fitted.with_prefilter(unet)


def test_a_u_net_is(nuclei: Predictor) -> None:
    info = ModelInfo("unet_lite", ("nucleus",), replace(InputRules(), scale=1.0))
    combined = nuclei.with_prefilter(Predictor(unet_lite(("nucleus",)), info))
    assert combined.prefilter is not None
    said = combined.prefilter.foreground(np.zeros((101, 203, 3), np.uint8))
    assert said.shape == (50, 102)
    assert 0 <= said.min() <= said.max() <= 1
