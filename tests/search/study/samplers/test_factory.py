"""The samplers by name: their seeds, what stopped trials teach them, duplicates, and what is drawn on a condition."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna.trial import TrialState
from pydantic import ValidationError
from ray.tune.search import Searcher

from search.config.sections import SamplerConfig, SamplerName
from search.config.space import Choice, FloatRange, IntRange, Ratio, Space, Value
from search.study.samplers.pareto_sampler import ParetoSampler
from search.study.samplers.study_sampler import OptunaSampler, StudySampler

NAMES = get_args(SamplerName)

SPACE: Space = {
    "learning_rate": FloatRange(low=1e-5, high=1e-2, log=True),
    "rank": Choice(values=(4, 8)),
    "alpha": Ratio(ratio=(0.5, 1, 2)),
    "steps": IntRange(low=50, high=150, step=50),
}
CONDITIONAL: Space = {
    "loss": Choice(values=("squared", "huber")),
    "huber_c": FloatRange(low=0.01, high=0.5, when={"loss": ("huber",)}),
}


def make(folder: Path, name: SamplerName, *, space: Space = SPACE, seed: int = 1, **settings: Any) -> OptunaSampler:
    return OptunaSampler(
        space,
        metric="objective",
        journal=folder / f"{len(list(folder.iterdir()))}.log",
        study_name="anna",
        seed=seed,
        steps=400,
        sampler=SamplerConfig(name=name, startup_trials=4),
        **{"trials": 40, **settings},
    )


def suggested(sampler: StudySampler, trial_id: str) -> dict[str, Any]:
    suggestion = sampler.suggest(trial_id)
    assert isinstance(suggestion, dict)
    return suggestion


def end(sampler: StudySampler, trial_id: str, values: Mapping[int, float]) -> None:
    for step, value in values.items():
        sampler.on_trial_result(trial_id, {"step": step, "objective": value})
    sampler.on_trial_complete(trial_id)


SIMPLE: Space = {"learning_rate": FloatRange(low=1e-5, high=1e-2, log=True), "rank": IntRange(low=4, high=32)}


def proposals(sampler: OptunaSampler, stopped: float, complete: float) -> list[dict[str, Any]]:
    """Every other trial is stopped at `stopped`, the others end between 0 and `complete`, best near a rate of 1e-3."""
    for number in range(10):
        suggestion = sampler.suggest(str(number))
        if not isinstance(suggestion, dict):
            break  # as many duplicates as trials
        if number % 2:
            end(sampler, str(number), {25: stopped})
        else:
            far = abs(math.log10(suggestion["params"]["learning_rate"]) + 3)
            end(sampler, str(number), {400: complete * (1 - far)})
    return [trial.params for trial in sampler.study.trials]


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_means_the_same_proposals_and_another_means_others(name: SamplerName, tmp_path: Path) -> None:
    first, again, other = (
        proposals(make(tmp_path, name, space=SIMPLE, seed=seed, trials=10), 0.1, 1.0) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", [name for name in NAMES if name != "learning_curves"])
def test_the_value_of_a_stopped_trial_misleads_none_of_them(name: SamplerName, tmp_path: Path) -> None:
    """A trial that was stopped with a value beyond all others is no reason to go where it was.

    Learning curves do learn from what it has shown: see test_curve_sampler.
    """
    modest, lured = (
        proposals(make(tmp_path, name, space=SIMPLE, trials=10), stopped, 1.0) for stopped in (0.01, 100.0)
    )
    if name == "tpe":
        # It ranks stopped trials among themselves, but every one behind the complete ones: see test_sampler.
        assert modest[:5] == lured[:5]
    else:
        assert modest == lured
    heeded = proposals(make(tmp_path, name, space=SIMPLE, trials=10), 0.01, -1.0) != modest
    assert heeded == (name in ("tpe", "gp", "nsga2")), "what complete trials teach"


@pytest.mark.parametrize("name", NAMES)
def test_a_conditional_setting_is_drawn_on_its_condition_only(name: SamplerName, tmp_path: Path) -> None:
    sampler = make(tmp_path, name, space=CONDITIONAL, trials=20)
    seen = set()
    for number in range(20):
        suggestion = sampler.suggest(str(number))
        if not isinstance(suggestion, dict):
            break  # the squared loss has one configuration: all others were duplicates
        params = suggestion["params"]
        assert ("huber_c" in params) == (params["loss"] == "huber")
        seen.add(params["loss"])
        end(sampler, str(number), {400: 0.5})
    assert seen == {"squared", "huber"}
    squared = [trial.params["loss"] for trial in sampler.study.trials].count("squared")
    assert squared == 1 if name == "learning_curves" else squared > 1, "only we do not propose again what was tried"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "learning_curves"])
def test_likeness_and_fidelity_at_once_under_the_constraint(name: SamplerName, tmp_path: Path) -> None:
    sampler = ParetoSampler(
        SIMPLE,
        maximum_faceless_rate=0.1,
        journal=tmp_path / "journal.log",
        study_name="anna",
        seed=1,
        trials=8,
        steps=400,
        sampler=SamplerConfig(name=name, startup_trials=3),
    )
    for number in range(8):
        params = suggested(sampler, str(number))["params"]
        values = {"likeness": 0.5, "fidelity": 1 - params["learning_rate"], "objective": 0.5, "search_value": 0.5}
        values["excess"] = 0.0
        sampler.on_trial_complete(
            str(number), {"step": 25 if number % 3 == 2 else 400, "faceless_rate": 0.2 * (number % 2), **values}
        )
    own = [trial for trial in sampler.study.trials if "same_as" not in trial.user_attrs]
    assert [trial.state for trial in own] == [
        TrialState.PRUNED if number % 3 == 2 else TrialState.COMPLETE for number in range(8)
    ]
    assert sampler.study.best_trials
    for trial in sampler.study.best_trials:
        assert trial.constraints["faceless_rate"] == -0.1, "the others break the constraint"


def test_the_ratio_is_a_parameter_of_its_own_and_the_journal_says_what_it_means(tmp_path: Path) -> None:
    sampler = make(tmp_path, "tpe", first_trials=[{"learning_rate": 1e-4, "rank": 8, "alpha": 0.5, "steps": 50}])
    params = {"learning_rate": 1e-4, "rank": 8, "alpha": 4, "steps": 50}
    assert suggested(sampler, "a") == {"number": 0, "params": params}
    (trial,) = sampler.study.trials
    assert trial.params == {"learning_rate": 1e-4, "rank": 8, "alpha/rank": 0.5, "steps": 50}
    assert trial.user_attrs == {"settings": params}


TWO: Space = {"rank": Choice(values=(4, 8))}


def told(sampler: OptunaSampler) -> list[tuple[TrialState, float | None, dict[int, float], Any]]:
    return [
        (trial.state, trial.value, trial.intermediate_values, trial.user_attrs.get("same_as"))
        for trial in sampler.study.trials
    ]


def test_a_duplicate_is_told_as_the_first_and_not_trained(tmp_path: Path) -> None:
    heard: list[tuple[int, Mapping[str, Value], int]] = []
    sampler = make(
        tmp_path,
        "random",
        space=TWO,
        trials=3,
        first_trials=[{"rank": rank} for rank in (4, 4, 8, 8, 4)],
    )
    sampler.on_duplicate = lambda *duplicate: heard.append(duplicate)
    assert suggested(sampler, "a")["number"] == 0
    end(sampler, "a", {200: 0.3, 400: 0.2})
    assert suggested(sampler, "b") == {"number": 2, "params": {"rank": 8}}
    no_more: object = sampler.suggest("c")
    assert no_more == Searcher.FINISHED, "as many duplicates as trials are enough"
    assert heard == [(1, {"rank": 4}, 0), (3, {"rank": 8}, 2), (4, {"rank": 4}, 0)]
    complete = (TrialState.COMPLETE, 0.3, {200: 0.3, 400: 0.2})
    assert told(sampler) == [
        (*complete, None),
        (*complete, 0),
        (TrialState.RUNNING, None, {}, None),
        (TrialState.RUNNING, None, {}, 2),
        (*complete, 0),
    ]
    end(sampler, "b", {200: 0.1})
    assert told(sampler)[2:4] == [
        (TrialState.PRUNED, 0.1, {200: 0.1}, None),
        (TrialState.PRUNED, 0.1, {200: 0.1}, 2),
    ], "what is stopped later is taken over later"


def test_what_has_failed_is_no_result_to_take_over(tmp_path: Path) -> None:
    sampler = make(tmp_path, "random", space=TWO, trials=3, first_trials=[{"rank": 4}] * 3)
    suggested(sampler, "a")
    sampler.on_trial_complete("a", error=True)
    assert suggested(sampler, "b") == {"number": 1, "params": {"rank": 4}}
    end(sampler, "b", {400: 0.5})
    assert suggested(sampler, "c")["params"] == {"rank": 8}
    states = [trial.state for trial in sampler.study.trials]
    assert states[:3] == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]


def test_a_setting_that_its_condition_leaves_at_the_fixed_value_makes_a_duplicate(tmp_path: Path) -> None:
    sampler = make(
        tmp_path,
        "random",
        space=CONDITIONAL,
        trials=3,
        fixed={"huber_c": 0.1},
        first_trials=[{"loss": "huber", "huber_c": 0.2}, {"loss": "squared"}, {"loss": "squared", "huber_c": 0.3}],
    )
    assert suggested(sampler, "a")["params"] == {"loss": "huber", "huber_c": 0.2}
    assert suggested(sampler, "b")["params"] == {"loss": "squared"}
    assert suggested(sampler, "c")["number"] > 2
    assert sampler.study.trials[2].user_attrs["same_as"] == 1


def test_random_starts_by_sampler() -> None:
    assert [SamplerConfig(name=name).startup for name in ("learning_curves", "tpe")] == [4, 5]
    assert SamplerConfig(startup_trials=7).startup == 7


def test_a_generation_of_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="startup_trials is 1; a generation of nsga2 needs at least 2"):
        SamplerConfig(name="nsga2", startup_trials=1)
    with pytest.raises(ValidationError, match="'learning_curves', 'tpe', 'gp', 'qmc', 'random' or 'nsga2'"):
        SamplerConfig(name="cmaes")  # type: ignore[arg-type]


def test_results_of_an_earlier_search_spare_the_random_start(tmp_path: Path) -> None:
    """Five complete trials are known: the first proposal is learnt, near the best of them, and not drawn at random."""
    space: Space = {"learning_rate": FloatRange(low=0.0, high=1.0)}
    earlier = [
        optuna.trial.create_trial(
            params={"learning_rate": place},
            distributions={"learning_rate": optuna.distributions.FloatDistribution(0.0, 1.0)},
            value=-abs(place - 0.8),
        )
        for place in (0.0, 0.4, 0.75, 0.8, 1.0)
    ]
    drawn = [
        suggested(make(tmp_path, "gp", space=space, seed=seed, known=earlier), "a")["params"]["learning_rate"]
        for seed in range(3)
    ]
    assert all(0.7 < place < 0.9 for place in drawn), drawn


def test_duplicates_are_remembered_when_the_search_goes_on(tmp_path: Path) -> None:
    """Killed with one duplicate told and one waiting: neither is trained, the trial goes on, and both are told."""
    settings: Any = {
        "metric": "objective",
        "journal": tmp_path / "journal.log",
        "study_name": "anna",
        "seed": 1,
        "steps": 400,
        "trials": 3,
        "first_trials": [{"rank": rank} for rank in (4, 4, 8, 8, 16)],
    }
    space: Space = {"rank": Choice(values=(4, 8, 16))}
    killed = OptunaSampler(space, **settings)
    suggested(killed, "a")
    end(killed, "a", {400: 0.3})
    suggested(killed, "b")
    assert [suggested(killed, "c")["number"], killed.begun] == [4, 3]
    again = OptunaSampler(space, **settings)
    assert (again.begun, again.remaining, len(again.earlier)) == (3, 2, 5)
    assert [suggested(again, name)["number"] for name in "bc"] == [2, 4]
    no_more: object = again.suggest("d")
    assert no_more == Searcher.FINISHED
    end(again, "b", {400: 0.2})
    end(again, "c", {400: 0.1})
    assert [(trial.value, trial.user_attrs.get("same_as")) for trial in again.study.trials] == [
        (0.3, None),
        (0.3, 0),
        (0.2, None),
        (0.2, 2),
        (0.1, None),
    ]
    assert again.settings(again.study.trials[1]) == {"rank": 4}
