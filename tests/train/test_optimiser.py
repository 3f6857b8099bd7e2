import pytest
from test_loop import fresh

from halfpixel.train.optimiser import parameter_groups, schedule
from halfpixel.train.recipe import Recipe


def test_the_learning_rate_warms_up_and_falls() -> None:
    recipe = Recipe(steps=100, warmup_steps=10)
    shares = [schedule(step, recipe) for step in range(1, 101)]
    assert shares[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert shares[9:] == sorted(shares[9:], reverse=True)
    assert shares[54] == pytest.approx(0.505)
    assert shares[-1] == pytest.approx(0.01)


def test_the_backbone_learns_more_slowly_and_vectors_do_not_decay() -> None:
    model = fresh().model
    recipe = Recipe(learning_rate=0.1, backbone_rate=0.3, weight_decay=0.05)
    groups = parameter_groups(model, recipe)
    assert {(round(float(g["peak"]), 4), g["weight_decay"]) for g in groups} == {  # type: ignore[arg-type]
        (0.03, 0.05),
        (0.03, 0.0),
        (0.1, 0.05),
        (0.1, 0.0),
    }
    together = [p for group in groups for p in group["params"]]  # type: ignore[attr-defined]
    assert len(together) == len({id(p) for p in together}) == len(list(model.parameters()))
