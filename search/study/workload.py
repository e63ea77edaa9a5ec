"""What a search has to do, in numbers: trials, steps, checkpoints and images, as its configuration says."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from search.config.prompts import other_sets, prompt_sets
from search.config.search_config import SearchConfig
from search.config.space import Choice, IntRange, largest
from search.storage.trial_record import JobState, TrialRecord
from search.study.forecast import Rungs
from search.study.ranking import Candidate, own_entrant
from search.study.ranking import entrants as choose_entrants

PREFERENCE = 2.5
"""Power with which learning curves shun long trainings, as in simulated searches of the demo: of 100, 200 and 300 steps
they propose 81, 14 and 5 in a hundred."""

QUANTILES = 20
"""Parts by which such a preference is reckoned."""


@dataclass(frozen=True)
class Workload:
    """The work of a search."""

    config: SearchConfig
    images: int
    """Of one scored checkpoint."""
    final_images: int
    """Of one adapter in the final."""

    @classmethod
    def of(cls, config: SearchConfig) -> Workload:
        """What a configuration asks for.

        Raises:
            ConfigurationError: the prompts cannot be used.
        """
        person = prompt_sets(config)
        others = other_sets(config, person)
        counts = {name: len(list(prompts.pairs())) for name, prompts in person.items()}
        for name, prompts in others.items():
            counts[name] += len(list(prompts.pairs()))
        return cls(config, counts["validation"], counts["final"])

    @property
    def trials(self) -> int:
        return self.config.trials

    @property
    def spared(self) -> int:
        """How many of the first trials are never stopped."""
        return len(self.config.first_trials)

    @cached_property
    def planned_steps(self) -> tuple[int, ...]:
        """Lengths that a trial may have, each as likely as the others before anything is learnt."""
        match self.config.space.get("steps"):
            case IntRange(low=low, high=high, step=step):
                return tuple(range(low, high + 1, step))
            case Choice(values=values):
                return tuple(int(value) for value in values)
            case _:
                return (self.config.training.steps,)

    def likely_steps(self, number: int) -> tuple[int, ...]:
        """Lengths that a trial may have, each as likely as the others, some of them more than once.

        Learning curves begin with the shortest trainings, and go on to prefer them.
        """
        given = self.first_steps(number)
        if given is not None:
            return (given,)
        lengths = sorted(self.planned_steps)
        if self.config.sampler.name != "learning_curves":
            return tuple(lengths)
        if number <= self.config.sampler.startup:  # that many have a checkpoint only when one more was proposed
            return (lengths[0],)
        weights = [(length / lengths[0]) ** -PREFERENCE for length in lengths]
        bounds = [sum(weights[: place + 1]) / sum(weights) for place in range(len(lengths))]
        quantiles = [(part + 0.5) / QUANTILES for part in range(QUANTILES)]
        return tuple(lengths[min(bisect_right(bounds, each), len(lengths) - 1)] for each in quantiles)

    @property
    def mean_steps(self) -> float:
        return fmean(self.planned_steps)

    def first_steps(self, number: int) -> int | None:
        """The length of a first trial that the configuration gives; None where it is drawn."""
        if number >= self.spared:
            return None
        settings = self.config.settings(self.config.nearest_draw(self.config.first_trials[number]))
        if "steps" in self.config.space and "steps" not in settings:
            return None
        return self.config.training_config(settings, seed=0).steps

    def checkpoints(self, steps: int) -> tuple[int, ...]:
        """Steps at which a trial of that length is scored."""
        every = self.config.evaluation.every
        return (*range(every, steps, every), steps)

    def rungs(self, records: Sequence[TrialRecord] = ()) -> Rungs:
        """Where trials are stopped early, and what became of these there."""
        stopping = self.config.stopping
        steps = []
        longest = largest(self.config.space["steps"]) if "steps" in self.config.space else self.config.training.steps
        rung: float = stopping.grace_period
        while stopping.enabled and rung < longest:
            steps.append(rung)
            rung *= stopping.reduction_factor
        return Rungs(
            steps=tuple(steps),
            # Few trials are dominated by most others in two values at once: the rule would stop too many.
            reduction_factor=1 if self.config.evaluation.objective.mode == "pareto" else stopping.reduction_factor,
            seen={rung: self._seen(rung, records) for rung in steps},
            values={
                rung: sum(any(report.step >= rung for report in record.checkpoints) for record in records)
                for rung in steps
            },
        )

    def coming(self, begun: int, rungs: Rungs) -> list[tuple[float, float]]:
        """Expected steps and checkpoints of each trial that has not begun.

        Args:
            begun: Trials that have, in the order of their numbers.
            rungs: Where they may be stopped.
        """
        coming = []
        for number in range(begun, self.trials):
            spared = number < self.spared
            lengths = [self.checkpoints(steps) for steps in self.likely_steps(number)]
            expected = [rungs.expected(checkpoints, spared=spared) for checkpoints in lengths]
            coming.append((fmean(steps for steps, _ in expected), fmean(scored for _, scored in expected)))
            rungs = rungs.after(lengths, spared=spared)
        return coming

    def entrants(self, records: Sequence[TrialRecord]) -> list[Candidate]:
        """Who would be in the final if the search ended now, the first trial among them."""
        rule = self.config.evaluation.objective
        chosen = choose_entrants(records, rule, self.config.final.candidates)
        first = own_entrant(records[0], rule) if records else None
        if first is not None and all(record is not records[0] for record, _ in chosen):
            chosen.append((records[0], first))
        return chosen

    def entrant_count(self) -> int:
        """How many will be in the final of a whole search, at most: the best and the first trial."""
        return min(self.config.final.candidates + 1, self.trials)

    def _seen(self, rung: float, records: Sequence[TrialRecord]) -> tuple[int, int]:
        compared = went_on = 0
        for record in records:
            at = next((report.step for report in record.checkpoints if report.step >= rung), None)
            if at is None or at >= record.steps or int(record.id) < self.spared:
                continue
            last = record.checkpoints[-1].step
            if last > at or record.state is JobState.STOPPED:
                compared += 1
                went_on += last > at
        return compared, went_on
