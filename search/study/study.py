"""The study: Tune runs the trials, Optuna proposes them, the scheduler stops the hopeless ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ray import tune

from evaluation.measures import SEARCH_VALUE
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig
from search.storage.trial_record import TrialRecord
from search.study.callback import TrialCallback
from search.study.samplers.pareto_sampler import ParetoSampler
from search.study.samplers.study_sampler import OptunaSampler, StudySampler, StudySettings
from search.study.samplers.warm_start import warm_start
from search.study.scheduler import scheduler
from search.study.stop import Stop
from search.study.trial import TrialSetup, run_trial
from search.workers.client import WorkersClient
from search.workers.dispatcher import Dispatcher

TRIAL_MEMORY = 8 * 2**20
"""Bytes of memory a trial reserves. A trial computes nothing, but Tune insists on some resource: a reserved CPU would
be taken from the workers, and on a small machine nothing would ever start."""

TRIAL_RESTARTS = 2
"""How often Tune starts a trial again whose own process died; the worker's training goes on meanwhile."""


class _StudyStopper(tune.Stopper):
    """Ends Tune's loop when a stop is asked for. Tune then tells sampler and callback of no ends.

    That leaves the trials unfinished in the journal, as they are.
    """

    def __init__(self, stop: Stop, client: WorkersClient) -> None:
        self._stop = stop
        self._client = client
        self._paused = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._stop.requested and not self._paused:
            # Before Tune stops the trials: a stopped trial takes its job from the worker, and its state is lost.
            self._client.call(Dispatcher.pause, self._stop.reason)
            self._paused = True
        return self._paused


def run_study(
    config: SearchConfig,
    setup: TrialSetup,
    callback: TrialCallback,
    sampler: StudySampler,
    stop: Stop,
    *,
    earlier: Sequence[TrialRecord] = (),
    workers: int,
) -> None:
    """Run all trials to their ends, or until a stop is asked for; the outcome is in the callback's records.

    Args:
        config: The search.
        setup: What the trials share.
        callback: Told of every event.
        sampler: Proposes.
        stop: Looked at in every turn of Tune's loop. After it the dispatcher is paused.
        earlier: What became of the trials in earlier parts of the search.
        workers: Trials that can train at once; one more is kept waiting, so that no worker ever waits for a proposal.
    """
    if not sampler.remaining:
        return
    sampler.on_duplicate = callback.duplicate
    # The driver's own handling of Ctrl-C must stay: Tune's would swallow it.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    # The terminal belongs to the search's own progress; Tune's newer output engine prints even when told not to.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # A trial that fails before its first checkpoint ends without the metric; that must not end the others.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    tuner = tune.Tuner(
        tune.with_resources(partial(run_trial, setup=setup), {"memory": TRIAL_MEMORY}),
        tune_config=tune.TuneConfig(
            search_alg=sampler,
            scheduler=scheduler(config, earlier),
            metric=SEARCH_VALUE,  # in every mode: Tune wants one number, sampler and scheduler read what they need
            mode="max",
            num_samples=sampler.remaining,
            max_concurrent_trials=workers + 1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(setup.layout.ray),
            failure_config=tune.FailureConfig(max_failures=TRIAL_RESTARTS),
            callbacks=[callback],
            stop=_StudyStopper(stop, setup.client),
            verbose=0,
        ),
    )
    with stop.watching():
        tuner.fit()


def make_sampler(config: SearchConfig, run_folder: Path) -> StudySampler:
    """The sampler of the configured mode; its journal lies in the run folder.

    Args:
        config: The search.
        run_folder: Gets the journal.

    Raises:
        ConfigurationError: the earlier search of a warm start cannot be used.
    """
    known = warm_start(config)
    first = [config.nearest_draw(params) for params in config.first_trials]
    settings: StudySettings = {
        "journal": RunLayout(run_folder).journal,
        "study_name": run_folder.name,
        "seed": config.seed,
        "first_trials": [*first, *(draw for draw in known.first_trials if draw not in first)],
        "trials": config.trials,
        "steps": config.training.steps,
        "fixed": vars(config.training),
        "sampler": config.sampler,
        "known": known.results,
    }
    objective = config.evaluation.objective
    if objective.mode == "pareto":
        return ParetoSampler(config.space, maximum_faceless_rate=objective.maximum_faceless_rate, **settings)
    return OptunaSampler(config.space, metric=SEARCH_VALUE, **settings)
