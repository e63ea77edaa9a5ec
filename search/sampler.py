"""The sampler: Optuna proposes, told as Tune's trials go on. The Optuna journal in the run folder is the truth.

Ray's own `OptunaSearch` tells Optuna a stopped trial as if it had run to its end, so that TPE would compare values of
different budgets. Here a stopped trial is told as pruned, with its value at every step: TPE ranks pruned trials by how
far they came first (Optuna's `TPESampler`), and never as equals of complete ones.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from ray.tune.search import Searcher

from search.space import Choice, FloatRange, IntRange, Space, Value

STARTUP_TRIALS = 5
"""Random trials before TPE models anything; with fewer results its model is noise."""


class OptunaSampler(Searcher):
    """Tune's searcher over an Optuna study.

    Args:
        space: What varies.
        metric: Name of the value to maximise in every result.
        journal: File of the Optuna journal; appended and fsynced at every event.
        study_name: Name of the study within the journal.
        seed: Seed of TPE.
        first_trials: Configurations to propose before TPE does, each within the space; settings left out are drawn.
        trials: How many trials to propose in all.
        steps: Optimizer steps of a trial whose configuration does not say.
    """

    def __init__(
        self,
        space: Space,
        *,
        metric: str,
        journal: Path,
        study_name: str,
        seed: int,
        first_trials: Sequence[Mapping[str, Value]] = (),
        trials: int,
        steps: int,
    ) -> None:
        super().__init__(metric=metric, mode="max")
        self._distributions = distributions(space)
        self._limit = trials
        self._default_steps = steps
        self._trials: dict[str, optuna.Trial] = {}
        self._values: dict[str, dict[int, float]] = {}
        self.study = optuna.create_study(
            study_name=study_name,
            direction="maximize",
            sampler=optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=STARTUP_TRIALS,
                multivariate=True,  # rank, alpha and learning rate act together
                constant_liar=True,  # several trials run at once: do not propose the same place twice
            ),
            pruner=optuna.pruners.NopPruner(),  # ASHA stops, not Optuna
            storage=JournalStorage(JournalFileBackend(str(journal))),
        )
        for params in first_trials:
            self.study.enqueue_trial(dict(params))

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration as `{"number", "params"}`, or Tune's word for "no more"."""
        if len(self._trials) >= self._limit:
            return Searcher.FINISHED  # type: ignore[return-value] # Tune's own protocol: a word or a dict
        trial = self.study.ask(self._distributions)
        self._trials[trial_id] = trial
        self._values[trial_id] = {}
        return {"number": trial.number, "params": dict(trial.params)}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Note a checkpoint's value in the journal. A replayed step (after a trial's actor died) is noted once."""
        if self.metric not in result:
            return
        step, value = int(result["step"]), float(result[self.metric])
        assert math.isfinite(value), f"trial {trial_id} reported {value} at step {step}"
        if step not in self._values[trial_id]:
            self._values[trial_id][step] = value
            self._trials[trial_id].report(value, step)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how the trial ended: by its best checkpoint, as pruned, or as failed."""
        if result is not None:
            self.on_trial_result(trial_id, result)
        trial, values = self._trials[trial_id], self._values[trial_id]
        if error or not values:
            self.study.tell(trial, state=TrialState.FAIL)
        elif max(values) < trial.params.get("steps", self._default_steps):
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, max(values.values()))

    def save(self, checkpoint_path: str) -> None:
        """Tune's own snapshot holds no more than who is who; the study lives in the journal."""
        numbers = {trial_id: trial.number for trial_id, trial in self._trials.items()}
        Path(checkpoint_path).write_text(json.dumps(numbers), "utf-8")


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's words. Settings keep the order of the configuration file."""
    translated: dict[str, BaseDistribution] = {}
    for name, dimension in space.items():
        match dimension:
            case FloatRange():
                translated[name] = FloatDistribution(dimension.low, dimension.high, log=dimension.log)
            case IntRange():
                translated[name] = IntDistribution(dimension.low, dimension.high, step=dimension.step)
            case Choice():
                translated[name] = CategoricalDistribution(dimension.values)
    return translated
