"""Clocks around functions of a library, which say where the time of a loop goes that knows nothing of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

REST = "rest"
"""The phase of everything that no clock measures."""


class Clocks:
    """Seconds by phase since the last reset. Phases do not lie within each other."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._began = time.perf_counter()

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Count the time within it to `phase`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - began

    def watch(self, owner: Any, function: str, phase: str) -> None:
        """Count all calls of a function of a module or class to `phase`, from now until the process ends."""
        watched: Callable[..., Any] = getattr(owner, function)

        @wraps(watched)
        def clocked(*arguments: Any, **options: Any) -> Any:
            with self.measure(phase):
                return watched(*arguments, **options)

        setattr(owner, function, clocked)

    def reset(self) -> None:
        """Begin again."""
        self._seconds.clear()
        self._began = time.perf_counter()

    def read(self) -> dict[str, float]:
        """Seconds by phase, the rest included: together, the time since the last reset."""
        measured = dict(self._seconds)
        return {**measured, REST: time.perf_counter() - self._began - sum(measured.values())}
