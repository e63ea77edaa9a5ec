"""Which trials are stopped early: successive halving without waiting, by rank or by domination.

Trials are compared at rungs (`SearchConfig.rungs`) when a checkpoint comes, as in ASHA (Li et al. 2020,
arXiv:1810.05934). Ray's own ASHA is not used: it knows trials by ids that are new after a restart and would stop the
trials that the champion is compared with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from evaluation.measures import SEARCH_VALUE
from evaluation.pareto import Point, dominates
from search.config.search_config import SearchConfig
from search.storage.trial_record import TrialRecord

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

V = TypeVar("V")
"""What is compared at a rung."""


def scheduler(config: SearchConfig, earlier: Sequence[TrialRecord] = ()) -> TrialScheduler:
    """Tune's scheduler for a search.

    Args:
        config: The search.
        earlier: What became of the trials in earlier parts of it.
    """
    if not config.rungs:
        return FIFOScheduler()
    pareto = config.evaluation.objective.mode == "pareto"
    return ParetoScheduler(config, earlier) if pareto else AshaScheduler(config, earlier)


class RungScheduler(FIFOScheduler, ABC, Generic[V]):
    """Compares a trial's first checkpoint at or above a rung with those of the OTHER trials that have reached it.

    A trial is known by its number, for Tune gives it another id in every part of a search. Its steps are our own count:
    Tune's count of reports starts again at 1 when a trial's process does. A trial whose step is its last has run to its
    end; that is no stop.

    The first trials that the configuration gives are never stopped: they are what the champion is compared with, and a
    comparison with half a training would be worth nothing. Their values count for the others.

    Args:
        config: The search.
        earlier: What became of the trials in earlier parts of the search: the others are compared with these, too.
    """

    def __init__(self, config: SearchConfig, earlier: Sequence[TrialRecord] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Ray's
        self._config = config
        self._reduction_factor = config.stopping.reduction_factor
        self._rungs: dict[float, dict[int, V]] = {rung: {} for rung in config.rungs}
        for record in earlier:
            for report in record.checkpoints:
                self._enter(record.number, report.step, report.metrics)

    @abstractmethod
    def _read(self, metrics: Mapping[str, Any]) -> V:
        """What is compared of a scored checkpoint."""

    @abstractmethod
    def _is_beaten(self, own: V, others: Sequence[V]) -> bool:
        """Whether a trial is stopped for what other trials, if any, had at the same rung."""

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Tune asks whether a trial goes on."""
        number, step = trial.config["number"], result["step"]
        others = self._enter(number, step, result)
        ends = step >= self._config.planned_steps(trial.config["params"])
        if others is None or number < len(self._config.first_trials) or ends:
            return TrialScheduler.CONTINUE
        return TrialScheduler.STOP if self._is_beaten(self._read(result), others) else TrialScheduler.CONTINUE

    def _enter(self, number: int, step: int, metrics: Mapping[str, Any]) -> list[V] | None:
        """Note a checkpoint at the highest rung that it reaches; what others had there before.

        None below the first rung, and for a trial that was compared at this one already.
        """
        reached = [values for rung, values in self._rungs.items() if rung <= step]
        if not reached or number in reached[-1]:
            return None
        others = list(reached[-1].values())
        reached[-1][number] = self._read(metrics)
        return others


class AshaScheduler(RungScheduler[float]):
    """ASHA: of the trials at a rung the best 1/reduction_factor by search value go on."""

    def _read(self, metrics: Mapping[str, Any]) -> float:
        return float(metrics[SEARCH_VALUE])

    def _is_beaten(self, own: float, others: Sequence[float]) -> bool:
        return bool(others) and bool(own < np.percentile(others, (1 - 1 / self._reduction_factor) * 100))


LEAST_DOMINATING = 2
"""Trials that must dominate one before it can be stopped: a single one may be luck on a few dozen images."""


class ParetoScheduler(RungScheduler[Point]):
    """The same by domination instead of rank (`evaluation.pareto.dominates`), for mode `pareto`.

    A trial is stopped if at least a share 1 - 1/reduction_factor of the others dominate it, and at least
    `LEAST_DOMINATING`.
    """

    def _read(self, metrics: Mapping[str, Any]) -> Point:
        return Point.of(metrics)

    def _is_beaten(self, own: Point, others: Sequence[Point]) -> bool:
        limit = self._config.evaluation.objective.maximum_faceless_rate
        dominating = sum(dominates(other, own, maximum_faceless_rate=limit) for other in others)
        # dominating / others >= 1 - 1 / factor, without a division that rounds.
        enough = dominating * self._reduction_factor >= (self._reduction_factor - 1) * len(others)
        return enough and dominating >= LEAST_DOMINATING
