"""Jobs for a job runner that is not in a worker, and the doing of them."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.scores import Anchors
from search.storage.trial_record import CheckpointResult
from search.workers.jobs import Job, TrainJob
from trainer.config import TrainingConfig

if TYPE_CHECKING:
    from search.workers.runner import JobRunner


def do(
    runner: "JobRunner", job: Job, go_on: Callable[[int], bool] = lambda step: True, *, keeps_state: bool = False
) -> list[CheckpointResult]:
    """The reports of a job.

    Args:
        runner: Does it.
        job: What is to be done.
        go_on: Asked after each step whether the training is to go on.
        keeps_state: Whether a training that is to end saves its state.
    """
    reports: list[CheckpointResult] = []

    def keep(report: CheckpointResult | None) -> bool:
        assert report is not None
        reports.append(report)
        return True

    runner.do(job, report=keep, go_on=go_on, keeps_state=lambda: keeps_state)
    return reports


def short_job(anchors: Anchors, folder: Path) -> TrainJob:
    """A training of eight steps in `folder`, scored after four and eight."""
    config = TrainingConfig(
        learning_rate=3e-3, rank=4, alpha=4, steps=8, batch_size=2, lr_warmup_steps=2, resolution=64, seed=3
    )
    return TrainJob(id="000", folder=folder, config=config, score_at=(4, 8), anchors=anchors)
