"""A trial: submits its configuration to a worker and passes every scored checkpoint on to Tune. It holds no model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray import tune

from search.config.run_layout import RunLayout
from search.config.space import Value
from search.storage.trial_record import BEATEN, CheckpointResult, trial_id
from search.workers.client import WorkersClient
from search.workers.dispatcher import Dispatcher
from search.workers.jobs import TrainJob

if TYPE_CHECKING:
    from evaluation.scores import Anchors
    from search.config.search_config import SearchConfig


@dataclass(frozen=True, kw_only=True)
class TrialSetup:
    """What every trial of a search shares."""

    config: SearchConfig
    client: WorkersClient
    anchors: Anchors
    layout: RunLayout
    """Of the run folder, which gets one folder a trial."""


def run_trial(sample: Mapping[str, Any], *, setup: TrialSetup) -> None:
    """Tune's function trainable. `sample` is what the sampler proposed: `number` and `params`.

    Of a trial that resumes after an earlier process, reports up to the step `noted` have been passed on already.
    """
    job = train_job(setup, sample["number"], sample["params"])
    passed_on = 0
    try:
        while True:
            status = setup.client.wait(job, reports=passed_on)
            for report in status.checkpoints[passed_on:]:
                passed_on += 1
                if report.step > sample.get("noted", 0):
                    tune.report(as_tune_result(report))
            if status.ended:
                return  # A failed job reports nothing more; its reason is kept by the dispatcher.
    except SystemExit:  # Tune stops the trial. Anything else is this process's own trouble: Tune starts it again.
        # Not waited for: a trial that is being stopped has no time.
        setup.client.send(Dispatcher.stop, job.id, f"stopped early: {BEATEN}")
        raise


def as_tune_result(report: CheckpointResult) -> dict[str, Any]:
    """What Tune, its sampler and its scheduler receive of a scored checkpoint."""
    return {"step": report.step, **report.metrics}


def train_job(setup: TrialSetup, number: int, params: Mapping[str, Value]) -> TrainJob:
    """The job of trial `number`."""
    config = setup.config.training_config(params, seed=setup.config.trial_seed(number))
    every = setup.config.evaluation.every
    return TrainJob(
        id=trial_id(number),
        folder=setup.layout.trial(trial_id(number)),
        config=config,
        score_at=(*range(every, config.steps, every), config.steps),
        anchors=setup.anchors,
    )
