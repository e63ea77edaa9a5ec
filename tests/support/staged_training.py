"""`python -m trainer.run` that gets a signal after a step: `python staged_training.py NUMBER STEP CONFIG`."""

import os
import sys

import typer

from trainer import run
from trainer.job.job import StepReport, TrainingJob


def send(number: int, after: int) -> None:
    """Have this process send itself signal `number` as soon as it has done `after` steps."""
    step = TrainingJob.step

    def signalled(job: TrainingJob) -> StepReport:
        report = step(job)
        if job.step_count == after:
            os.kill(os.getpid(), number)
        return report

    setattr(TrainingJob, "step", signalled)  # noqa: B010 - types know no other way to replace a method


if __name__ == "__main__":
    send(int(sys.argv.pop(1)), int(sys.argv.pop(1)))
    typer.run(run.main)
