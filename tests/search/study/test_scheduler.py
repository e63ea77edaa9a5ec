"""Early stopping: on our own step, and never of the trials that the champion is compared with."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search.config.search_config import load_config
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.study.scheduler import AshaScheduler, scheduler

Write = Callable[[dict[str, Any]], Path]

NO_CONTROLLER: Any = None
"""Tune's, which is not asked."""


@pytest.fixture
def asha(document: dict[str, Any], write_config: Write) -> AshaScheduler:
    document["stopping"] = {"grace_period": 50, "reduction_factor": 2}
    made = scheduler(load_config(write_config(document)))
    assert isinstance(made, AshaScheduler)
    return made


def trial(number: int, steps: int = 150) -> Any:
    """A trial as far as a scheduler looks at it."""
    return SimpleNamespace(trial_id=str(number), config={"number": number, "params": {"steps": steps}})


def decide(asha: AshaScheduler, number: int, step: int, value: float, *, steps: int = 150) -> str:
    result = {"step": step, "search_value": value, "training_iteration": 1}
    return asha.on_trial_result(NO_CONTROLLER, trial(number, steps), result)


def test_the_worse_half_stops_at_a_rung_and_the_first_trial_never_does(asha: AshaScheduler) -> None:
    assert decide(asha, 1, 50, 0.5) == TrialScheduler.CONTINUE
    assert decide(asha, 2, 50, 0.9) == TrialScheduler.CONTINUE
    assert decide(asha, 3, 50, 0.1) == TrialScheduler.STOP
    assert decide(asha, 0, 50, 0.0) == TrialScheduler.CONTINUE, "trial 0 is what the champion is compared with"
    assert decide(asha, 4, 50, 1.0) == TrialScheduler.CONTINUE


def test_values_of_an_exempt_trial_count_for_the_others(asha: AshaScheduler) -> None:
    assert decide(asha, 0, 50, 0.9) == TrialScheduler.CONTINUE
    assert decide(asha, 1, 50, 0.1) == TrialScheduler.STOP


def test_before_the_grace_period_and_at_the_end_nothing_is_stopped(asha: AshaScheduler) -> None:
    assert decide(asha, 1, 100, 0.9) == TrialScheduler.CONTINUE
    assert decide(asha, 2, 100, 0.1, steps=100) == TrialScheduler.CONTINUE
    assert decide(asha, 3, 100, 0.1) == TrialScheduler.STOP
    assert decide(asha, 4, 25, -1.0) == TrialScheduler.CONTINUE


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
    assert decide(asha, 3, 50, 0.6) == TrialScheduler.STOP, "the median of the others is 0.7"
    assert decide(asha, 4, 50, 0.8) == TrialScheduler.CONTINUE
    # Trial 1 goes on: what it had at step 50 was decided on then, and is not taken for its value at step 100.
    assert decide(asha, 1, 100, 0.1) == TrialScheduler.CONTINUE, "the first at this rung"
    assert decide(asha, 4, 100, 0.05) == TrialScheduler.STOP


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("grace_period", "factor"), [(50, 2), (50, 3), (20, 2.5)])
def test_it_decides_as_rays_own_asha(
    seed: int, grace_period: int, factor: float, document: dict[str, Any], write_config: Write
) -> None:
    """On forty trials of up to 300 steps, which come in any order; but for the first trial, which goes on."""
    document["space"]["steps"] = {"low": 50, "high": 300, "step": 50}
    document["stopping"] = {"grace_period": grace_period, "reduction_factor": factor}
    ours = scheduler(load_config(write_config(document)))
    assert isinstance(ours, AshaScheduler)
    rays = AsyncHyperBandScheduler(
        metric="search_value",
        mode="max",
        time_attr="step",
        max_t=300,
        grace_period=grace_period,
        reduction_factor=factor,
        stop_last_trials=False,
    )
    random = np.random.default_rng(seed)
    lengths = [int(steps) for steps in random.choice([50, 100, 150, 200, 250, 300], 40)]
    running = dict.fromkeys(range(40), 0)
    stopped = set()
    for number in running:
        rays.on_trial_add(NO_CONTROLLER, trial(number))
    while running:
        number = int(random.choice(list(running)))
        step = running[number] = running[number] + 50
        result = {"step": step, "search_value": float(random.normal()), "training_iteration": 1}
        theirs = rays.on_trial_result(NO_CONTROLLER, trial(number), result)
        decision = decide(ours, number, step, result["search_value"], steps=lengths[number])
        if step < lengths[number] and number > 0:
            assert decision == theirs
        elif step == lengths[number]:
            assert decision == TrialScheduler.CONTINUE
        if decision == TrialScheduler.STOP:
            stopped.add(number)
        if decision == TrialScheduler.STOP or step == lengths[number]:
            del running[number]
    assert len(stopped) > 5
