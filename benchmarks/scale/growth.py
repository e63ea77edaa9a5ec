"""Growth: what each trial adds to the driver's work, between looks at it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

GROWN = 0.1
"""Share of a trial's whole processor time, early in a search, by which a part must grow to be named."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The driver after so many trials have ended. Seconds and bytes since its process began."""

    trials: int
    wall: float
    cpu: float
    """Processor seconds of all threads of the driver."""
    parts: Mapping[str, float]
    """Processor seconds by part."""
    driver_memory: int
    """Bytes in main memory."""
    dispatcher_memory: int
    """Of the dispatcher's process, which keeps the reports."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """What one trial has added, on average, between two looks."""

    first: int
    last: int
    wall: float
    cpu: float
    parts: Mapping[str, float]
    driver_memory: float
    dispatcher_memory: float

    def grew(self, part: str, early: Window) -> bool:
        """Whether a part takes more than in an early window, by `GROWN` of that window's whole processor time."""
        return self.parts[part] - early.parts[part] > GROWN * early.cpu


def windows(samples: Sequence[Sample]) -> list[Window]:
    """Between each two neighbours of at least two samples."""
    names = {name for sample in samples for name in sample.parts}
    return [_window(first, last, names) for first, last in pairwise(samples)]


def _window(first: Sample, last: Sample, names: set[str]) -> Window:
    trials = last.trials - first.trials
    return Window(
        first=first.trials,
        last=last.trials,
        wall=(last.wall - first.wall) / trials,
        cpu=(last.cpu - first.cpu) / trials,
        parts={name: (last.parts.get(name, 0.0) - first.parts.get(name, 0.0)) / trials for name in names},
        driver_memory=(last.driver_memory - first.driver_memory) / trials,
        dispatcher_memory=(last.dispatcher_memory - first.dispatcher_memory) / trials,
    )
