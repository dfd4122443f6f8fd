import math

import pytest

from trainer.study.config import Training
from trainer.study.schedule import learning_rates


def rates(steps_per_epoch: int = 10, **training: object) -> list[float]:
    recipe = Training.model_validate({"batch_size": 1} | training)
    rate = learning_rates(recipe, 0.1, steps_per_epoch)
    return [rate(step) for step in range(recipe.epochs * steps_per_epoch)]


def test_the_papers_cifar_schedule():
    found = rates(
        781, epochs=160, schedule={"name": "step", "milestones": [80, 120], "factor": 0.1}
    )
    assert found[0] == found[80 * 781 - 1] == 0.1
    assert found[80 * 781] == found[120 * 781 - 1] == pytest.approx(0.01)
    assert found[120 * 781] == found[-1] == pytest.approx(0.001)


def test_warmup_rises_by_equal_steps_and_milestones_stay_where_they_are():
    found = rates(
        2,
        epochs=6,
        warmup_epochs=2,
        schedule={"name": "step", "milestones": [3, 5], "factor": 0.5},
    )
    expected = [0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.025, 0.025]
    assert found == pytest.approx(expected)


def test_cosine_falls_from_the_end_of_warmup_to_the_last_step():
    found = rates(2, epochs=5, warmup_epochs=1, schedule={"name": "cosine"})
    by_hand = [0.05, 0.1] + [0.1 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert found == pytest.approx(by_hand)
    assert found[6] == pytest.approx(0.05), "half-way down after half the cosine"


def test_a_milestone_inside_warmup_counts_once_it_is_over():
    schedule = {"name": "step", "milestones": [1], "factor": 0.1}
    assert rates(1, epochs=4, warmup_epochs=2, schedule=schedule) == pytest.approx(
        [0.05, 0.1, 0.01, 0.01]
    )


def test_constant():
    assert rates(3, epochs=2) == [0.1] * 6
