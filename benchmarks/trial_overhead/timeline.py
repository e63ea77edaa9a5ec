"""Where the time of a search went: computing, or everything else. Pure arithmetic on moments in seconds.

A search has slots: the trials that can compute at once. A slot is taken by a trial from the moment the slot is free
until the trial's result is in; what of this the trial does not compute is its overhead, whoever caused it: starting
processes, importing, loading models, waiting, handing results over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TrialTime:
    """One trial's use of its slot."""

    occupied: float
    """Seconds from the moment its slot was free until its result was in."""
    computed: float
    """Seconds of training and scoring, measured in the worker."""

    @property
    def overhead(self) -> float:
        """Seconds of its slot in which it did not compute."""
        return self.occupied - self.computed


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two ways to run the same trials."""

    slots: int
    start: float
    """Seconds before the first trial could begin, once a search; 0 where nothing is started beforehand."""
    rounds: tuple[float, ...]
    """Seconds from submission to the last result, for every round of trials."""
    trials: tuple[TrialTime, ...]

    @property
    def wall(self) -> float:
        """Seconds of the whole search, its start included."""
        return self.start + sum(self.rounds)

    @property
    def overhead(self) -> list[float]:
        """Overhead of each trial, seconds; the start is no trial's."""
        return [trial.overhead for trial in self.trials]

    @property
    def computed(self) -> list[float]:
        """Seconds that each trial computed."""
        return [trial.computed for trial in self.trials]

    @property
    def overhead_with_start(self) -> float:
        """Seconds of slots in which nothing was computed, a trial: the start and idle slots at a round's end count."""
        return (self.slots * self.wall - sum(self.computed)) / len(self.trials)

    def figures(self) -> dict[str, float | list[float]]:
        """Everything measured, in seconds, for a JSON file."""
        return {
            "wall": self.wall,
            "start": self.start,
            "rounds": list(self.rounds),
            "overhead": self.overhead,
            "computed": self.computed,
        }


def occupied(began: float, results: Sequence[float], slots: int) -> list[float]:
    """Seconds that each trial occupied its slot.

    Trials are served in order, so the first `slots` of them find a slot free when the round begins, and every later
    one takes the slot that was freed by the first result not yet taken up.

    Args:
        began: When the round began.
        results: When each trial's last result was in, in the order in which the trials were submitted.
        slots: Trials that compute at once.
    """
    freed = [began] * slots + sorted(results)
    return [result - free for result, free in zip(results, freed, strict=False)]
