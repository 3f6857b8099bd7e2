import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from planted import Planted, film, straight
from shapely import LineString

from halfpixel.measure.counting_line import CountingLine
from halfpixel.measure.linking import link_frames
from halfpixel.measure.object_table import measure_objects
from halfpixel.measure.table import Table
from halfpixel.measure.tracks import Flow, FrameTable, TrackedFilm, tracked_film


def followed(
    discs: Sequence[Planted], n: int, lines: Sequence[CountingLine] = (), um: float | None = None, **how: object
) -> TrackedFilm:
    """The whole way from drawn masks to the tables."""
    linked = link_frames(objects for objects, _ in film(discs, n, **how))
    tables = (measure_objects(objects, pixel_size_um=um) for objects in linked)
    return tracked_film((FrameTable(k, f"{k}.png", one, um) for k, one in enumerate(tables, start=1)), lines)


def points(*ways: Sequence[tuple[float, float]], size: float = 0.0) -> list[FrameTable]:
    """Tables of objects that are at given points in each frame."""
    frames = []
    for k, places in enumerate(zip(*ways, strict=True), start=1):
        x, y = np.array(places, dtype=np.float64).T
        columns = {"track": np.arange(1, len(x) + 1), "class": ["cell"] * len(x), "centroid_x_px": x,
                   "centroid_y_px": y, "area_px": np.full(len(x), 9.0), "left_px": x, "top_px": y,
                   "right_px": x + size, "bottom_px": y + size}  # fmt: skip
        frames.append(FrameTable(k, str(k), Table(columns)))
    return frames


def test_what_came_and_went_and_crossed_is_exact() -> None:
    """Six discs: there all the time, coming, going, passing by, crossing, crossing and turning back."""

    def there_and_back(frame: int) -> tuple[float, float]:
        return 70 + 2.0 * (frame if frame < 10 else 20 - frame), 120

    discs = [
        Planted(straight((20, 20), (0, 0.2))),
        Planted(straight((20, 40), (1, 0), missing=range(4))),
        Planted(straight((20, 60), (1, 0), missing=range(15, 20))),
        Planted(straight((30, 80), (1, 0), missing=[0, 1, 18, 19])),
        Planted(straight((70, 100), (2, 0))),
        Planted(there_and_back),
    ]
    line = CountingLine(80, 160, 80, 0)  # upwards: the right hand is the right of the picture
    found = followed(discs, 20, [line], size_hw=(160, 160))
    assert found.flows == (Flow("cell", 6, 2, 2, ((2, 1),)),)
    assert found.lines == (line,)
    columns = found.tracks.columns
    assert sorted(zip(columns["first_frame"].tolist(), columns["last_frame"].tolist(), strict=True)) == [
        (1, 15), (1, 20), (1, 20), (1, 20), (3, 18), (5, 20),
    ]  # fmt: skip
    assert columns["frames"].tolist() == [
        last - first + 1 for first, last in zip(columns["first_frame"], columns["last_frame"], strict=True)
    ]
    both = zip(columns["line1_in"].tolist(), columns["line1_out"].tolist(), strict=True)
    assert sorted(both) == [(0, 0)] * 4 + [(1, 0), (1, 1)]
    frames = found.frames.columns
    assert frames["objects"].tolist() == [4, 4, 5, 5, *[6] * 11, *[5] * 3, 4, 4]
    assert frames["first_seen"].tolist() == [4, 0, 1, 0, 1, *[0] * 15]
    assert frames["last_seen"].tolist() == [*[0] * 14, 1, 0, 0, 1, 0, 4]
    assert (frames["line1_in"].sum(), frames["line1_out"].sum()) == (2, 1)


def test_lengths_and_areas() -> None:
    found = followed([Planted(straight((20, 20), (3, 4)))], 10, um=0.5)
    row = {name: values[0] for name, values in found.tracks.columns.items()}
    assert row["path_px"] == pytest.approx(45, abs=1e-9)
    assert row["displacement_px"] == pytest.approx(45, abs=1e-9)
    assert (row["path_um"], row["displacement_um"]) == pytest.approx((22.5, 22.5))
    assert row["mean_area_px"] == pytest.approx(math.pi * 36, rel=0.03)
    assert row["mean_area_um2"] == row["mean_area_px"] / 4


