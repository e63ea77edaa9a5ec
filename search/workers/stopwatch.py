"""Effort: what a piece of a worker's work has taken, by the wall's clock and by that of the processor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Of one process."""

    seconds: float
    """By the wall's clock: what other work on the machine takes from the worker is in it."""
    cpu_seconds: float | None
    """Of the processor in all threads of the process: more than the wall's with several threads, and little where a GPU
    does the work. None where a part of the work was not measured so."""


NO_EFFORT = Effort(seconds=0.0, cpu_seconds=0.0)


class Stopwatch:
    """Runs from when it is made.

    Args:
        before: Effort that is added to every reading, such as that before a training was resumed.
        wall: Seconds of any steady clock.
        cpu: Seconds of the processor that this process has used.
    """

    def __init__(
        self,
        before: Effort = NO_EFFORT,
        *,
        wall: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._before = before
        self._wall, self._cpu = wall, cpu
        self._began = wall(), cpu()

    def read(self) -> Effort:
        """The effort so far; it runs on."""
        wall, cpu = self._began
        before = self._before.cpu_seconds
        return Effort(
            seconds=self._before.seconds + self._wall() - wall,
            cpu_seconds=None if before is None else before + self._cpu() - cpu,
        )
