"""Early stopping: on our own step, and never of the trials that the champion is compared with."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.config.search_config import load_config
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.study.scheduler import AshaScheduler, scheduler

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def asha(document: dict[str, Any], write_config: Write) -> AshaScheduler:
    document["stopping"] = {"grace_period": 50, "reduction_factor": 2}
    made = scheduler(load_config(write_config(document)))
    assert isinstance(made, AshaScheduler)
    made.set_search_properties("objective", "max")
    return made


def decide(asha: AshaScheduler, number: int, step: int, objective: float) -> str:
    trial: Any = SimpleNamespace(trial_id=str(number), config={"number": number})
    if trial.trial_id not in asha._trial_info:
        asha.on_trial_add(None, trial)  # type: ignore[arg-type] # the controller is not asked
    return asha.on_trial_result(None, trial, {"step": step, "objective": objective, "training_iteration": 1})  # type: ignore[arg-type]


def test_the_worse_half_stops_at_a_rung_and_the_first_trial_never_does(asha: AshaScheduler) -> None:
    assert decide(asha, 1, 50, 0.5) == TrialScheduler.CONTINUE
    assert decide(asha, 2, 50, 0.9) == TrialScheduler.CONTINUE
    assert decide(asha, 3, 50, 0.1) == TrialScheduler.STOP
    assert decide(asha, 0, 50, 0.0) == TrialScheduler.CONTINUE, "trial 0 is what the champion is compared with"
    assert decide(asha, 4, 50, 1.0) == TrialScheduler.CONTINUE


def test_values_of_a_spared_trial_count_for_the_others(asha: AshaScheduler) -> None:
    assert decide(asha, 0, 50, 0.9) == TrialScheduler.CONTINUE
    assert decide(asha, 1, 50, 0.1) == TrialScheduler.STOP


def test_before_the_grace_period_and_at_the_end_nothing_is_stopped(asha: AshaScheduler) -> None:
    assert decide(asha, 1, 150, 0.9) == TrialScheduler.CONTINUE
    assert decide(asha, 2, 25, -1.0) == TrialScheduler.CONTINUE


@pytest.mark.parametrize("stopping", [{"enabled": False}, {"grace_period": 150}])
def test_without_room_for_a_rung_trials_run_to_their_ends(
    stopping: dict[str, Any], document: dict[str, Any], write_config: Write
) -> None:
    document["stopping"] = stopping
    assert isinstance(scheduler(load_config(write_config(document))), FIFOScheduler)


def test_what_earlier_parts_of_a_search_have_scored_counts_at_every_rung(
    document: dict[str, Any], write_config: Write, make_checkpoint: Callable[..., CheckpointResult]
) -> None:
    document["stopping"] = {"grace_period": 50, "reduction_factor": 2}
    records = [TrialRecord(id=f"{number:03d}", params={}, steps=150) for number in (1, 2)]
    for record, value in zip(records, (0.5, 0.9), strict=True):
        record.add(make_checkpoint(50, value))
    asha = scheduler(load_config(write_config(document)), records)
    assert isinstance(asha, AshaScheduler)
    asha.set_search_properties("objective", "max")
    assert decide(asha, 3, 50, 0.6) == TrialScheduler.STOP, "the median of the others is 0.7"
    assert decide(asha, 4, 50, 0.8) == TrialScheduler.CONTINUE
    # Trial 1 goes on: what it had at step 50 was decided on then, and is not taken for its value at step 100.
    assert decide(asha, 1, 100, 0.1) == TrialScheduler.CONTINUE, "the first at this rung"
    assert decide(asha, 4, 100, 0.05) == TrialScheduler.STOP
