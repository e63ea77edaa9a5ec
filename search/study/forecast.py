"""The forecast: how long a search will take, from what its first trials took. Pure arithmetic on seconds.

Work is laid onto workers as the dispatcher does it, first come first served, each piece at its expected length. What a
trial will take is its steps and checkpoints at the pace measured so far; how many of its steps it will get, where
trials are stopped early, follows from ASHA's rule for values that come in any order, which is stricter the more values
a rung holds by then, and from what became of the trials at each rung. What trials draw and which of them are stopped is
luck that no forecast knows: what is foretold is the mean over it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

RULE_WEIGHT = 12.0
"""How many trials at a rung the rule weighs as much as, against those that were seen there. Were a trial's value as
likely to have any rank as another's, the rule would be all there is to know: what became of a few was their luck."""


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

    A trial is compared at its first checkpoint at or above each rung, unless it ends there; its value counts for those
    that come after it all the same.
    """

    steps: tuple[float, ...] = ()
    """Ascending."""
    reduction_factor: float = 3.0
    seen: Mapping[float, tuple[int, int]] = field(default_factory=dict)
    """By rung: how many trials were compared there, and how many of them went on."""
    values: Mapping[float, float] = field(default_factory=dict)
    """By rung: how many values it holds, expected ones included."""

    def survival(self, rung: float) -> float:
        """Of the trials that come next to a rung, the share that is expected to go on.

        The rule: with m values, the cut-off is their quantile 1 - 1/factor, and a value of any rank among m + 1 lies
        above it with probability (m - (1 - 1/factor) (m - 1)) / (m + 1); the first value of all goes on. A sampler that
        learns sends better ones, which the trials seen so far tell.
        """
        values = self.values.get(rung, 0.0)
        if values < 1:
            rule = 1 - values / 2  # between the first, which goes on, and the second, of which half do
        else:
            rule = (values - (1 - 1 / self.reduction_factor) * (values - 1)) / (values + 1)
        compared, went_on = self.seen.get(rung, (0, 0))
        return (rule * RULE_WEIGHT + went_on) / (RULE_WEIGHT + compared)

    def expected(self, checkpoints: Sequence[int], done: int = 0, *, spared: bool = False) -> tuple[float, float]:
        """Steps and checkpoints that a trial will still get, on average.

        Args:
            checkpoints: Steps at which it is scored, ascending; the last is its end.
            done: The steps it has; at those of a checkpoint it was compared already.
            spared: Whether it is never stopped.
        """
        steps, scored, before = 0.0, 0.0, done
        for step, alive, _ in self._course(checkpoints, done, spared=spared):
            steps += alive * (step - before)
            scored += alive
            before = step
        return steps, scored

    def after(self, lengths: Sequence[Sequence[int]], done: int = 0, *, spared: bool = False) -> Rungs:
        """As they will be when one more trial has come by.

        Args:
            lengths: Checkpoints that it may have, each as likely as the others.
            done: The steps it has.
            spared: Whether it is never stopped.
        """
        values = dict(self.values)
        for checkpoints in lengths:
            for _, alive, compared_at in self._course(checkpoints, done, spared=spared):
                for rung in compared_at:
                    values[rung] = values.get(rung, 0.0) + alive / len(lengths)
        return replace(self, values=values)

    def _course(
        self, checkpoints: Sequence[int], done: int, *, spared: bool
    ) -> Iterator[tuple[int, float, tuple[float, ...]]]:
        """Each checkpoint to come, the probability that the trial reaches it, and the rungs that it reaches there."""
        alive = 1.0
        passed = {rung for rung in self.steps if any(rung <= step <= done for step in checkpoints)}
        for step in (step for step in checkpoints if step > done):
            reached = tuple(rung for rung in self.steps if rung <= step and rung not in passed)
            yield step, alive, reached
            passed.update(reached)
            if not spared:
                alive *= math.prod(self.survival(rung) for rung in reached)


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


def makespan(pieces: Sequence[float], workers: int, busy: Sequence[float] = ()) -> float:
    """Seconds until the last of some pieces of work is done, each taken up in turn by the worker that is free first.

    Args:
        pieces: Seconds each, in the order of the queue.
        workers: At least 1.
        busy: Seconds that workers still have to do; those beyond the number of workers wait as pieces do.
    """
    free = [*busy[:workers], *[0.0] * (workers - len(busy))]
    heapq.heapify(free)
    for seconds in (*busy[workers:], *pieces):
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def final_seconds(
    *, trainings: Sequence[float], entrants: int, retrain: int, scoring: float, anchors: float, workers: int
) -> float:
    """Seconds of a final: the anchors alone, then every candidate scored, then all trained again and scored.

    Args:
        trainings: Seconds of one training of each entrant.
        entrants: How many there are.
        retrain: How often each is trained again.
        scoring: Seconds of scoring one adapter on the final's prompts.
        anchors: Seconds of measuring the untuned model and the photos.
        workers: At least 1.
    """
    again = [seconds + scoring for seconds in trainings for _ in range(retrain)]
    return anchors + makespan([scoring] * entrants + again, workers)
