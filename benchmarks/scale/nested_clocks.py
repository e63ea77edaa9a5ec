"""Clocks around functions that call each other: every second counts once, for the innermost part that is watched."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PartTime:
    """What a part has taken so far, without the parts that it calls."""

    wall: float = 0.0
    """Seconds that went by, waiting included."""
    cpu: float = 0.0
    """Processor seconds of the threads that called it."""
    calls: int = 0

    def __sub__(self, earlier: PartTime) -> PartTime:
        return PartTime(wall=self.wall - earlier.wall, cpu=self.cpu - earlier.cpu, calls=self.calls - earlier.calls)


@dataclass(kw_only=True)
class _Frame:
    """One call under way; what the calls within it have taken is taken off in the end."""

    wall: float
    cpu: float
    inner_wall: float = 0.0
    inner_cpu: float = 0.0


class NestedClocks:
    """Seconds by part, from any thread. A call that is under way counts when it has ended."""

    def __init__(self) -> None:
        self._parts: dict[str, PartTime] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Count the time within it to `part`, less what is measured inside."""
        frames: list[_Frame] = self._local.__dict__.setdefault("frames", [])
        frames.append(_Frame(wall=time.perf_counter(), cpu=time.thread_time()))
        try:
            yield
        finally:
            frame = frames.pop()
            wall, cpu = time.perf_counter() - frame.wall, time.thread_time() - frame.cpu
            if frames:
                frames[-1].inner_wall += wall
                frames[-1].inner_cpu += cpu
            with self._lock:
                known = self._parts.get(part, PartTime())
                self._parts[part] = PartTime(
                    wall=known.wall + wall - frame.inner_wall,
                    cpu=known.cpu + cpu - frame.inner_cpu,
                    calls=known.calls + 1,
                )

    def watch(self, owner: Any, function: str, part: str) -> None:
        """Count all calls of a function of a module or class to `part`, from now until the process ends."""
        watched: Callable[..., Any] = getattr(owner, function)

        @wraps(watched)
        def clocked(*arguments: Any, **options: Any) -> Any:
            with self.measure(part):
                return watched(*arguments, **options)

        setattr(owner, function, clocked)

    def read(self) -> dict[str, PartTime]:
        """What every part that was called has taken so far."""
        with self._lock:
            return dict(self._parts)
