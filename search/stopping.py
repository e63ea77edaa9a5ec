"""Which trials are stopped early: ASHA on our own count of optimizer steps, or domination in mode `pareto`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from search.config import SearchConfig
from search.domination import StopDominated
from search.space import largest

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


class SparingAsha(AsyncHyperBandScheduler):
    """ASHA (Li et al. 2020, arXiv:1810.05934) that never stops the first trials.

    They are what the champion is compared with, and a comparison with half a training would be worth nothing. Their
    values still count at every rung.

    Args:
        spared: How many trials are never stopped.
        **options: As `AsyncHyperBandScheduler`.
    """

    def __init__(self, spared: int, **options: Any) -> None:
        super().__init__(**options)
        self._spared = spared

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Tune asks whether a trial goes on."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if trial.config["number"] < self._spared else decision


def scheduler(config: SearchConfig) -> TrialScheduler:
    """Tune's scheduler for a search."""
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
        )
    return SparingAsha(
        spared=len(config.first_trials),
        # Tune's own count of reports starts again at 1 when a trial's process does; ours goes on.
        time_attr="step",
        max_t=longest,
        grace_period=stopping.grace_period,
        reduction_factor=stopping.reduction_factor,
        # A trial that reaches max_t has run to its end: that is no stop.
        stop_last_trials=False,
    )
