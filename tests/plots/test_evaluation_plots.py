"""What the plots of an evaluation show, read back from the figures."""

import pytest
from matplotlib.figure import Figure

from halfpixel.plots.comparison_plots import agreement_of_both, error_rates_of_both
from halfpixel.plots.evaluation_plots import (
    Agreement,
    Estimate,
    accuracy_against_iou,
    bland_altman,
    error_rates,
    predicted_against_true,
)

PAIRS = [(3, 3), (8, 6), (0, 1)]
AGREEMENT = Agreement(Estimate(-0.3, (-1.0, 0.4)), Estimate(-2.5), None)


def dots(figure: Figure, axes: int = 0) -> list[list[float]]:
    (found,) = figure.axes[axes].collections
    return found.get_offsets().tolist()


def test_counts_are_dots_and_a_model_has_a_colour() -> None:
    assert dots(predicted_against_true({"": PAIRS})) == [list(pair) for pair in PAIRS]
    both = predicted_against_true({"A": PAIRS, "B": PAIRS[:1]}).axes[0]
    assert [len(one.get_offsets()) for one in both.collections] == [3, 1]
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["A", "B"]
    assert predicted_against_true({"": []}).axes[0].get_xlim()[1] > 0


def test_agreement_is_difference_against_mean() -> None:
    figure = bland_altman(PAIRS, AGREEMENT)
    assert dots(figure) == [[3, 0], [7, -2], [0.5, 1]]
    assert [text.get_text() for text in figure.axes[0].texts] == ["-0.3", "-2.5"]
    assert len(figure.axes[0].patches) == 1  # the band of the bias
    two = agreement_of_both((PAIRS, AGREEMENT), (PAIRS[:1], Agreement(None, None, None)))
    assert [len(dots(two, k)) for k in range(2)] == [3, 1]


def test_error_types_stand_in_order_from_the_top() -> None:
    axes = error_rates({"miss": Estimate(4.0, (2.0, 6.0)), "merge": Estimate(1.0)}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["merge", "miss"]
    assert [bar.get_width() for bar in axes.patches] == [1, 4]
    (interval,) = axes.lines
    assert interval.get_xdata() == pytest.approx([2, 6])
    both = error_rates_of_both({"miss": (Estimate(4.0, (2.0, 6.0)), Estimate(3.0))}).axes[0]
    assert [bar.get_width() for bar in both.patches] == [4, 3]


def test_accuracy_has_a_line_for_each_part() -> None:
    overall = {0.5: Estimate(0.9, (0.85, 0.95)), 0.75: Estimate(0.7, (0.6, 0.8))}
    axes = accuracy_against_iou(overall, {"a (3)": {0.5: Estimate(0.8)}, "b (2)": {}}).axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.9, 0.7], [0.8], []]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["all images", "a (3)", "b (2)"]
    many = {f"part {k}": overall for k in range(20)}
    assert len(accuracy_against_iou(overall, many).axes[0].lines) == 7  # as many as there are colours