def test_micrometres_need_one_pixel_size() -> None:
    frames = points([(0, 0), (1, 1)])
    assert "path_um" in tracked_film([one._replace(pixel_size_um=0.5) for one in frames]).tracks.columns
    assert "path_um" not in tracked_film([frames[0]._replace(pixel_size_um=0.5), frames[1]]).tracks.columns


@pytest.mark.parametrize("seed", range(6))
def test_crossings_of_random_ways_against_shapely(seed: int) -> None:
    """Of points, which have no size: each step that cuts the line is a crossing, and its direction a side."""
    rng = np.random.default_rng(seed)
    ways = [np.cumsum(rng.normal(0, 12, (40, 2)), axis=0) + 50 for _ in range(8)]
    lines = [CountingLine(*rng.uniform(20, 80, 4).tolist()) for _ in range(3)]
    found = tracked_film(points(*ways), lines).tracks.columns
    total = 0
    for k, line in enumerate(lines, start=1):
        cut = LineString([(line.x1, line.y1), (line.x2, line.y2)])
        for n, way in enumerate(ways):
            steps = [(a, b) for a, b in itertools.pairwise(way) if cut.crosses(LineString([a, b]))]
            went_in = sum(line.offset(*b) > 0 for _, b in steps)
            assert (found[f"line{k}_in"][n], found[f"line{k}_out"][n]) == (went_in, len(steps) - went_in)
            total += len(steps)
    assert total > 10


def test_standing_on_a_line_is_no_crossing() -> None:
    """An object of 40 pixels that trembles by 3 to either side, and then goes on."""
    trembling = [(50 + 3 * (-1) ** k, 10) for k in range(20)]
    line = CountingLine(50, 100, 50, 0)
    assert tracked_film(points([(40, 10), *trembling, (60, 10)], size=40), [line]).flows[0].crossings == ((1, 0),)
    assert tracked_film(points([(40, 10), *trembling, (40, 10)], size=40), [line]).flows[0].crossings == ((0, 0),)
    assert tracked_film(points(trembling), [line]).flows[0].crossings == ((9, 10),)


def test_a_way_around_the_end_of_a_line_is_no_crossing() -> None:
    line = CountingLine(50, 40, 50, 0)
    assert tracked_film(points([(40, 20), (40, 60), (60, 60), (60, 20)]), [line]).flows[0].crossings == ((0, 0),)


def test_what_was_seen_once_does_not_count() -> None:
    discs = [Planted(straight((20, 20), (1, 0))), Planted(straight((60, 60), (0, 0), missing=[0, 1, 2, 4, 5, 6, 7, 8]))]
    found = followed(discs, 9)
    assert found.flows == (Flow("cell", 1, 0, 0, ()),)
    assert found.tracks.columns["counts"].tolist() == [True, False]


def test_classes_have_flows_of_their_own_and_numbers_their_gaps() -> None:
    discs = [Planted(straight((20, 20 + 15 * k), (1, 0)), label=int(k > 0)) for k in range(3)]
    linked = link_frames(objects for objects, _ in film(discs, 4, names=("cell", "debris")))
    tables = [measure_objects(objects) for objects in linked]
    numbers = (2, 3, 7, 8)  # the first and some others could not be read
    found = tracked_film(FrameTable(n, f"{n}.png", one) for n, one in zip(numbers, tables, strict=True))
    assert found.flows == (Flow("debris", 2, 0, 0, ()), Flow("cell", 1, 0, 0, ()))
    assert found.tracks.columns["first_frame"].tolist() == [2, 2, 2]
    assert found.frames.columns["frame"].tolist() == [2, 3, 7, 8]


def test_a_film_without_objects_and_none_at_all() -> None:
    empty = [one._replace(table=Table({name: [] for name in one.table.columns})) for one in points([(1, 1), (2, 2)])]
    found = tracked_film(empty, [CountingLine(0, 0, 1, 1)])
    assert (len(found.tracks), found.flows) == (0, ())
    assert found.frames.columns["objects"].tolist() == [0, 0]
    assert found.frames.csv_bytes().decode().splitlines()[1] == "1,1,0,0,0,0,0"
    assert len(tracked_film([]).frames) == 0


def test_an_object_whose_mask_is_empty_is_nowhere() -> None:
    frames = points([(0, 0), (math.nan, math.nan), (3, 4)])
    row = tracked_film(frames, [CountingLine(1, 5, 1, -5)]).tracks.columns
    assert (row["frames"][0], row["path_px"][0], row["line1_in"][0] + row["line1_out"][0]) == (3, 5.0, 1)
