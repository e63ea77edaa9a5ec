"""The sampler: Optuna proposes, told as Tune's trials go on. The Optuna journal in the run folder is the truth.

Ray's own `OptunaSearch` tells Optuna a stopped trial as if it had run to its end, so that TPE would compare values of
different budgets. Here a stopped trial is told as pruned, which TPE never ranks as an equal of complete ones.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NotRequired, TypeAlias, TypedDict

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.space import Choice, FloatRange, IntRange, Space, Value

STARTUP_TRIALS = 5
"""Random trials before TPE models anything; with fewer results its model is noise."""

Checkpoint: TypeAlias = Mapping[str, float]
"""A scored checkpoint's values by name."""


class StudySettings(TypedDict):
    """What every sampler is made with, as `StudySampler` explains it."""

    journal: Path
    study_name: str
    seed: int
    first_trials: NotRequired[Sequence[Mapping[str, Value]]]
    trials: int
    steps: int


class StudySampler(Searcher, ABC):
    """Tune's searcher over an Optuna study; a subclass says what is maximised and how a trial is told.

    Where the journal holds the study already, it goes on: trials that have not ended are proposed first, under their
    numbers and with their settings, and only then new ones, so that there are `trials` in all and none twice.

    Args:
        space: What varies.
        metric: Name of the value in every result that Tune knows the search by.
        journal: File of the Optuna journal; appended and fsynced at every event.
        study_name: Name of the study within the journal.
        seed: Seed of TPE.
        first_trials: Configurations to propose before TPE does, each within the space; settings left out are drawn.
        trials: How many trials there are to be in all.
        steps: Optimizer steps of a trial whose configuration does not say.
    """

    objectives: ClassVar[int] = 1
    """How many values the study maximises."""

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
        self._checkpoints: dict[str, dict[int, Checkpoint]] = {}
        storage = JournalStorage(JournalFileBackend(str(journal)))
        known = optuna.study.get_all_study_names(storage)  # a run folder may have been renamed
        self.study = optuna.create_study(
            study_name=known[0] if known else study_name,
            directions=["maximize"] * self.objectives,
            pruner=optuna.pruners.NopPruner(),  # Tune's scheduler stops, not Optuna
            storage=storage,
            load_if_exists=True,
        )
        self.earlier = tuple(trial for trial in self.study.trials if trial.state is not TrialState.WAITING)
        """What the journal held of trials when it was opened."""
        self._unfinished = deque(trial for trial in self.earlier if not trial.state.is_finished())
        self._begun = len(self.earlier)
        self.study.sampler = optuna.samplers.TPESampler(
            seed=_part_seed(seed, self._begun),
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,  # rank, alpha and learning rate act together
            constant_liar=True,  # several trials run at once: do not propose the same place twice
        )
        for params in first_trials[len(self.study.trials) :]:
            self.study.enqueue_trial(dict(params))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the values that are read from every result."""
        return (self.metric,)

    @property
    def remaining(self) -> int:
        """Trials still to be proposed, those that have not ended among them."""
        return len(self._unfinished) + max(0, self._limit - self._begun)

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was noted in the journal."""
        return dict(self.study.user_attrs)

    def note(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold in the journal; a later one takes its place."""
        self.study.set_user_attr(name, value)

    @abstractmethod
    def noted(self, trial: FrozenTrial) -> dict[int, Checkpoint]:
        """The checkpoints that the journal holds of a trial, by step."""

    @abstractmethod
    def _note(self, trial: optuna.Trial, step: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint into the journal."""

    @abstractmethod
    def _tell(self, trial: optuna.Trial, checkpoints: Mapping[int, Checkpoint], *, stopped: bool) -> None:
        """Tell how a trial with at least one checkpoint ended: at its last step, or stopped before."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration as `{"number", "params"}`, or Tune's word for "no more".

        With a trial that goes on comes `noted`, the last step of which the journal knows.
        """
        if self._unfinished:
            return self._go_on(trial_id, self._unfinished.popleft())
        if self._begun >= self._limit:
            return Searcher.FINISHED  # type: ignore[return-value] # Tune's own protocol: a word or a dict
        trial = self.study.ask(self._distributions)
        self._begun += 1
        self._trials[trial_id] = trial
        self._checkpoints[trial_id] = {}
        return {"number": trial.number, "params": dict(trial.params)}

    def _go_on(self, trial_id: str, frozen: FrozenTrial) -> dict[str, Any]:
        trial = optuna.Trial(self.study, frozen._trial_id)
        for name, distribution in self._distributions.items():
            # Gives what the journal holds; a kill between two of its lines has left settings undrawn.
            trial._suggest(name, distribution)
        self._trials[trial_id] = trial
        self._checkpoints[trial_id] = self.noted(frozen)
        noted = max(self._checkpoints[trial_id], default=0)
        return {"number": trial.number, "params": dict(trial.params), "noted": noted}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Note a checkpoint in the journal. A replayed step (after a trial's actor died) is noted once."""
        if any(name not in result for name in self.metrics):
            return
        step, checkpoint = int(result["step"]), {name: float(result[name]) for name in self.metrics}
        for name, value in checkpoint.items():
            assert math.isfinite(value), f"trial {trial_id} reported {value} at step {step} as {name}"
        if step not in self._checkpoints[trial_id]:
            self._checkpoints[trial_id][step] = checkpoint
            self._note(self._trials[trial_id], step, checkpoint)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how the trial ended: by a checkpoint, as pruned, or as failed."""
        if result is not None:
            self.on_trial_result(trial_id, result)
        trial, checkpoints = self._trials[trial_id], self._checkpoints[trial_id]
        if error or not checkpoints:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            planned = trial.params.get("steps", self._default_steps)
            self._tell(trial, checkpoints, stopped=max(checkpoints) < planned)

    def save(self, checkpoint_path: str) -> None:
        """Tune's own snapshot holds no more than who is who; the study lives in the journal."""
        numbers = {trial_id: trial.number for trial_id, trial in self._trials.items()}
        Path(checkpoint_path).write_text(json.dumps(numbers), "utf-8")


class OptunaSampler(StudySampler):
    """Maximises `metric`: a trial counts with its best checkpoint.

    Every value is reported at its step, so that TPE ranks pruned trials by how far they came first (Optuna's
    `TPESampler`).
    """

    def noted(self, trial: FrozenTrial) -> dict[int, Checkpoint]:
        return {step: {self.metric: value} for step, value in trial.intermediate_values.items()}

    def _note(self, trial: optuna.Trial, step: int, checkpoint: Checkpoint) -> None:
        trial.report(checkpoint[self.metric], step)

    def _tell(self, trial: optuna.Trial, checkpoints: Mapping[int, Checkpoint], *, stopped: bool) -> None:
        if stopped:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, max(checkpoint[self.metric] for checkpoint in checkpoints.values()))


def _part_seed(seed: int, begun: int) -> int:
    """The sampler's seed in a part of a search: another one each, or each would draw the first part's trials again."""
    return int(np.random.SeedSequence((seed, begun)).generate_state(1)[0]) if begun else seed


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
