"""The peer: one stock `TorchTrainer` for every Tune trial, the way Ray's guide combines Train V2 with Tune.

https://docs.ray.io/en/latest/train/user-guides/hyperparameter-optimization.html: Tune's function trainable builds a
trainer whose run is named after the trial, and `TuneReportCallback` passes the worker's reports on to Tune. Inside the
worker the same job runner does the same job as in a seat; it only has to be loaded first, in every trial.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray.train
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

if TYPE_CHECKING:
    from search.storage.trial_record import CheckpointResult
    from search.workers.jobs import TrainJob
    from search.workers.setup import RunnerSetup

BEGAN, LOADED = "began", "loaded"
"""Reported beside the metrics (Unix time): the worker's function began; it had loaded models and photos."""


def run_stock_trial(
    sample: Mapping[str, Any], *, jobs: Mapping[int, TrainJob], runner: RunnerSetup, folder: Path
) -> None:
    """Tune's function trainable: does the job that `sample["number"]` names, in a trainer of its own.

    Args:
        sample: What Tune proposed.
        jobs: The job of every trial.
        job runner: What the worker loads.
        folder: Gets Ray Train's own files.
    """
    trainer = TorchTrainer(
        _train,
        train_loop_config={"job": jobs[sample["number"]], "runner": runner},
        scaling_config=ray.train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": float(runner.threads)}),
        run_config=ray.train.RunConfig(
            name=f"train-trial_id={tune.get_context().get_trial_id()}",
            storage_path=str(folder),
            callbacks=[TuneReportCallback()],  # type: ignore[list-item] # Ray annotates V1's callbacks
        ),
    )
    trainer.fit()


def _train(config: Mapping[str, Any]) -> None:
    """The worker's function."""
    began = time.time()
    from search.workers.runner import JobRunner

    runner = JobRunner(config["runner"])
    loaded = time.time()

    def report(scored: CheckpointResult | None) -> bool:
        assert scored is not None, "the only worker scores every checkpoint"
        ray.train.report({"step": scored.step, **scored.metrics, BEGAN: began, LOADED: loaded})
        return True

    runner.do(config["job"], report=report, go_on=lambda step: True)
