"""What a search has to do, and how long that takes at the pace measured so far. Arithmetic on numbers and seconds.

A trial takes its steps and images at the measured pace. Where trials are stopped early, how much of it is trained
follows from the share of trials that went on at the rungs so far, and from ASHA's own share as long as few were
compared. Which trials are stopped, and what later ones draw, is luck that no forecast knows: it is right on average.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import fmean

from search.config.prompts import other_sets, prompt_sets
from search.config.search_config import SearchConfig
from search.config.space import Choice, IntRange
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.samplers.unit_cube import values_of

RULE_WEIGHT = 12
"""How many comparisons at rungs ASHA's own share weighs as much as, against those that were seen."""

UNCOMPARED = 2
"""How many of the trials at a rung go on because there is next to nothing to compare them with, in ASHA's rule."""

LENGTHS = 101
"""How many lengths of trials are reckoned with at most; a wide range holds thousands."""

CLOSING_SECONDS = 15.0
"""For the champion's files, the report, MLflow's registry and the end of the workers."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Measured speed."""

    step: float
    """Seconds an optimizer step."""
    image: float
    """Seconds an image, made and judged."""

    @classmethod
    def of(cls, reports: Sequence[CheckpointResult]) -> Pace:
        """That of a trial by its scored checkpoints, at least one."""
        images = sum(len(report.rows) + len(report.other_rows) for report in reports)
        return cls(
            step=sum(report.training_seconds for report in reports) / reports[-1].step,
            image=sum(report.scoring_seconds for report in reports) / images,
        )

    @classmethod
    def mean(cls, paces: Collection[Pace]) -> Pace:
        """Of several, at least one."""
        return cls(step=fmean(pace.step for pace in paces), image=fmean(pace.image for pace in paces))


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


@dataclass(frozen=True)
class Workload:
    """What a configuration asks for."""

    config: SearchConfig
    images: int
    """Of one scored checkpoint."""
    final_images: int
    """Of one adapter in the final."""

    @classmethod
    def of(cls, config: SearchConfig) -> Workload:
        """The work of a search.

        Raises:
            ConfigurationError: the prompts cannot be used.
        """
        person = prompt_sets(config)
        counts: Counter[str] = Counter()
        for name, prompts in (*person.items(), *other_sets(config, person).items()):
            counts[name] += len(list(prompts.pairs()))
        return cls(config, counts["validation"], counts["final"])

    @property
    def exempt(self) -> int:
        """How many of the first trials are never stopped."""
        return len(self.config.first_trials)

    @property
    def entrant_count(self) -> int:
        """How many trials are in the final at most: the best and the first."""
        return min(self.config.final.candidates + 1, self.config.trials)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Steps that a trial may have, ascending, each as likely as the others; of a wide range so many that lie evenly
        on its scale, both ends among them."""
        match self.config.space.get("steps"):
            case Choice() as steps:
                return tuple(int(value) for value in values_of(steps))
            case IntRange(low=low, high=high, log=True):
                shares = (place / (LENGTHS - 1) for place in range(LENGTHS))
                return tuple(round(low * (high / low) ** share) for share in shares)
            case IntRange(low=low, high=high, step=step):
                count = (high - low) // step + 1
                taken = min(count, LENGTHS)
                return tuple(low + step * round(place * (count - 1) / (taken - 1)) for place in range(taken))
        return (self.config.training.steps,)

    @property
    def mean_steps(self) -> float:
        return fmean(self.lengths)

    def checkpoints(self, steps: int) -> tuple[int, ...]:
        """Steps at which a trial of that length is scored."""
        every = self.config.evaluation.every
        return (*range(every, steps, every), steps)

    def lengths_of(self, number: int) -> tuple[int, ...]:
        """Steps that trial `number` may have: of a first trial those that the configuration gives, if it does."""
        if number < self.exempt:
            settings = self.config.settings(self.config.nearest_draw(self.config.first_trials[number]))
            if "steps" in settings:
                return (int(settings["steps"]),)
        return self.lengths

    def going_on(self, records: Sequence[TrialRecord] = ()) -> float:
        """Share of the trials at a rung that are expected to go on."""
        # Few trials are dominated by most others in two values at once: there the rule stops next to none.
        pareto = self.config.evaluation.objective.mode == "pareto"
        trials, factor = max(self.config.trials, UNCOMPARED), self.config.stopping.reduction_factor
        rule = 1.0 if pareto else (UNCOMPARED + (trials - UNCOMPARED) / factor) / trials
        compared = stopped = 0
        for record in records:
            if record.number < self.exempt:
                continue
            before_end = (0, *self.checkpoints(record.steps))[-2]  # at its end a trial is not stopped
            compared += sum(rung <= min(record.last_step, before_end) for rung in self.config.rungs)
            stopped += record.state is JobState.STOPPED
        return (rule * RULE_WEIGHT + compared - stopped) / (RULE_WEIGHT + compared)

    def expected(self, steps: int, *, going_on: float, done: int = 0) -> tuple[float, float]:
        """Steps and checkpoints that a trial of a length still gets, on average, when it has done some."""
        alive, trained, scored = 1.0, 0.0, 0.0
        for before, step in pairwise((0, *self.checkpoints(steps))):
            if step > done:
                trained += alive * (step - max(before, done))
                scored += alive
                alive *= going_on ** sum(before < rung <= step for rung in self.config.rungs)
        return trained, scored

    def coming(self, records: Sequence[TrialRecord] = ()) -> list[tuple[float, float]]:
        """Expected steps and checkpoints of each trial that has not begun.

        Args:
            records: Trials that have, without duplicates.
        """
        going_on, coming = self.going_on(records), []
        # Learning curves begin with the shortest trainings and go on to prefer them: all are taken for the shortest.
        likely = 1 if self.config.sampler.name == "learning_curves" else None
        for number in range(len(records), self.config.trials):
            share = 1.0 if number < self.exempt else going_on
            each = [self.expected(steps, going_on=share) for steps in self.lengths_of(number)[:likely]]
            coming.append((fmean(steps for steps, _ in each), fmean(scored for _, scored in each)))
        return coming

    def seconds(self, trial: tuple[float, float], pace: Pace) -> float:
        """What so many steps and checkpoints take."""
        steps, scored = trial
        return steps * pace.step + scored * pace.image * self.images

    def final_seconds(
        self,
        trainings: Sequence[float],
        *,
        image: float,
        workers: int,
        judging: float = 0.0,
        anchors: float | None = None,
    ) -> float:
        """Seconds of a final: the anchors alone, then every candidate scored, then all trained again and scored.

        Args:
            trainings: Seconds of one training of each candidate.
            image: Seconds an image.
            workers: At least 1.
            judging: Seconds of the second judge for each trial's best and each candidate.
            anchors: Seconds of measuring the untuned model; None: as one adapter.
        """
        scoring = image * self.final_images
        again = [seconds + scoring for seconds in trainings for _ in range(self.config.final.retrain)]
        return (
            (scoring if anchors is None else anchors)
            + makespan([scoring] * len(trainings) + again, workers)
            + makespan([judging] * (self.config.trials + 1 + len(trainings)), workers)
        )
