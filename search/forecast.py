"""The forecast: how long a search will take, from what its first trials took. Pure arithmetic on seconds.

Work is laid onto seats as the dispatcher does it, first come first served, each piece at its expected length. What a
trial will take is its steps and checkpoints at the pace measured so far; how many of its steps it will get, where
trials are stopped early, follows from ASHA's rule for values that come in any order, and from what became of the trials
at each rung.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RULE_WEIGHT = 3.0
"""How many trials at a rung the rule of thumb weighs as much as, against those that were seen there."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Measured speed."""

    step: float
    """Seconds an optimizer step."""
    image: float
    """Seconds an image, made and judged."""


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """Where trials are stopped early.

    A trial is compared at its first checkpoint at or above each rung, unless it ends there.
    """

    steps: tuple[float, ...] = ()
    """Ascending."""
    reduction_factor: float = 3.0
    seen: Mapping[float, tuple[int, int]]
    """By rung: how many trials were compared there, and how many of them went on."""

    def survival(self, rung: float) -> float:
        """The expected share of coming trials that go on at a rung.

        The rule: with m values seen, the cut-off is their quantile 1 - 1/factor, and a value of any rank among m + 1
        lies above it with probability (m - (1 - 1/factor) (m - 1)) / (m + 1). A sampler that learns sends better ones,
        which the trials seen so far tell.
        """
        compared, went_on = self.seen.get(rung, (0, 0))
        values = max(compared, 1)
        rule = (values - (1 - 1 / self.reduction_factor) * (values - 1)) / (values + 1)
        return (rule * RULE_WEIGHT + went_on) / (RULE_WEIGHT + compared)

    def expected(self, checkpoints: Sequence[int], done: int = 0) -> tuple[float, float]:
        """Steps and checkpoints that a trial will still get, on average.

        Args:
            checkpoints: Steps at which it is scored, ascending; the last is its end.
            done: The steps it has; at those of a checkpoint it was compared already.
        """
        alive, steps, scored, before = 1.0, 0.0, 0.0, done
        passed = {rung for rung in self.steps if any(rung <= step <= done for step in checkpoints)}
        for step in (step for step in checkpoints if step > done):
            steps += alive * (step - before)
            scored += alive
            before = step
            for rung in self.steps:
                if rung <= step and rung not in passed and step != checkpoints[-1]:
                    passed.add(rung)
                    alive *= self.survival(rung)
        return steps, scored


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Seconds of a search from its start to its result."""

    search_end: float
    """When the last trial ends."""
    final: float
    """Of the final."""
    closing: float
    """Of writing everything down."""

    @property
    def total(self) -> float:
        return self.search_end + self.final + self.closing


def makespan(pieces: Sequence[float], seats: int, busy: Sequence[float] = ()) -> float:
    """Seconds until the last of some pieces of work is done, each taken up in turn by the seat that is free first.

    Args:
        pieces: Seconds each, in the order of the queue.
        seats: At least 1.
        busy: Seconds that seats still have to do; those beyond the number of seats wait as pieces do.
    """
    free = [*busy[:seats], *[0.0] * (seats - len(busy))]
    heapq.heapify(free)
    for seconds in (*busy[seats:], *pieces):
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def final_seconds(
    *, trainings: Sequence[float], entrants: int, retrain: int, scoring: float, anchors: float, seats: int
) -> float:
    """Seconds of a final: the anchors alone, then every candidate scored, then all trained again and scored.

    Args:
        trainings: Seconds of one training of each entrant.
        entrants: How many there are.
        retrain: How often each is trained again.
        scoring: Seconds of scoring one adapter on the final's prompts.
        anchors: Seconds of measuring the untuned model and the photos.
        seats: At least 1.
    """
    again = [seconds + scoring for seconds in trainings for _ in range(retrain)]
    return anchors + makespan([scoring] * entrants + again, seats)
