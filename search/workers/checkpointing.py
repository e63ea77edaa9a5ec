"""What a worker saves of a training that it may not end, and how a worker resumes it."""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search.config.run_layout import STATE_FOLDER, checkpoint_folder
from search.storage.trial_record import CheckpointResult
from search.workers.jobs import TrainJob
from search.workers.stopwatch import NO_EFFORT, Effort
from trainer.files import write_file
from trainer.job.job import FINITE_CHECK_STEPS, TrainingJob

logger = logging.getLogger(__name__)

SPENT_FILE = "spent.json"
"""File in a state's folder: the effort of training since the last checkpoint, which counts for the next one."""

KEPT_STATES = 2
"""The newest and the one before, should the newest turn out to be damaged."""

STATE_SECONDS = {"cpu": 5.0, "cuda": 30.0}
"""Between two states, at least, by the kind of device: what a killed worker loses at most, and a little more. A GPU
stands still while a state is written, and starting a worker on it anew costs more than half a minute of steps."""
STATE_SHARE = 20.0
"""How many times longer than the writing of a state it takes at least to the next: slow storage costs a twentieth."""


@dataclass(frozen=True, kw_only=True)
class RestoredTraining:
    """A training as it was when its worker was lost or stopped, or before its first step."""

    training: TrainingJob
    spent: Effort = NO_EFFORT
    """On training since its last checkpoint."""
    remarks: tuple[str, ...] = ()
    """What a user should know of it: which states could not be used and why."""


class StateSaver:
    """Saves the states of one job, in `state/step-N`.

    Args:
        job: What is trained.
        leads: Whether this process writes the files of its worker.
        step: Of the state that the training was resumed from, which is there already.
        seconds: Between two states, at least.
        now: Seconds of any steady clock.
    """

    def __init__(
        self,
        job: TrainJob,
        *,
        leads: bool,
        step: int = 0,
        seconds: float = STATE_SECONDS["cpu"],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = job.folder / STATE_FOLDER
        self._leads = leads
        self._step = step
        self._now = now
        self._seconds = seconds
        self._due = now() + seconds

    def save(self, training: TrainingJob, spent: Effort) -> None:
        """Save the state of a training, unless that of this step is there: what is whole is not replaced by the same.

        Args:
            training: As far as it has come.
            spent: On training since the last scored checkpoint.

        Raises:
            TrainingDiverged: there is nothing worth saving.
            StorageError: the state could not be written; those before are as they were.
        """
        if training.step_count == self._step:
            return
        began = self._now()
        state = checkpoint_folder(self._folder, training.step_count)
        training.save(state)
        if self._leads:
            text = json.dumps({"training_seconds": spent.seconds, "training_cpu_seconds": spent.cpu_seconds})
            write_file(state / SPENT_FILE, lambda path: path.write_text(text, "utf-8"))
            for former in _states(self._folder)[KEPT_STATES:]:
                shutil.rmtree(former, ignore_errors=True)
        self._step = training.step_count
        self._due = self._now() + max(self._seconds, STATE_SHARE * (self._now() - began))

    def save_if_due(self, training: TrainingJob, spent: Effort) -> None:
        """Save the state if the last one is old enough and all processes know the loss to be finite; raises as
        `save`."""
        if self._leads and self._now() >= self._due and training.step_count % FINITE_CHECK_STEPS == 0:
            self.save(training, spent)


def restore(job: TrainJob, begin: Callable[[], TrainingJob]) -> RestoredTraining:
    """The training as its newest usable state has it.

    Where the newest state is damaged or another job's, or where a checkpoint before it can no longer be reported, the
    state before it is used, and if that is no better the training starts again; checkpoints that can be read are not
    scored again.

    Args:
        job: What is trained.
        begin: Makes the training as it is before its first step.
    """
    training = begin()
    spent, instead = NO_EFFORT, "started again"
    refused: list[tuple[str, str]] = []
    for state in _states(job.folder / STATE_FOLDER):
        try:
            training.restore(state)
            for step in job.score_at:
                if step < training.step_count and CheckpointResult.find(checkpoint_folder(job.folder, step)) is None:
                    raise ValueError(f"the report of step {step} is missing or damaged")
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("job %s cannot resume from %s: %s", job.id, state, error)
            refused.append((state.name, str(error)))
            shutil.rmtree(state, ignore_errors=True)
            training.close()
            training = begin()
        else:
            spent, instead = _spent(state / SPENT_FILE), f"resumed from {state.name}"
            break
    remarks = (f"could not resume from its state {name} and {instead}: {error}" for name, error in refused)
    return RestoredTraining(training=training, spent=spent, remarks=tuple(remarks))


def _states(folder: Path) -> list[Path]:
    """The whole states, the newest first."""
    steps = {int(match[1]): path for path in folder.glob("*") if (match := re.fullmatch(r"step-(\d+)", path.name))}
    return [steps[step] for step in sorted(steps, reverse=True)]


def _spent(path: Path) -> Effort:
    """No effort where a kill came before the file was written."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return NO_EFFORT
    # Earlier versions did not measure the processor's seconds.
    return Effort(seconds=values["training_seconds"], cpu_seconds=values.get("training_cpu_seconds"))
