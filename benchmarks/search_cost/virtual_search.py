"""A search on a virtual clock: the real sampler and the real scheduler, with workers that look a surrogate up.

Events come in the order in which workers would report them. As in `search.study.study`, one trial more is proposed than
there are workers, so that no worker waits for a proposal, and Tune's order is kept: the scheduler is asked first, the
sampler hears a checkpoint of a trial that goes on, and the end of one that does not.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import TrialScheduler

from benchmarks.search_cost.surrogate import Surrogate
from evaluation.measures import SEARCH_VALUE
from search.config.search_config import SearchConfig
from search.storage.trial_record import trial_id
from search.study.scheduler import scheduler
from search.study.study import make_sampler

SEATS = 2

NO_CONTROLLER: Any = None
"""Tune's controller, which the search's schedulers do not look at."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The search after a checkpoint was scored."""

    cost: float
    """The processor's seconds that all workers together have spent on training and scoring."""
    value: float
    """What the search would pick now is truly worth: the surrogate's mean, not the score by which it was picked."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """A whole search."""

    moments: tuple[Moment, ...]
    trials: int
    """Trials that began."""
    stopped: int
    trainings: tuple[tuple[tuple[int, ...], int], ...] = field(compare=False)
    """Of each trial that began, in the order of their numbers: the steps at which it was to be scored, and at how many
    of them it was."""

    @property
    def cost(self) -> float:
        return self.moments[-1].cost

    @property
    def value(self) -> float:
        """What its last pick is truly worth."""
        return self.moments[-1].value

    def cost_to(self, value: float) -> float | None:
        """Cost at which its pick was first truly worth so much; None if it never was."""
        return next((moment.cost for moment in self.moments if moment.value >= value), None)


@dataclass
class _Running:
    """A trial, with what it will come to."""

    tune: Any
    """As far as a scheduler looks at Tune's trial."""
    steps: tuple[int, ...]
    seen: list[float]
    true: list[float]
    pieces: list[float]
    """The processor's seconds of training and scoring up to each checkpoint, since the one before."""
    done: int = 0


@dataclass
class VirtualSearch:
    """One search.

    Args:
        config: What is searched, and whether trials are stopped early.
        surrogate: Knows what trials come to.
        seed: Of the sampler and of the noise; trial N has the same noise in every search of the same seed that tries
            the same configuration.
        journal: Folder for the sampler's journal.
    """

    config: SearchConfig
    surrogate: Surrogate
    seed: int
    journal: Path
    _spent: float = 0.0
    _queue: deque[_Running] = field(default_factory=deque)

    def run(self, budget: float | None = None) -> Course:
        """Search until all trials have ended, or until so many seconds are spent."""
        config = self.config.model_copy(update={"seed": self.seed})
        proposer, stopper = make_sampler(config, self.journal), scheduler(config)
        stopper.set_search_properties(SEARCH_VALUE, "max")
        moments: list[Moment] = []
        events: list[tuple[float, int, _Running]] = []
        best: tuple[float, float] | None = None
        began = ended = stopped = 0
        exhausted = False
        proposals: list[_Running] = []

        def fill() -> None:
            nonlocal began, exhausted
            while not exhausted and began - ended < SEATS + 1:
                proposed = proposer.suggest(trial_id(began))
                if not isinstance(proposed, dict):
                    exhausted = True
                    return
                self._queue.append(self._trial(trial_id(began), proposed))
                proposals.append(self._queue[-1])
                stopper.on_trial_add(NO_CONTROLLER, self._queue[-1].tune)
                began += 1

        def worker(now: float) -> None:
            while self._queue and len(events) < SEATS:
                trial = self._queue.popleft()
                heapq.heappush(events, (now + trial.pieces[0], int(trial.tune.trial_id), trial))

        fill()
        worker(0.0)
        while events and (budget is None or self._spent < budget):
            now, number, trial = heapq.heappop(events)
            step, value, true = (values[trial.done] for values in (trial.steps, trial.seen, trial.true))
            self._spent += trial.pieces[trial.done]
            trial.done += 1
            if best is None or value > best[0]:
                best = value, true
            moments.append(Moment(cost=self._spent, value=best[1]))
            result = {"step": step, SEARCH_VALUE: value}
            decision = stopper.on_trial_result(NO_CONTROLLER, trial.tune, result)
            over = trial.done == len(trial.steps)
            if decision == TrialScheduler.CONTINUE and not over:
                proposer.on_trial_result(trial.tune.trial_id, result)
                heapq.heappush(events, (now + trial.pieces[trial.done], number, trial))
                continue
            stopped += not over
            stopper.on_trial_complete(NO_CONTROLLER, trial.tune, result)
            proposer.on_trial_complete(trial.tune.trial_id, result)
            ended += 1
            worker(now)
            fill()
            worker(now)
        trials = began - len(self._queue)
        trainings = tuple((trial.steps, trial.done) for trial in proposals[:trials])
        return Course(moments=tuple(moments), trials=trials, stopped=stopped, trainings=trainings)

    def _trial(self, name: str, proposed: dict[str, Any]) -> _Running:
        params = proposed["params"]
        planned, every = int(params["steps"]), self.config.evaluation.every
        steps = (*range(every, planned, every), planned)
        random = np.random.default_rng((self.seed, proposed["number"]))
        costs, targets = self.surrogate.costs, str(params["targets"])
        return _Running(
            tune=SimpleNamespace(trial_id=name, config=proposed),
            steps=steps,
            seen=[float(value) for value in self.surrogate.trial(params, steps, random)],
            true=[float(value) for value in self.surrogate.mean(params, steps)],
            pieces=[
                (step - before) * costs.step[targets] + costs.scoring[targets]
                for before, step in zip((0, *steps), steps, strict=False)
            ],
        )
