"""The sampler of mode `pareto`: likeness and fidelity are maximised at once, faceless images are a constraint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Unpack

import optuna
from optuna.trial import FrozenTrial, TrialState

from evaluation.measures import EXCESS, FACELESS_RATE, FIDELITY, LIKENESS, OBJECTIVE, SEARCH_VALUE
from evaluation.pareto import Point, front
from search.config.sections import SamplerConfig
from search.config.space import Space
from search.study.samplers.study_sampler import Checkpoint, StudySampler, StudySettings

OBJECTIVES = (LIKENESS, FIDELITY)
"""What the study maximises, in this order; the study's user attribute `objectives` says so in the journal."""

REPORTED_STEP = "told_step"
"""User attribute of a trial: the step of the checkpoint that was reported for it. Journals of earlier versions hold it
under this name."""

STEP = "step-"
"""With a number, the user attribute of a trial that holds a checkpoint."""


class ParetoSampler(StudySampler):
    """Multi-objective TPE (Ozaki et al. 2022, doi:10.1613/jair.1.13188) under a constraint.

    TPE among Optuna's samplers of several objectives, because a search has 12 to 50 trials and stops most of them
    early. NSGA-II draws its first generation at random, and that would be most of the budget; it and the Gaussian
    process learn from complete trials only, while TPE takes stopped ones as places to keep away from.

    A trial is reported to Optuna by one of its checkpoints: of those that no other of its own dominates
    (`evaluation.pareto`), the one with the highest weighted objective, the earlier of equals. The rest is in the
    journal, too.

    Optuna takes no values by step for such a study, so each checkpoint is a user attribute `step-N`. For a stopped
    trial Optuna stores no values either, and TPE ranks it behind every complete trial that keeps the constraint; among
    themselves stopped ones stand in the order of their proposal. A trial that breaks the constraint, complete or
    stopped, ranks behind all that keep it, by how far it breaks it.

    Args:
        space: What varies.
        maximum_faceless_rate: Largest share of faceless images that keeps the constraint. The limits that make a
            candidate unfit (`evaluation.objective`) are another.
        **settings: As `StudySampler`.
    """

    objectives: ClassVar[int] = len(OBJECTIVES)

    def __init__(self, space: Space, *, maximum_faceless_rate: float, **settings: Unpack[StudySettings]) -> None:
        settings.setdefault("sampler", SamplerConfig(name="tpe"))
        assert settings["sampler"].name != "learning_curves", "it knows one objective; the configuration refuses it"
        super().__init__(space, metric=SEARCH_VALUE, **settings)
        self._maximum_faceless_rate = maximum_faceless_rate
        self.note("objectives", list(OBJECTIVES))

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*OBJECTIVES, FACELESS_RATE, OBJECTIVE, SEARCH_VALUE, EXCESS)

    def noted(self, trial: FrozenTrial) -> dict[int, Checkpoint]:
        steps = {name.removeprefix(STEP): value for name, value in trial.user_attrs.items() if name.startswith(STEP)}
        return {int(step): dict(checkpoint) for step, checkpoint in steps.items()}

    def _note(self, trial: optuna.Trial, step: int, checkpoint: Checkpoint) -> None:
        trial.set_user_attr(f"{STEP}{step}", dict(checkpoint))

    def _tell(self, trial: optuna.Trial, checkpoints: Mapping[int, Checkpoint], *, stopped: bool) -> None:
        step = reported_step(checkpoints, maximum_faceless_rate=self._maximum_faceless_rate)
        reported = checkpoints[step]
        trial.set_user_attr(REPORTED_STEP, step)
        trial.set_constraint(FACELESS_RATE, reported[FACELESS_RATE] - self._maximum_faceless_rate)
        trial.set_constraint("limits", reported[EXCESS])
        if stopped:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, [reported[name] for name in OBJECTIVES])


def reported_step(checkpoints: Mapping[int, Checkpoint], *, maximum_faceless_rate: float) -> int:
    """The step of the checkpoint that stands for a trial, as `ParetoSampler` says.

    Args:
        checkpoints: At least one, by step.
        maximum_faceless_rate: The constraint.
    """
    steps = sorted(checkpoints)
    points = [Point.of(checkpoints[step]) for step in steps]
    own_front = sorted(front(points, maximum_faceless_rate=maximum_faceless_rate))
    return max((steps[place] for place in own_front), key=lambda step: checkpoints[step][OBJECTIVE])
