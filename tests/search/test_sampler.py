"""The sampler: what is proposed first, and what Optuna is told of each kind of end."""

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.sampler import OptunaSampler, distributions
from search.space import Choice, FloatRange, IntRange, Space, clip

SPACE: Space = {
    "learning_rate": FloatRange(low=1e-5, high=1e-2, log=True),
    "rank": Choice(values=(4, 8)),
    "steps": IntRange(low=50, high=150, step=50),
}


@pytest.fixture
def sampler(tmp_path: Path) -> OptunaSampler:
    return OptunaSampler(
        SPACE,
        metric="objective",
        journal=tmp_path / "journal.log",
        study_name="anna",
        seed=1,
        first_trials=[{"learning_rate": 1e-4, "rank": 8, "steps": 150}],
        trials=4,
        steps=400,
    )


def journal(tmp_path: Path) -> list[optuna.trial.FrozenTrial]:
    """What a later process finds in the run folder."""
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    return optuna.load_study(study_name="anna", storage=storage).trials


def suggested(sampler: OptunaSampler, trial_id: str) -> dict[str, Any]:
    suggestion = sampler.suggest(trial_id)
    assert isinstance(suggestion, dict)
    return suggestion


def test_the_space_in_optunas_words() -> None:
    assert distributions(SPACE) == {
        "learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
        "rank": CategoricalDistribution((4, 8)),
        "steps": IntDistribution(50, 150, step=50),
    }


def test_the_first_trial_comes_first_then_the_sampler_and_then_no_more(sampler: OptunaSampler) -> None:
    assert suggested(sampler, "a") == {"number": 0, "params": {"learning_rate": 1e-4, "rank": 8, "steps": 150}}
    for number, name in enumerate("bcd", start=1):
        suggestion = suggested(sampler, name)
        assert suggestion["number"] == number
        assert set(suggestion["params"]) == set(SPACE)
        assert clip(SPACE, suggestion["params"]) == suggestion["params"], "what lies in the space is its own nearest"
    no_more: object = sampler.suggest("e")
    assert no_more == Searcher.FINISHED


def test_a_trial_that_ran_to_its_end_is_told_by_its_best_checkpoint(sampler: OptunaSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    for step, value in ((50, 0.2), (100, 0.4), (150, 0.3)):
        sampler.on_trial_result("a", {"step": step, "objective": value})
    sampler.on_trial_complete("a", {"step": 150, "objective": 0.3})
    (trial,) = journal(tmp_path)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.4)
    assert trial.intermediate_values == {50: 0.2, 100: 0.4, 150: 0.3}


def test_a_stopped_trial_is_told_as_pruned_not_as_an_equal(sampler: OptunaSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    sampler.on_trial_result("a", {"step": 50, "objective": 0.9})
    sampler.on_trial_complete("a", {"step": 50, "objective": 0.9})
    (trial,) = journal(tmp_path)
    assert (trial.state, trial.intermediate_values) == (TrialState.PRUNED, {50: 0.9})


@pytest.mark.parametrize("error", [True, False])
def test_a_trial_without_any_checkpoint_has_failed(error: bool, sampler: OptunaSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    sampler.on_trial_complete("a", {"trial_id": "a"}, error=error)
    (trial,) = journal(tmp_path)
    assert (trial.state, trial.values) == (TrialState.FAIL, None)


def test_a_replayed_step_is_noted_once(sampler: OptunaSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    sampler.on_trial_result("a", {"step": 50, "objective": 0.2})
    sampler.on_trial_result("a", {"step": 50, "objective": 0.7})
    assert journal(tmp_path)[0].intermediate_values == {50: 0.2}


def test_a_value_that_is_not_finite_cannot_pass(sampler: OptunaSampler) -> None:
    suggested(sampler, "a")
    with pytest.raises(AssertionError, match="reported nan at step 50"):
        sampler.on_trial_result("a", {"step": 50, "objective": float("nan")})


def test_what_is_told_steers_what_is_proposed(tmp_path: Path) -> None:
    """On an easy objective later proposals are better than the first, which those of random search are not."""
    gains = []
    for seed in range(4):
        sampler = OptunaSampler(
            SPACE,
            metric="objective",
            journal=tmp_path / f"journal-{seed}.log",
            study_name="anna",
            seed=seed,
            trials=40,
            steps=400,
        )
        values = []
        for number in range(40):
            params = suggested(sampler, str(number))["params"]
            value = -abs(math.log10(params["learning_rate"]) + 3) - (params["rank"] == 4)
            sampler.on_trial_result(str(number), {"step": params["steps"], "objective": value})
            sampler.on_trial_complete(str(number), {"step": params["steps"], "objective": value})
            values.append(value)
        gains.append(sum(values[20:]) / 20 - sum(values[:10]) / 10)
    assert sum(gains) / 4 > 0.2
