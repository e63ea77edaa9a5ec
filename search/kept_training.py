"""What a seat keeps of a training that it may not end, and how another life of a seat takes it up again."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from search.effort import NO_EFFORT, Effort
from search.job import STATE, Report, TrainJob
from trainer.files import write_file
from trainer.loop import TrainingJob

logger = logging.getLogger(__name__)

SPENT_FILE = "spent.json"
"""File in the state's folder: the effort of training since the checkpoint before, lest it be lost to the account."""


def keep_training(job: TrainJob, training: TrainingJob, spent: Effort, *, leads: bool) -> None:
    """Save the state of a training.

    Args:
        job: What is trained.
        training: As far as it has come.
        spent: On training since the last scored checkpoint.
        leads: Whether this worker writes the files of its seat.

    Raises:
        TrainingDiverged: there is nothing worth keeping.
    """
    training.save(job.folder / STATE)
    if leads:
        text = json.dumps({"training_seconds": spent.seconds, "training_cpu_seconds": spent.cpu_seconds})
        write_file(job.folder / STATE / SPENT_FILE, lambda path: path.write_text(text, "utf-8"))


def take_up(job: TrainJob, begin: Callable[[], TrainingJob]) -> tuple[TrainingJob, Effort]:
    """The training as an earlier life has left it, and what it had spent since its last checkpoint.

    Begins anew where the state is damaged or another job's, or where a checkpoint of before can no longer be reported;
    checkpoints that can be read are not scored again.

    Args:
        job: What is trained.
        begin: Makes the training as it is before its first step.
    """
    training = begin()
    state = job.folder / STATE
    if not state.exists():
        return training, NO_EFFORT
    try:
        training.restore(state)
        for step in job.score_at:
            if step < training.step_count and Report.find(job.folder / f"step-{step}") is None:
                raise ValueError(f"the report of step {step} is missing or damaged")
    except (ValueError, KeyError, TypeError) as error:
        logger.warning("job %s begins anew: %s", job.id, error)
        training.close()
        shutil.rmtree(state, ignore_errors=True)
        return begin(), NO_EFFORT
    return training, _spent(state / SPENT_FILE)


def _spent(path: Path) -> Effort:
    """None where a kill came before the file was written."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return NO_EFFORT
    # Earlier versions did not measure the processor's seconds.
    return Effort(seconds=values["training_seconds"], cpu_seconds=values.get("training_cpu_seconds"))
