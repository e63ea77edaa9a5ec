"""The sampler of mode `pareto`: what the journal holds, and that stopped and faceless trials are no equals."""

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.config.search_config import load_config
from search.config.space import Choice, FloatRange, IntRange, Space
from search.study.samplers.distributions import distributions
from search.study.samplers.pareto_sampler import ParetoSampler, reported_step
from search.study.samplers.study_sampler import OptunaSampler, StudySampler
from search.study.study import make_sampler

SPACE: Space = {
    "learning_rate": FloatRange(low=1e-5, high=1e-2, log=True),
    "rank": Choice(values=(4, 8)),
    "steps": IntRange(low=50, high=150, step=50),
}
FIRST = {"learning_rate": 1e-4, "rank": 8, "steps": 150}


@pytest.fixture
def sampler(tmp_path: Path) -> ParetoSampler:
    return ParetoSampler(
        SPACE,
        maximum_faceless_rate=0.1,
        journal=tmp_path / "journal.log",
        study_name="anna",
        seed=1,
        first_trials=[FIRST],
        trials=4,
        steps=400,
    )


def loaded(tmp_path: Path) -> optuna.Study:
    """What a later process finds in the run folder."""
    return optuna.load_study(
        study_name="anna", storage=JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    )


def suggested(sampler: StudySampler, trial_id: str) -> dict[str, Any]:
    suggestion = sampler.suggest(trial_id)
    assert isinstance(suggestion, dict)
    return suggestion


def checkpoint(likeness: float, fidelity: float, faceless_rate: float = 0.0) -> dict[str, float]:
    return {
        "likeness": likeness,
        "fidelity": fidelity,
        "faceless_rate": faceless_rate,
        "objective": 0.5 * likeness + 0.3 * fidelity - 0.2 * faceless_rate,
        "search_value": 0.5 * likeness + 0.3 * fidelity - 0.2 * faceless_rate,
        "excess": 0.0,
    }


def run(sampler: StudySampler, trial_id: str, checkpoints: Mapping[int, Mapping[str, float]]) -> None:
    """Report every checkpoint and end the trial after the last, as Tune does: with other values beside ours."""
    result: dict[str, Any] = {}
    for step, values in checkpoints.items():
        result = {"step": step, "clip_score": 30.0, "training_iteration": 1, **values}
        sampler.on_trial_result(trial_id, result)
    sampler.on_trial_complete(trial_id, result)


def test_the_mode_decides_which_sampler_there_is(
    document: dict[str, Any], write_config: Callable[[dict[str, Any]], Path], tmp_path: Path
) -> None:
    path = write_config(document)
    weighted, pareto = tmp_path / "weighted", tmp_path / "pareto"
    for folder in (weighted, pareto):
        folder.mkdir()
    assert type(make_sampler(load_config(path), weighted)) is OptunaSampler
    made = make_sampler(load_config(path, ["evaluation.objective.mode=pareto"]), pareto)
    assert type(made) is ParetoSampler
    assert made.study.study_name == "pareto"
    assert suggested(made, "a")["params"] == {"learning_rate": 1e-4, "rank": 16, "alpha": 16, "steps": 150}


def test_the_study_maximises_likeness_and_fidelity(sampler: ParetoSampler, tmp_path: Path) -> None:
    study = loaded(tmp_path)
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MAXIMIZE]
    assert study.user_attrs == {"objectives": ["likeness", "fidelity"]}


def test_the_first_trial_comes_first_and_after_the_last_there_are_no_more(sampler: ParetoSampler) -> None:
    assert suggested(sampler, "a") == {"number": 0, "params": FIRST}
    assert [suggested(sampler, name)["number"] for name in "bcd"] == [1, 2, 3]
    no_more: object = sampler.suggest("e")
    assert no_more == Searcher.FINISHED


def test_a_complete_trial_is_reported_by_one_checkpoint_and_all_are_kept(
    sampler: ParetoSampler, tmp_path: Path
) -> None:
    suggested(sampler, "a")
    checkpoints = {50: checkpoint(0.2, 1.0), 100: checkpoint(0.6, 0.9, 0.05), 150: checkpoint(0.9, 0.9, 0.2)}
    run(sampler, "a", checkpoints)
    (trial,) = loaded(tmp_path).trials
    assert trial.state is TrialState.COMPLETE
    assert trial.values == [0.6, 0.9], "step 150 has more of both, but too many images without a face"
    assert trial.constraints == {"faceless_rate": pytest.approx(-0.05), "limits": 0.0}
    assert trial.user_attrs == {
        "step-50": checkpoints[50],
        "step-100": checkpoints[100],
        "step-150": checkpoints[150],
        "told_step": 100,
    }


