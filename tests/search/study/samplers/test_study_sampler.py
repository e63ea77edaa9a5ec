"""The sampler: what is proposed first, and what is reported to Optuna of each kind of end."""

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

from search.config.space import Choice, FloatRange, IntRange, Space, clip
from search.study.samplers.distributions import distributions
from search.study.samplers.study_sampler import OptunaSampler

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


def test_a_trial_that_ran_to_its_end_is_reported_by_its_best_checkpoint(sampler: OptunaSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    for step, value in ((50, 0.2), (100, 0.4), (150, 0.3)):
        sampler.on_trial_result("a", {"step": step, "objective": value})
    sampler.on_trial_complete("a", {"step": 150, "objective": 0.3})
    (trial,) = journal(tmp_path)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.4)
    assert trial.intermediate_values == {50: 0.2, 100: 0.4, 150: 0.3}


def test_a_stopped_trial_is_reported_as_pruned_not_as_an_equal(sampler: OptunaSampler, tmp_path: Path) -> None:
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


def test_what_is_reported_steers_what_is_proposed(tmp_path: Path) -> None:
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


def reopened(tmp_path: Path, trials: int = 4, first: int = 1) -> OptunaSampler:
    """The sampler of a later process."""
    return OptunaSampler(
        SPACE,
        metric="objective",
        journal=tmp_path / "journal.log",
        study_name="renamed since",
        seed=1,
        first_trials=[{"learning_rate": 1e-4, "rank": 8, "steps": steps} for steps in (150, 100)[:first]],
        trials=trials,
        steps=400,
    )


def test_unfinished_trials_go_on_first_under_their_numbers_and_there_are_as_many_as_were_asked_for(
    sampler: OptunaSampler, tmp_path: Path
) -> None:
    before = [suggested(sampler, name) for name in "abc"]
    sampler.on_trial_result("a", {"step": 50, "objective": 0.2})
    sampler.on_trial_result("b", {"step": 50, "objective": 0.5})
    sampler.on_trial_complete("b", error=True)
    again = reopened(tmp_path)
    assert again.remaining == 3
    assert [trial.number for trial in again.earlier] == [0, 1, 2]
    assert suggested(again, "x") == {**before[0], "noted": 50}
    assert suggested(again, "y") == {**before[2], "noted": 0}
    last = suggested(again, "z")
    assert last["number"] == 3
    no_more: object = again.suggest("w")
    assert no_more == Searcher.FINISHED
    again.on_trial_result("x", {"step": 50, "objective": 0.9})  # reported already
    again.on_trial_complete("x", {"step": 150, "objective": 0.4})
    again.on_trial_complete("z", {"step": last["params"]["steps"], "objective": 0.1})
    assert [trial.state.name for trial in journal(tmp_path)] == ["COMPLETE", "FAIL", "RUNNING", "COMPLETE"]
    assert journal(tmp_path)[0].intermediate_values == {50: 0.2, 150: 0.4}
    assert reopened(tmp_path).remaining == 1
    assert reopened(tmp_path, trials=6).remaining == 3


def test_another_part_draws_other_trials(tmp_path: Path) -> None:
    """The same seed again would propose the first part's trials once more."""
    first = reopened(tmp_path, first=0)
    drawn = [suggested(first, name)["params"]["learning_rate"] for name in "ab"]
    for name in "ab":
        first.on_trial_complete(name, {"step": 150, "objective": 0.1})
    second = reopened(tmp_path, first=0)
    drawn += [suggested(second, name)["params"]["learning_rate"] for name in "cd"]
    assert len(set(drawn)) == 4


def test_first_trials_that_a_kill_kept_from_the_journal_still_come_first(tmp_path: Path) -> None:
    reopened(tmp_path, first=1)
    again = reopened(tmp_path, first=2)
    assert [suggested(again, name)["params"]["learning_rate"] for name in "ab"] == [1e-4, 1e-4]
    assert len(again.study.trials) == 2


@pytest.mark.parametrize("kept", range(4))
def test_settings_that_a_kill_kept_from_the_journal_are_drawn(
    kept: int, sampler: OptunaSampler, tmp_path: Path
) -> None:
    """Optuna writes a line a setting. Those of an enqueued trial are its own, however many lines are lost."""
    suggested(sampler, "a")
    suggested(sampler, "b")
    path = tmp_path / "journal.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: len(lines) - 3 + kept]))
    again = reopened(tmp_path)
    assert suggested(again, "x")["params"] == {"learning_rate": 1e-4, "rank": 8, "steps": 150}
    second = suggested(again, "y")
    assert (second["number"], set(second["params"])) == (1, set(SPACE))
    assert clip(SPACE, second["params"]) == second["params"]


def test_notes_stay_in_the_journal(sampler: OptunaSampler, tmp_path: Path) -> None:
    sampler.note("seconds", {"total": 1.5})
    sampler.note("seconds", {"total": 2.5})
    assert reopened(tmp_path).notes == {"seconds": {"total": 2.5}}
