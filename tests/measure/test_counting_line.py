import numpy as np
import pytest
from shapely import LineString

from halfpixel.errors import ArgumentError
from halfpixel.measure.counting_line import CountingLine


def test_sides_are_those_of_a_walker() -> None:
    """To the right on the picture: the right hand points down."""
    line = CountingLine(10, 20, 50, 20)
    assert line.offset(30, 26) == 6
    assert line.offset(30, 17) == -3
    assert line.offset(-100, 20) == 0
    down = CountingLine(20, 10, 20, 50)
    assert down.offset(13, 30) == 7
    assert down.length == 40


@pytest.mark.parametrize("seed", range(5))
def test_crossings_against_shapely(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crossed = 0
    for _ in range(200):
        x1, y1, x2, y2, *ways = rng.uniform(0, 100, 8).tolist()
        line, start, end = CountingLine(x1, y1, x2, y2), (ways[0], ways[1]), (ways[2], ways[3])
        truth = LineString([(x1, y1), (x2, y2)]).crosses(LineString([start, end]))
        found = line.offset(*start) * line.offset(*end) < 0 and line.crossed_between(start, end)
        assert found == truth
        crossed += truth
    assert 20 < crossed < 120


def test_two_lines_that_meet_count_a_way_through_their_corner_once() -> None:
    first, second = CountingLine(0, 0, 10, 0), CountingLine(10, 0, 20, 0)
    assert [one.crossed_between((10, -5), (10, 5)) for one in (first, second)] == [False, True]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1,2,3", "expected X1,Y1,X2,Y2"),
        ("1,2,3,4,5", "expected X1,Y1,X2,Y2"),
        ("a,2,3,4", "expected X1,Y1,X2,Y2"),
        ("", "expected X1,Y1,X2,Y2"),
        ("1,2,1,2", "two different points"),
        ("1,2,inf,2", "finite"),
    ],
)
def test_what_is_no_line(text: str, why: str) -> None:
    with pytest.raises(ArgumentError, match=why):
        CountingLine.parse(text)


def test_a_line_is_written_as_it_is_read() -> None:
    assert str(CountingLine.parse("0, 12.5,640,12.5")) == "0,12.5,640,12.5"
