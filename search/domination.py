"""Stopping in mode `pareto`: a trial that enough others dominate at the same step does not go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from evaluation.front import Point, dominates
from search.record import TrialRecord

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

LEAST_DOMINATING = 2
"""Trials that must dominate one before it can be stopped: a single one may be luck on a few dozen images."""


class StopDominated(FIFOScheduler):
    """Successive halving by domination instead of rank, decided as in ASHA when a report comes, without waiting.

    Rungs are ASHA's (Li et al. 2020, arXiv:1810.05934): grace_period * reduction_factor^k, on our own count of
    optimizer steps. A trial's first report at or above a rung is compared with those of the OTHER trials that have
    reached that rung: it is stopped if at least a share 1 - 1/reduction_factor of them dominate it
    (`evaluation.front.dominates`), and at least `LEAST_DOMINATING`. A trial whose step is its last has run to its
    end; that is no stop.

    Args:
        spared: How many of the first trials are never stopped; their values count for the others.
        grace_period: Optimizer steps that every trial may take.
        reduction_factor: Above 1.
        longest: Largest number of steps of any trial.
        steps: Steps of a trial whose configuration does not say.
        maximum_faceless_rate: The constraint.
        earlier: What became of the trials in earlier parts of the search: the others are compared with these, too.
    """

    def __init__(
        self,
        *,
        spared: int,
        grace_period: int,
        reduction_factor: float,
        longest: int,
        steps: int,
        maximum_faceless_rate: float,
        earlier: Sequence[TrialRecord] = (),
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # Ray's
        self._spared = spared
        self._reduction_factor = reduction_factor
        self._default_steps = steps
        self._maximum_faceless_rate = maximum_faceless_rate
        self._rungs: dict[float, dict[int, Point]] = {}
        rung: float = grace_period
        while rung < longest:
            self._rungs[rung] = {}
            rung *= reduction_factor
        for record in earlier:
            for report in record.reports:
                if rungs := [rung for rung in self._rungs if rung <= report.step]:
                    self._rungs[rungs[-1]].setdefault(int(record.id), Point.of(report.metrics))

    @property
    def rungs(self) -> tuple[float, ...]:
        """Optimizer steps at which trials are compared, ascending."""
        return tuple(self._rungs)

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Tune asks whether a trial goes on."""
        reached = [rung for rung in self._rungs if rung <= result["step"]]
        number = trial.config["number"]
        if not reached or number in self._rungs[reached[-1]]:
            return TrialScheduler.CONTINUE  # below the first rung, or compared at this one already
        others = list(self._rungs[reached[-1]].values())
        point = self._rungs[reached[-1]][number] = Point.of(result)
        planned = trial.config["params"].get("steps", self._default_steps)
        if number < self._spared or result["step"] >= planned:
            return TrialScheduler.CONTINUE
        dominating = sum(dominates(other, point, maximum_faceless_rate=self._maximum_faceless_rate) for other in others)
        # dominating / others >= 1 - 1 / factor, without a division that rounds.
        enough = dominating * self._reduction_factor >= (self._reduction_factor - 1) * len(others)
        return TrialScheduler.STOP if enough and dominating >= LEAST_DOMINATING else TrialScheduler.CONTINUE

    def debug_string(self) -> str:
        """Shown by Tune where it prints."""
        return "Stops dominated trials: " + ", ".join(f"{len(at)} at {rung:g}" for rung, at in self._rungs.items())
