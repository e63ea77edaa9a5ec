"""The sampler: Optuna proposes and learns what Tune's trials report. The Optuna journal in the run folder is the truth.

Ray's own `OptunaSearch` tells Optuna a stopped trial as if it had run to its end, so that TPE would compare values of
different budgets. Here a stopped trial is reported as pruned, which TPE never ranks as an equal of complete ones.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NotRequired, TypeAlias, TypedDict

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search import Searcher

from search.config.draws import holds, order, settings_of
from search.config.sections import SamplerConfig
from search.config.space import Space, Value, planned_steps
from search.study.samplers import factory as samplers
from search.study.samplers.distributions import FOREIGN, SAME_AS, SETTINGS, parameter, suggest

Checkpoint: TypeAlias = Mapping[str, float]
"""A scored checkpoint's values by name."""

Configuration: TypeAlias = tuple[tuple[str, object], ...]
"""The settings that vary, those that were not drawn at their fixed values: equal where trainings are equal."""

OnDuplicate: TypeAlias = Callable[[int, Mapping[str, Value], int], None]
"""Called with a duplicate: its number, its settings, and the number of the trial that had them first."""


class StudySettings(TypedDict):
    """What every sampler is made with, as `StudySampler` explains it."""

    journal: Path
    study_name: str
    seed: int
    first_trials: NotRequired[Sequence[Mapping[str, Value]]]
    trials: int
    steps: int
    fixed: NotRequired[Mapping[str, object]]
    sampler: NotRequired[SamplerConfig]
    known: NotRequired[Sequence[FrozenTrial]]