def test_a_stopped_trial_is_reported_as_pruned_and_its_values_are_kept(sampler: ParetoSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    run(sampler, "a", {50: checkpoint(0.2, 1.0, 0.3)})
    study = loaded(tmp_path)
    (trial,) = study.trials
    assert (trial.state, trial.values) == (TrialState.PRUNED, None)
    assert trial.constraints == {"faceless_rate": pytest.approx(0.2), "limits": 0.0}
    assert trial.user_attrs == {"step-50": checkpoint(0.2, 1.0, 0.3), "told_step": 50}
    assert study.best_trials == []


@pytest.mark.parametrize("error", [True, False])
def test_a_trial_without_any_checkpoint_has_failed(error: bool, sampler: ParetoSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    sampler.on_trial_complete("a", {"trial_id": "a"}, error=error)
    (trial,) = loaded(tmp_path).trials
    assert (trial.state, trial.values, trial.user_attrs, trial.constraints) == (TrialState.FAIL, None, {}, {})


def test_a_trial_whose_process_died_too_often_has_failed_and_keeps_its_values(
    sampler: ParetoSampler, tmp_path: Path
) -> None:
    suggested(sampler, "a")
    sampler.on_trial_result("a", {"step": 50, **checkpoint(0.2, 1.0)})
    sampler.on_trial_complete("a", error=True)
    (trial,) = loaded(tmp_path).trials
    assert (trial.state, trial.values) == (TrialState.FAIL, None)
    assert trial.user_attrs == {"step-50": checkpoint(0.2, 1.0)}


def test_a_replayed_step_is_noted_once(sampler: ParetoSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    sampler.on_trial_result("a", {"step": 50, **checkpoint(0.2, 1.0)})
    before = (tmp_path / "journal.log").read_bytes()
    sampler.on_trial_result("a", {"step": 50, **checkpoint(0.7, 0.7)})
    assert (tmp_path / "journal.log").read_bytes() == before
    assert loaded(tmp_path).trials[0].user_attrs == {"step-50": checkpoint(0.2, 1.0)}


def test_a_value_that_is_not_finite_cannot_pass(sampler: ParetoSampler) -> None:
    suggested(sampler, "a")
    with pytest.raises(AssertionError, match="reported nan at step 50 as fidelity"):
        sampler.on_trial_result("a", {"step": 50, **checkpoint(0.2, 1.0), "fidelity": float("nan")})


@pytest.mark.parametrize(
    ("checkpoints", "step"),
    [
        ({50: checkpoint(0.1, 1.0), 100: checkpoint(0.6, 0.8)}, 100),  # 0.35 against 0.54
        ({100: checkpoint(0.6, 0.8), 50: checkpoint(0.6, 0.8)}, 50),  # the earlier of equals
        ({50: checkpoint(0.6, 0.8, 0.2), 100: checkpoint(0.1, 0.7, 0.1)}, 100),  # the only one within the constraint
        ({50: checkpoint(0.1, 0.7, 0.4), 100: checkpoint(0.9, 0.9, 0.5)}, 50),  # none is: the least breach
        # Beyond a limit (it repeats its training photos, say): not fit to win, however like the person.
        ({50: checkpoint(0.1, 0.7), 100: checkpoint(0.9, 0.9) | {"search_value": -0.5, "excess": 0.2}}, 50),
        # The weights of a user who sets likeness to 0: step 50 ties in the objective, but step 100 dominates it.
        (
            {
                50: checkpoint(0.1, 0.8) | {"objective": 0.8, "search_value": 0.8},
                100: checkpoint(0.6, 0.8) | {"objective": 0.8, "search_value": 0.8},
            },
            100,
        ),
    ],
)
def test_which_checkpoint_stands_for_a_trial(checkpoints: Mapping[int, Mapping[str, float]], step: int) -> None:
    assert reported_step(checkpoints, maximum_faceless_rate=0.1) == step


def test_a_search_of_two_objectives_is_whole_in_its_journal_and_can_be_gone_on_with(tmp_path: Path) -> None:
    """A curve of trade-offs: a higher rate is likelier and less faithful, and beyond 1e-3 faces are lost."""
    generator = random.Random(2)
    sampler = ParetoSampler(
        SPACE,
        maximum_faceless_rate=0.25,
        journal=tmp_path / "journal.log",
        study_name="anna",
        seed=3,
        trials=16,
        steps=400,
    )
    expected = []
    for number in range(16):
        params = suggested(sampler, str(number))["params"]
        share = (params["learning_rate"] / 1e-2) ** 0.25
        values = {
            step: checkpoint(
                share * step / 150, 1.0 - share**2 * step / 150 - 0.1 * (params["rank"] == 4), round(share / 2, 1)
            )
            for step in range(50, params["steps"] + 1, 50)
        }
        if stopped := params["steps"] > 50 and generator.random() < 0.4:
            values = {50: values[50]}
        run(sampler, str(number), values)
        reported = values[reported_step(values, maximum_faceless_rate=0.25)]
        expected.append(
            (
                TrialState.PRUNED if stopped else TrialState.COMPLETE,
                None if stopped else [reported["likeness"], reported["fidelity"]],
                {"faceless_rate": reported["faceless_rate"] - 0.25, "limits": 0.0},
                params,
                {f"step-{step}": each for step, each in values.items()},
            )
        )
    study = loaded(tmp_path)
    assert [
        (
            trial.state,
            trial.values,
            trial.constraints,
            trial.params,
            {name: value for name, value in trial.user_attrs.items() if name != "told_step"},
        )
        for trial in study.trials
    ] == expected
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    kept = {
        number: values
        for number, (_, values, constraints, *_) in enumerate(expected)
        if values is not None and constraints["faceless_rate"] <= 0
    }
    assert 0 < len(kept) < sum(trial.state is TrialState.COMPLETE for trial in study.trials), (
        "some break the constraint"
    )
    assert {trial.number for trial in study.best_trials} == {
        number
        for number, (likeness, fidelity) in kept.items()
        if not any(
            other != [likeness, fidelity] and other[0] >= likeness and other[1] >= fidelity for other in kept.values()
        )
    }
    following = study.ask(distributions(SPACE))
    assert (following.number, set(following.params)) == (16, set(SPACE))
    study.tell(following, [0.5, 0.5])
    assert loaded(tmp_path).trials[16].values == [0.5, 0.5]


@pytest.mark.parametrize(("lure", "followed"), [("stopped", False), ("faceless", False), ("complete", True)])
def test_what_was_stopped_or_lost_its_faces_is_not_followed(lure: str, followed: bool, tmp_path: Path) -> None:
    """A good trial at 0.1, one at 0.9 that looks far better, and poor ones between them."""
    places = [0.9, 0.1, 0.45, 0.5, 0.55]
    lured = (50 if lure == "stopped" else 100, checkpoint(0.9, 1.0, 0.3 if lure == "faceless" else 0.0))
    ends = [lured, (100, checkpoint(0.3, 0.9)), *[(100, checkpoint(0.1, 0.5))] * 3]
    sampler = ParetoSampler(
        {"learning_rate": FloatRange(low=0.0, high=1.0)},
        maximum_faceless_rate=0.1,
        journal=tmp_path / "journal.log",
        study_name="anna",
        seed=0,
        first_trials=[{"learning_rate": place} for place in places],
        trials=17,
        steps=100,
    )
    for number, (place, (step, values)) in enumerate(zip(places, ends, strict=True)):
        assert suggested(sampler, str(number))["params"] == {"learning_rate": place}
        run(sampler, str(number), {step: values})
    proposed = []
    for number in range(5, 17):
        proposed.append(suggested(sampler, str(number))["params"]["learning_rate"])
        sampler.on_trial_complete(str(number), error=True)  # nothing is learnt from these
    assert [value > 0.5 for value in proposed] == [followed] * 12


def test_a_trial_of_an_earlier_part_goes_on_with_its_checkpoints(sampler: ParetoSampler, tmp_path: Path) -> None:
    suggested(sampler, "a")
    sampler.on_trial_result("a", {"step": 50, **checkpoint(0.5, 0.9)})
    sampler.on_trial_result("a", {"step": 100, **checkpoint(0.2, 0.8)})
    again = ParetoSampler(
        SPACE,
        maximum_faceless_rate=0.1,
        journal=tmp_path / "journal.log",
        study_name="anna",
        seed=1,
        first_trials=[FIRST],
        trials=4,
        steps=400,
    )
    assert again.noted(again.earlier[0]) == {50: checkpoint(0.5, 0.9), 100: checkpoint(0.2, 0.8)}
    assert suggested(again, "x") == {"number": 0, "params": FIRST, "noted": 100}
    again.on_trial_complete("x", {"step": 150, **checkpoint(0.1, 0.7)})
    (trial,) = loaded(tmp_path).trials
    assert (trial.state, trial.values, trial.user_attrs["told_step"]) == (TrialState.COMPLETE, [0.5, 0.9], 50)
