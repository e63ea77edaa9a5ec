"""Progress of one training run: a bar on a terminal, a line now and then in a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from torch import Tensor

from trainer.job.job import StepReport

TERMINAL_SECONDS = 0.5
PIPE_SECONDS = 10.0


class TrainingProgress:
    """Shows step, loss, learning rate, steps a second and time left.

    The loss is averaged over the steps since it was last shown, since one step's says little. Only when something is
    shown does it wait for the device.

    Args:
        steps: of the whole run.
        first_step: steps done before this process began, 0 unless it resumes.
        console: where to write.
        clock: seconds from any moment on.
    """

    def __init__(
        self, steps: int, first_step: int, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._steps = steps
        self._first_step = first_step
        self._console = console
        self._clock = clock
        self._began = self._shown = clock()
        self._losses: list[Tensor] = []
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            self._bar = Progress(BarColumn(), TextColumn("{task.description}", markup=False), console=console)
            self._task = self._bar.add_task("measuring", total=steps, completed=first_step)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stepped(self, report: StepReport) -> None:
        """A step was done."""
        self._losses.append(report.loss_tensor)
        wait = PIPE_SECONDS if self._bar is None else TERMINAL_SECONDS
        if report.step < self._steps and self._clock() - self._shown < wait:
            return
        text = self._line(report)
        self._shown = self._clock()
        self._losses.clear()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=report.step, description=text)
        else:
            self.note(text)

    def note(self, text: str) -> None:
        """Something to know, on a line of its own."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _line(self, report: StepReport) -> str:
        loss = sum(float(loss) for loss in self._losses) / len(self._losses)
        rates = ", ".join(f"{part} {rate:.2e}" for part, rate in report.learning_rates.items())
        speed = (report.step - self._first_step) / max(self._clock() - self._began, 1e-9)
        left = timedelta(seconds=round((self._steps - report.step) / speed))
        return f"step {report.step}/{self._steps}  loss {loss:.4f}  rate {rates}  {speed:.2f} steps/s  {left} left"