class StudySampler(Searcher, ABC):
    """Tune's searcher over an Optuna study; a subclass says what is maximised and how a trial is reported to Optuna.

    Where the journal holds the study already, it resumes: trials that have not ended are proposed first, under their
    numbers and with their settings, and only then new ones, so that there are `trials` in all and none twice.

    A configuration that was proposed before is not trained again, for the final does that with other seeds: what is
    reported of the first is reported of the duplicate, and Optuna is asked for another. A duplicate is not one of
    the trials; but as many duplicates as trials end the proposals, for then the space has little else to offer. Only a
    trial that has failed has no result to take over; its configuration may be tried once more.

    Args:
        space: What varies.
        metric: Name of the value in every result that Tune knows the search by.
        journal: File of the Optuna journal; appended and fsynced at every event.
        study_name: Name of the study within the journal.
        seed: Seed of the sampler.
        first_trials: Draws (`search.config.draws`) to propose before the sampler does; settings left out are drawn.
        trials: How many trials there are to be in all, without duplicates; also the most duplicates.
        steps: Optimizer steps of a trial whose configuration does not say.
        fixed: The training settings that hold where none is drawn.
        sampler: Which sampler proposes.
        known: Results of an earlier search that the sampler begins with; they are no trials of this one.
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
        fixed: Mapping[str, object] = MappingProxyType({}),
        sampler: SamplerConfig = SamplerConfig(),  # noqa: B008 - frozen
        known: Sequence[FrozenTrial] = (),
    ) -> None:
        super().__init__(metric=metric, mode="max")
        self._space = space
        self._order = order(space)
        self._fixed = fixed
        self._limit = trials
        self.on_duplicate: OnDuplicate | None = None
        """Is called with each duplicate."""
        self._first: dict[Configuration, int] = {}
        """Which trial had a configuration first, by its number."""
        self._duplicates: dict[int, list[optuna.Trial]] = {}
        """Of trials that have not ended, by their numbers."""
        self._default_steps = steps
        self._trials: dict[str, optuna.Trial] = {}
        self._checkpoints: dict[str, dict[int, Checkpoint]] = {}
        storage = JournalStorage(JournalFileBackend(str(journal)))
        names = optuna.study.get_all_study_names(storage)  # a run folder may have been renamed
        self.study = optuna.create_study(
            study_name=names[0] if names else study_name,
            directions=["maximize"] * self.objectives,
            pruner=optuna.pruners.NopPruner(),  # Tune's scheduler stops, not Optuna
            storage=storage,
            load_if_exists=True,
        )
        everything = self.study.trials
        own = [trial for trial in everything if FOREIGN not in trial.user_attrs]
        self.earlier = tuple(trial for trial in own if trial.state is not TrialState.WAITING)
        """What the journal held of this search's trials when it was opened."""
        self._unfinished: deque[FrozenTrial] = deque()
        self.begun = sum(SAME_AS not in trial.user_attrs for trial in self.earlier)
        """Trials that were proposed so far, without duplicates."""
        self._duplicate_count = len(self.earlier) - self.begun
        self.study.sampler = samplers.make(sampler, space, seed=_part_seed(seed, len(self.earlier)), steps=steps)
        for draw in first_trials[len(own) :]:
            self.study.enqueue_trial({parameter(name, space[name]): value for name, value in draw.items()})
        if not self.earlier:
            self.study.add_trials(known[len(everything) - len(own) :])
        self._recall()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the values that are read from every result."""
        return (self.metric,)

    @property
    def remaining(self) -> int:
        """Trials still to be proposed, those that have not ended among them."""
        return len(self._unfinished) + max(0, self._limit - self.begun)

    @property
    def notes(self) -> Mapping[str, Any]:
        """What was noted in the journal."""
        return dict(self.study.user_attrs)

    def note(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold in the journal; a later one takes its place."""
        self.study.set_user_attr(name, value)

    def settings(self, trial: FrozenTrial) -> dict[str, Value] | None:
        """The training settings of a trial in the journal; None if a kill has left some of them undrawn."""
        draw: dict[str, Value] = {}
        for name in self._order:
            if not holds(self._space, name, draw):
                continue
            asked = parameter(name, self._space[name])
            if asked not in trial.params:
                return None
            draw[name] = trial.params[asked]
        return settings_of(self._space, draw, self._fixed)

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

        With a trial that resumes comes `noted`, the last step of which the journal knows.
        """
        if self._unfinished:
            return self._resume(trial_id, self._unfinished.popleft())
        while self.begun < self._limit and self._duplicate_count < self._limit:
            trial = self.study.ask()
            params = self._drawn(trial)
            first = self._first.setdefault(self._configuration(params), trial.number)
            if first == trial.number:
                self.begun += 1
                self._trials[trial_id] = trial
                self._checkpoints[trial_id] = {}
                return {"number": trial.number, "params": params}
            self._note_duplicate(trial, params, first)
        return Searcher.FINISHED  # type: ignore[return-value] # Tune's own protocol: a word or a dict

    def _reopened(self, frozen: FrozenTrial) -> optuna.Trial:
        """An unfinished trial of the journal, to write to. Optuna has no public way from a number to such an object."""
        return optuna.Trial(self.study, frozen._trial_id)

    def _resume(self, trial_id: str, frozen: FrozenTrial) -> dict[str, Any]:
        trial = self._reopened(frozen)
        # Draws what the journal holds; a kill between two of its lines has left settings undrawn.
        params = self._drawn(trial)
        self._first.setdefault(self._configuration(params), trial.number)
        self._trials[trial_id] = trial
        self._checkpoints[trial_id] = self.noted(frozen)
        noted = max(self._checkpoints[trial_id], default=0)
        return {"number": trial.number, "params": params, "noted": noted}

    def _recall(self) -> None:
        """What the journal held: whose configuration came first, who resumes, and which duplicates are pending."""
        for trial in self.earlier:
            if SAME_AS in trial.user_attrs:
                if not trial.state.is_finished():
                    self._report_duplicate(self._reopened(trial), trial.user_attrs[SAME_AS])
                continue
            settings = self.settings(trial)
            if settings is not None and trial.state is not TrialState.FAIL:
                self._first.setdefault(self._configuration(settings), trial.number)
            if not trial.state.is_finished():
                self._unfinished.append(trial)

    def _configuration(self, params: Mapping[str, Value]) -> Configuration:
        return tuple((name, params.get(name, self._fixed.get(name))) for name in self._order)

    def _drawn(self, trial: optuna.Trial) -> dict[str, Value]:
        """The settings of a new trial, drawn one after the other, each that has a condition only where it holds."""
        draw: dict[str, Value] = {}
        for name in self._order:
            if holds(self._space, name, draw):
                draw[name] = suggest(trial, name, self._space[name])
        params = settings_of(self._space, draw, self._fixed)
        if params != trial.params:
            trial.set_user_attr(SETTINGS, params)
        return params

    def _note_duplicate(self, trial: optuna.Trial, params: Mapping[str, Value], first: int) -> None:
        self._duplicate_count += 1
        trial.set_user_attr(SAME_AS, first)
        if self.on_duplicate is not None:
            self.on_duplicate(trial.number, params, first)
        self._report_duplicate(trial, first)

    def _report_duplicate(self, duplicate: optuna.Trial, first: int) -> None:
        """Report of a duplicate what was reported of the first, now or when that has ended."""
        end = self.study.get_trials(deepcopy=False)[first]
        if not end.state.is_finished():
            self._duplicates.setdefault(first, []).append(duplicate)
            return
        checkpoints = {} if end.state is TrialState.FAIL else self.noted(end)
        for step, checkpoint in checkpoints.items():
            self._note(duplicate, step, checkpoint)
        self._end(duplicate, checkpoints, stopped=end.state is TrialState.PRUNED)

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
        planned = planned_steps(trial.params, self._default_steps)
        if error or not checkpoints:
            self._first = {params: number for params, number in self._first.items() if number != trial.number}
        self._end(trial, {} if error else checkpoints, stopped=max(checkpoints, default=0) < planned)
        for duplicate in self._duplicates.pop(trial.number, []):
            self._report_duplicate(duplicate, trial.number)

    def _end(self, trial: optuna.Trial, checkpoints: Mapping[int, Checkpoint], *, stopped: bool) -> None:
        if checkpoints:
            self._tell(trial, checkpoints, stopped=stopped)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

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
