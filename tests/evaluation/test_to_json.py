"""Results as JSON: names that changed stay for one version."""

from typing import Any

from scenes import blocks, dataset, sample

from halfpixel.evaluation.evaluation import evaluate
from halfpixel.evaluation.model_comparison import compare
from halfpixel.evaluation.per_image import Candidate
from halfpixel.evaluation.to_json import OLD_NAMES, with_old_names


def seen_names(value: Any) -> set[str]:
    """The new names that occur, after a check that each has its old name beside it."""
    seen: set[str] = set()
    if isinstance(value, dict):
        for name in OLD_NAMES.keys() & value.keys():
            assert value[OLD_NAMES[name]] == value[name]
            seen.add(name)
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        seen |= seen_names(one)
    return seen


def test_old_names_are_beside_the_new_ones() -> None:
    data = dataset(*(sample(blocks([(0, 0, 8, 8)]), k) for k in range(2)))
    found = [blocks([(0, 0, 8, 8)]), blocks([])]
    evaluated = evaluate(data, found, threshold=0.5, max_detections=100).to_json()
    compared = compare(data, *(Candidate(name, found, 0.5, 100) for name in "ab")).to_json()
    assert seen_names(evaluated) == {"detection", "accuracy", "error_types", "prefilter"}
    assert seen_names(compared) == {"detection", "accuracy", "accuracy_50", "accuracy_75", "error_types"}


def test_a_user_s_names_are_left_alone() -> None:
    names = ("accuracy", "search")
    data = dataset(sample(blocks([(0, 0, 8, 8)], labels=[0], names=names), 1), names=names)
    document = evaluate(data, [blocks([], names=names)], threshold=0.5, max_detections=100).to_json()
    assert list(document["classes"]) == list(document["images"][0]["true"]) == [*names]


def test_nothing_else_is_added() -> None:
    assert with_old_names({"accuracy": 1, "recall": 2}) == {"accuracy": 1, "quality": 1, "recall": 2}
