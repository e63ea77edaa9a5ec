"""A round: some trials of a fixed list, run to their ends with Tune, and the moments at which their results were in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from benchmarks.trial_overhead.timeline import occupied
from search.config.space import Value
from search.study.study import TRIAL_MEMORY


@dataclass(frozen=True, kw_only=True)
class Result:
    """What Tune was told of a trial."""

    at: float
    """When, in the driver (Unix time)."""
    metrics: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Round:
    """Trials that one side has run."""

    slots: int
    """Trials that computed at once."""
    began: float
    """When they were submitted (Unix time)."""
    results: Mapping[int, Result]
    """The last result of every trial by the trial's number, in the order of submission."""

    @property
    def wall(self) -> float:
        """Seconds from submission to the last result."""
        return max(result.at for result in self.results.values()) - self.began

    @property
    def occupied(self) -> dict[int, float]:
        """Seconds that each trial occupied its slot, by number."""
        moments = [result.at for result in self.results.values()]
        return dict(zip(self.results, occupied(self.began, moments, self.slots), strict=True))


class _Recorder(tune.Callback):
    def __init__(self) -> None:
        self.results: dict[int, Result] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Tune calls it once a report, and once more when the trial is done."""
        number = trial.config["number"]
        if "step" in result and number not in self.results:
            self.results[number] = Result(at=time.time(), metrics=dict(result))


def run_round(
    trainable: Callable[[dict[str, Any]], None],
    configurations: Mapping[int, Mapping[str, Value]],
    *,
    slots: int,
    waiting: int,
    folder: Path,
) -> Round:
    """Run one trial a configuration, each of which reports once.

    Args:
        trainable: Tune's function trainable; is given `number` and `params`.
        configurations: What each trial tries, by number.
        slots: Trials that compute at once.
        waiting: Trials that are submitted beyond these, and wait for a slot.
        folder: Gets Tune's own files.

    Raises:
        RuntimeError: a trial gave no result.
    """
    recorder = _Recorder()
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"memory": TRIAL_MEMORY}),
        param_space={
            "number": tune.grid_search(list(configurations)),
            "params": tune.sample_from(lambda sample: dict(configurations[sample["number"]])),
        },
        tune_config=tune.TuneConfig(max_concurrent_trials=slots + waiting, reuse_actors=True),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(folder),
            failure_config=tune.FailureConfig(fail_fast=True),
            callbacks=[recorder],
            verbose=0,
        ),
    )
    began = time.time()
    grid = tuner.fit()
    if missing := sorted(set(configurations) - set(recorder.results)):
        reason = str(grid.errors[0]).strip().splitlines()[-1] if grid.errors else "none says why"
        raise RuntimeError(f"trials {missing} gave no result: {reason}")
    return Round(slots=slots, began=began, results={number: recorder.results[number] for number in configurations})
