"""Which trials are stopped early: ASHA on our own count of optimizer steps, or domination in mode `pareto`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from evaluation.pareto import Point, dominates
from search.config.search_config import SearchConfig
from search.config.space import largest
from search.storage.trial_record import TrialRecord
from search.study.trial import as_tune_result

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class AshaScheduler(AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020, arXiv:1810.05934) that never stops the first trials.

    They are what the champion is compared with, and a comparison with half a training would be worth nothing. Their
    values still count at every rung.

    A trial is known by its number, for Tune gives it another id in every part of a search.

    Args:
        spared: How many trials are never stopped.
        earlier: What became of the trials in earlier parts of the search: their values count at every rung.
        **options: As `AsyncHyperBandScheduler`.
    """

    def __init__(self, spared: int, earlier: Sequence[TrialRecord] = (), **options: Any) -> None:
        super().__init__(**options)
        self._spared = spared
        self._earlier = tuple(earlier)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Tune has a new trial."""
        earlier, self._earlier = self._earlier, ()
        for record in earlier:  # only now Tune has said what is maximised
            known = _numbered(int(record.id))
            super().on_trial_add(tune_controller, known)
            for report in record.checkpoints:
                super().on_trial_result(tune_controller, known, as_tune_result(report))
        super().on_trial_add(tune_controller, _numbered(trial.config["number"]))

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """Tune has ended a trial."""
        super().on_trial_complete(tune_controller, _numbered(trial.config["number"]), result)

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Tune has ended a trial that was not running."""
        super().on_trial_remove(tune_controller, _numbered(trial.config["number"]))

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Tune asks whether a trial goes on."""
        known = _numbered(trial.config["number"])
        decision: str = super().on_trial_result(tune_controller, known, result)
        return TrialScheduler.CONTINUE if trial.config["number"] < self._spared else decision


def _numbered(number: int) -> Any:
    """A trial as far as ASHA looks at it."""
    return SimpleNamespace(trial_id=str(number))


def scheduler(config: SearchConfig, earlier: Sequence[TrialRecord] = ()) -> TrialScheduler:
    """Tune's scheduler for a search.

    Args:
        config: The search.
        earlier: What became of the trials in earlier parts of it.
    """
    stopping = config.stopping
    steps = config.space.get("steps")
    longest = config.training.steps if steps is None else int(largest(steps))
    if not stopping.enabled or stopping.grace_period >= longest:
        return FIFOScheduler()
    objective = config.evaluation.objective
    if objective.mode == "pareto":
        return ParetoScheduler(
            spared=len(config.first_trials),
            grace_period=stopping.grace_period,
            reduction_factor=stopping.reduction_factor,
            longest=longest,
            steps=config.training.steps,
            maximum_faceless_rate=objective.maximum_faceless_rate,
            earlier=earlier,
        )
    return AshaScheduler(
        spared=len(config.first_trials),
        earlier=earlier,
        # Tune's own count of reports starts again at 1 when a trial's process does; ours goes on.
        time_attr="step",
        max_t=longest,
        grace_period=stopping.grace_period,
        reduction_factor=stopping.reduction_factor,
        # A trial that reaches max_t has run to its end: that is no stop.
        stop_last_trials=False,
    )


LEAST_DOMINATING = 2
"""Trials that must dominate one before it can be stopped: a single one may be luck on a few dozen images."""


class ParetoScheduler(FIFOScheduler):
    """Successive halving by domination instead of rank, decided as in ASHA when a report comes, without waiting.

    Rungs are ASHA's (Li et al. 2020, arXiv:1810.05934): grace_period * reduction_factor^k, on our own count of
    optimizer steps. A trial's first report at or above a rung is compared with those of the OTHER trials that have
    reached that rung: it is stopped if at least a share 1 - 1/reduction_factor of them dominate it
    (`evaluation.pareto.dominates`), and at least `LEAST_DOMINATING`. A trial whose step is its last has run to its
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
            for report in record.checkpoints:
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
