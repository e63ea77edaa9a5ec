"""Stopping in mode `pareto`, decision by decision."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.config.search_config import SearchConfig, load_config
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.study.scheduler import ParetoScheduler, scheduler

Write = Callable[[dict[str, Any]], Path]
GO, STOP = TrialScheduler.CONTINUE, TrialScheduler.STOP


@pytest.fixture
def config(document: dict[str, Any], write_config: Write) -> SearchConfig:
    """One first trial; rungs at 50, 100 and 200 of 400 steps."""
    document["space"]["steps"] = {"low": 100, "high": 400, "step": 50}
    document["training"]["steps"] = 400
    document["stopping"] = {"grace_period": 50, "reduction_factor": 2}
    document["evaluation"]["objective"] = {"mode": "pareto", "maximum_faceless_rate": 0.1}
    return load_config(write_config(document))


@pytest.fixture
def stopping(config: SearchConfig) -> ParetoScheduler:
    return ParetoScheduler(config)


def decide(
    stopping: ParetoScheduler,
    number: int,
    step: int,
    likeness: float,
    fidelity: float,
    *,
    faceless_rate: float = 0.0,
    steps: int | None = None,
) -> str:
    params = {} if steps is None else {"steps": steps}
    trial: Any = SimpleNamespace(trial_id=str(number), config={"number": number, "params": params})
    result = {
        "step": step,
        "likeness": likeness,
        "fidelity": fidelity,
        "faceless_rate": faceless_rate,
        "objective": 0.5,
        "search_value": 0.5,
        "excess": 0.0,
    }
    return stopping.on_trial_result(None, trial, {**result, "training_iteration": 1})  # type: ignore[arg-type]


def test_the_mode_decides_which_scheduler_there_is(document: dict[str, Any], write_config: Write) -> None:
    document["stopping"] = {"grace_period": 20, "reduction_factor": 2}
    document["evaluation"]["objective"] = {"mode": "pareto", "maximum_faceless_rate": 0.25}
    made = scheduler(load_config(write_config(document)))
    assert isinstance(made, ParetoScheduler)
    assert list(made._rungs) == [20, 40, 80], "grace_period x reduction_factor^k below the longest trial's 150 steps"
    assert decide(made, 1, 20, 0.5, 0.9, faceless_rate=0.25) == GO
    assert decide(made, 2, 20, 0.5, 0.9, faceless_rate=0.25) == GO
    assert decide(made, 0, 20, 0.1, 0.1, faceless_rate=0.26) == GO, "one first trial is exempt"
    assert decide(made, 3, 20, 0.9, 0.9, faceless_rate=0.26) == STOP, "the configured constraint counts"


@pytest.mark.parametrize("settings", [{"enabled": False}, {"grace_period": 150}])
def test_without_room_for_a_rung_trials_run_to_their_ends(
    settings: dict[str, Any], document: dict[str, Any], write_config: Write
) -> None:
    document["stopping"] = settings
    document["evaluation"]["objective"] = {"mode": "pareto"}
    assert type(scheduler(load_config(write_config(document)))) is FIFOScheduler


def test_what_enough_others_dominate_at_a_rung_is_stopped(stopping: ParetoScheduler) -> None:
    assert decide(stopping, 1, 50, 0.5, 0.9) == GO
    assert decide(stopping, 2, 50, 0.4, 0.8) == GO, "dominated by all others, but that is one"
    assert decide(stopping, 3, 50, 0.6, 0.7) == GO, "dominated by nobody"
    assert decide(stopping, 4, 50, 0.4, 0.75) == STOP, "by 1 and 2: two of three, at least half"
    assert decide(stopping, 5, 50, 0.45, 0.65) == STOP, "by 1 and 3: two of four, exactly half"
    assert decide(stopping, 6, 50, 0.55, 0.72) == GO, "by none of five: likelier than 1, more faithful than 3"
    assert decide(stopping, 7, 50, 0.42, 0.72) == GO, "by 1 and 6: two of six"


def test_equal_points_do_not_stop_each_other(stopping: ParetoScheduler) -> None:
    assert [decide(stopping, number, 50, 0.5, 0.9) for number in range(1, 6)] == [GO] * 5


def test_breaking_the_constraint_is_being_dominated(stopping: ParetoScheduler) -> None:
    for number in (1, 2):
        assert decide(stopping, number, 50, 0.1, 0.5) == GO
    assert decide(stopping, 3, 50, 0.9, 0.9, faceless_rate=0.1) == GO
    assert decide(stopping, 4, 50, 0.9, 0.9, faceless_rate=0.2) == STOP


def test_the_first_trials_go_on_and_count_for_the_others(stopping: ParetoScheduler) -> None:
    for number in (1, 2):
        assert decide(stopping, number, 50, 0.5, 0.9) == GO
    assert decide(stopping, 0, 50, 0.1, 0.1) == GO
    assert decide(stopping, 3, 50, 0.05, 0.05) == STOP, "by three of three"
    assert decide(stopping, 4, 50, 0.05, 0.05) == STOP


def test_below_the_first_rung_nothing_is_compared(stopping: ParetoScheduler) -> None:
    assert [decide(stopping, number, 49, 0.5 - number / 10, 0.5) for number in range(1, 5)] == [GO] * 4
    assert decide(stopping, 5, 50, 0.0, 0.0) == GO, "nobody has reached the rung yet"


def test_a_trial_at_its_last_step_has_run_to_its_end(stopping: ParetoScheduler) -> None:
    for number in (1, 2):
        assert decide(stopping, number, 100, 0.5, 0.9) == GO
    assert decide(stopping, 3, 100, 0.1, 0.1, steps=100) == GO
    assert decide(stopping, 4, 100, 0.1, 0.1, steps=150) == STOP
    assert decide(stopping, 5, 400, 0.1, 0.1) == GO, "the configuration's own number of steps"


def test_a_report_counts_at_the_highest_rung_it_has_reached_and_once(stopping: ParetoScheduler) -> None:
    assert list(stopping._rungs) == [50, 100, 200]
    for number in (1, 2):
        assert decide(stopping, number, 120, 0.5, 0.9) == GO
    # Rung 50 is empty: these are the first to be compared there.
    assert decide(stopping, 3, 60, 0.1, 0.1) == GO
    assert decide(stopping, 3, 80, 0.0, 0.0) == GO, "compared at rung 50 already"
    assert decide(stopping, 3, 110, 0.1, 0.1) == STOP, "at rung 100 by both"
    assert decide(stopping, 3, 110, 0.1, 0.1) == GO, "a replayed step is no new decision"


def test_trials_of_earlier_parts_of_a_search_are_compared_with(
    config: SearchConfig, make_checkpoint: Callable[..., CheckpointResult]
) -> None:
    records = [TrialRecord(id=f"{number:03d}", params={}, steps=400) for number in (1, 2)]
    for record in records:
        record.add(make_checkpoint(50, 0.6))  # likeness 0.6, fidelity 1
        record.add(make_checkpoint(60, 0.0))  # counts at no rung: the one at 50 was the first
    stopping = ParetoScheduler(config, records)
    assert decide(stopping, 3, 50, 0.5, 0.9) == STOP
    assert decide(stopping, 4, 50, 0.7, 0.9) == GO
    assert decide(stopping, 1, 60, 0.0, 0.0) == GO, "it was compared at this rung before"
