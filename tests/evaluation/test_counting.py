import pytest
from scenes import blocks, dataset, sample

from halfpixel.evaluation.counting import count_error, image_counts

NAMES = ("fig", "date")


def some(figs: int, dates: int):
    boxes = [(5 * k, 0, 5 * k + 4, 4) for k in range(figs + dates)]
    return blocks(boxes, labels=[0] * figs + [1] * dates, names=NAMES)


def test_error_and_bias_by_hand():
    data = dataset(sample(some(3, 1), 1), sample(some(0, 0), 2), sample(some(2, 2), 3), names=NAMES)
    counts = image_counts(data, [some(2, 2), some(1, 0), some(0, 1)])
    assert [(one.image_id, one.true, one.predicted) for one in counts] == [
        (1, (3, 1), (2, 2)),
        (2, (0, 0), (1, 0)),
        (3, (2, 2), (0, 1)),
    ]
    total = count_error(counts)
    assert (total.n_images, total.true, total.predicted) == (3, 8, 6)
    assert (total.mae, total.bias) == (pytest.approx(4 / 3), pytest.approx(-2 / 3))
    figs = count_error(counts, 0)
    assert (figs.true, figs.predicted, figs.mae, figs.bias) == (5, 3, pytest.approx(4 / 3), pytest.approx(-2 / 3))


def test_no_images():
    error = count_error([])
    assert (error.n_images, error.true, error.mae, error.bias) == (0, 0, None, None)


def test_objects_in_a_crowd_are_not_counted():
    truth = blocks([(0, 0, 10, 10)])
    predicted = blocks([(0, 0, 10, 10), (22, 22, 28, 28)])
    (count,) = image_counts(dataset(sample(truth, ignored=blocks([(20, 20, 40, 40)]))), [predicted])
    assert (count.true, count.predicted) == ((1,), (1,))
