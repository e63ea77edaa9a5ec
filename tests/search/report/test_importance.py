"""Which settings mattered, against Optuna on the same trials."""

import numpy as np
import optuna
import pytest

from search.config.space import Choice, FloatRange, Space
from search.report.importance import importance

SPACE: Space = {"learning_rate": FloatRange(low=1e-4, high=1e-2, log=True), "rank": Choice(values=(4, 8))}


def trials(count: int, *, faceless: int = 0) -> list[dict[str, object]]:
    """The objective depends on the learning rate alone."""
    random = np.random.default_rng(0)
    rates = 10 ** random.uniform(-4, -2, count)
    return [
        {
            "params": {"learning_rate": float(rate), "rank": int(random.choice([4, 8]))},
            "metrics": {"objective": -62.2 if number < faceless else -abs(float(np.log10(rate)) + 3)},
        }
        for number, rate in enumerate(rates)
    ]


def test_what_decides_comes_first() -> None:
    shares = importance(trials(60), SPACE)
    assert list(shares) == ["learning_rate", "rank"]
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["learning_rate"] > 0.8


def test_it_is_optunas_figure_over_the_scored_trials() -> None:
    study = optuna.create_study(direction="maximize")
    ranges = {
        "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "rank": optuna.distributions.CategoricalDistribution((4, 8)),
    }
    scored = trials(30, faceless=3)
    for one in scored:
        value = one["metrics"]["objective"]  # type: ignore[index]
        study.add_trial(optuna.trial.create_trial(params=one["params"], distributions=ranges, value=value))  # type: ignore[arg-type]
    failed: dict[str, object] = {"params": {"learning_rate": 1e-3, "rank": 4}, "metrics": {}}
    assert importance([*scored, failed], SPACE) == optuna.importance.get_param_importances(study)


def test_too_few_or_equal_trials_say_nothing() -> None:
    assert importance(trials(9), SPACE) == {}
    equal = [{**one, "metrics": {"objective": 0.5}} for one in trials(20)]
    assert importance(equal, SPACE) == {}
