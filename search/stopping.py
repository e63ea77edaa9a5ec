"""Which trials are stopped early: ASHA on our own count of optimizer steps, or domination in mode `pareto`."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search.config import SearchConfig
from search.domination import StopDominated
from search.record import TrialRecord
from search.space import largest
from search.trial import as_tune_result

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class SparingAsha(AsyncHyperBandScheduler):
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
            for report in record.reports:
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
        return StopDominated(
            spared=len(config.first_trials),
            grace_period=stopping.grace_period,
            reduction_factor=stopping.reduction_factor,
            longest=longest,
            steps=config.training.steps,
            maximum_faceless_rate=objective.maximum_faceless_rate,
            earlier=earlier,
        )
    return SparingAsha(
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
