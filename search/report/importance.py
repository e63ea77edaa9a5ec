"""Which settings mattered: Optuna's PED-ANOVA over a search's trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from evaluation.scores import OBJECTIVE
from search.config.space import Space
from search.study.samplers.distributions import distributions

FEWEST_TRIALS = 10
"""With fewer, the best tenth is not even one trial, and whatever it has would seem to matter."""


def importance(trials: Sequence[Mapping[str, Any]], space: Space) -> Mapping[str, float]:
    """How much each setting tells the best tenth of the trials from the others (Watanabe et al. 2023,
    arXiv:2304.10255); shares of 1, the greatest first.

    A trial counts with the objective of its best checkpoint, stopped or not: a setting with which trials are stopped
    matters. Ranks decide, so that the very low objective of a model without faces does not drown all else.

    Args:
        trials: As in the result; those without a score are left out.
        space: What varied.

    Returns:
        Nothing if there are too few trials, or if they do not differ.
    """
    ranges = distributions(space)
    scored = [
        optuna.trial.create_trial(
            params={name: trial["params"][name] for name in ranges if name in trial["params"]},
            distributions={name: ranges[name] for name in ranges if name in trial["params"]},
            value=trial["metrics"][OBJECTIVE],
        )
        for trial in trials
        if OBJECTIVE in trial["metrics"]
    ]
    if len(scored) < FEWEST_TRIALS or len({trial.value for trial in scored}) == 1:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(scored)
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
